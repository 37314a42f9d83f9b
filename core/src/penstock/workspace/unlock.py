"""Which key or passphrase opens a repository.

A key file is named by the caller, by the settings, or found in the default place by the repository's id; a passphrase
is handed in, or comes from a file that the caller names, from PENSTOCK_PASSPHRASE, from the settings, or from a prompt.
What needs the owner takes the passphrase when the key that was found has another role, and so does everything when the
repository refuses that key, as after its revocation; a key that the caller names is the only one tried.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

from penstock.api.errors import KeyMissing, KeyProblem, RoleForbids, WrongKey, say_more
from penstock.api.secrets import Secret, SecretCommand, SecretEnv, SecretFile
from penstock.api.sink import Sink
from penstock.format.trust import Role
from penstock.repository import Access, Repository
from penstock.repository.repository import repository_id
from penstock.settings import RepositorySettings
from penstock.workspace import key_files
from penstock.workspace.folders import Folders

__all__ = ["OTHER", "PASSPHRASE_VARIABLE", "Credentials", "Need", "Prompts", "Unlocker", "Ways"]

PASSPHRASE_VARIABLE = "PENSTOCK_PASSPHRASE"  # noqa: S105 - its name


@dataclass(frozen=True, slots=True)
class Ways:
    """How a caller hands in what opens a repository: the option for a key, that for a passphrase, and a variable."""

    key: str = "--key"
    passphrase_file: str = "--passphrase-file"  # noqa: S105 - the option's name
    variable: str = PASSPHRASE_VARIABLE

    @property
    def hint(self) -> str:
        """All of them, for whoever gave nothing that opens it."""
        return f"Give {self.key} FILE or {self.passphrase_file} FILE, set {self.variable}, or run it in a terminal."


#: Those for the second repository of an operation, whose owner is another one.
OTHER = Ways("--to-key", "--to-passphrase-file", "PENSTOCK_TO_PASSPHRASE")


class Need(Enum):
    """What an operation needs of the role that opens a repository."""

    ANY = "any role"
    OWNER = "the owner"
    KEEPER = "the owner or a maintainer"
    #: The owner if possible, otherwise whichever role there is.
    OWNER_OR_ANY = "preferably the owner"

    def met_by(self, role: Role) -> bool:
        """Whether nobody needs to be asked for more than a key of this role."""
        if self is Need.KEEPER:
            return role is not Role.WRITER
        return self is Need.ANY or role is Role.OWNER

    @property
    def strict(self) -> bool:
        """Whether no other key will do."""
        return self in (Need.OWNER, Need.KEEPER)


class Prompts(Protocol):
    """Somebody who can be asked for a passphrase."""

    def passphrase(self, repository: str, *, optional: bool) -> Secret | None:
        """The passphrase of a repository; None if none was given, which `optional` allows."""

    def new_passphrase(self, purpose: str) -> Secret:
        """A new passphrase, entered twice. Raises `UsageError` if the two differ."""

    def tried(self, repository: str, works: Callable[[Secret], bool]) -> bool:
        """Whether somebody typed a passphrase that `works`."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the caller hands in: a key file or a passphrase, or a file whose first line is one."""

    key_file: Path | None = None
    passphrase_file: Path | None = None
    passphrase: Secret | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Unlocker:
    """Opens repositories with the credentials at hand. `warn` takes one sentence; without `prompts` nobody is asked."""

    credentials: Credentials
    environ: Mapping[str, str] = field(repr=False)
    folders: Folders
    prompts: Prompts | None
    warn: Callable[[str], object]
    ways: Ways = Ways()

    def unlock(self, sink: Sink, shown: str, settings: RepositorySettings | None, need: Need) -> Repository:
        """Open the repository in `sink`, which is called `shown`.

        Raises `KeyMissing`, `RoleForbids`, `SecretUnavailable`, and what `Repository.open` raises.
        """
        if self.credentials.key_file is not None:
            access = self._access(self.credentials.key_file)
            if need.strict and not need.met_by(access.role):
                raise RoleForbids(
                    f"this needs {need.value}, and {self.credentials.key_file} is a {access.role} key",
                    hint=f"Leave {self.ways.key} out to use the passphrase.",
                )
            return Repository.open(sink, access)
        found, missing = self._found_key(sink, settings)
        refused: WrongKey | None = None
        if found is not None and need.met_by(found.role):
            try:
                return Repository.open(sink, found)
            except WrongKey as error:
                refused = error
        optional = refused is not None or (found is not None and need is Need.OWNER_OR_ANY)
        passphrase = self._passphrase(shown, settings, optional=optional)
        if passphrase is not None:
            return self._open(sink, passphrase, refused)
        if refused is not None:
            raise refused
        if found is None:
            raise missing or KeyMissing(f"no key and no passphrase for {shown}", hint=self.ways.hint)
        if need.strict:
            raise RoleForbids(
                f"this needs {need.value}, and the key at hand is a {found.role} key", hint=self.ways.hint
            )
        return Repository.open(sink, found)

    def _passphrase(self, shown: str, settings: RepositorySettings | None, *, optional: bool) -> Secret | None:
        """The one that is known without asking, or that somebody who is asked gives; None only if it is `optional`."""
        passphrase = self.given_passphrase(settings)
        if passphrase is None and self.prompts is not None:
            passphrase = self.prompts.passphrase(shown, optional=optional)
            if passphrase is None and not optional:
                raise KeyMissing("no passphrase was given", hint=self.ways.hint)
        return passphrase

    def _open(self, sink: Sink, passphrase: Secret, refused: WrongKey | None) -> Repository:
        """Open it in the place of a key that was refused, if there is one: nobody is left to wonder why."""
        try:
            repository = Repository.open(sink, passphrase)
        except KeyProblem as error:
            if refused is not None:
                say_more(error, f"the key of this host does not open it either: {refused}")
            raise
        if refused is not None:
            self.warn(f"{refused}: opened with the passphrase instead")
        return repository

    def given_passphrase(self, settings: RepositorySettings | None) -> Secret | None:
        """The passphrase that is known without asking, or None. Raises `SecretUnavailable`."""
        if self.credentials.passphrase is not None:
            return self.credentials.passphrase
        if self.credentials.passphrase_file is not None:
            return self._resolved(SecretFile(file=self.credentials.passphrase_file))
        if self.environ.get(self.ways.variable):
            return SecretEnv(env=self.ways.variable).resolve(self.environ)
        if settings is not None and settings.passphrase is not None:
            return self._resolved(settings.passphrase)
        return None

    def _resolved(self, reference: SecretEnv | SecretFile | SecretCommand) -> Secret:
        if isinstance(reference, SecretFile):
            key_files.require_private(reference.file)
        return reference.resolve(self.environ)

    def _found_key(self, sink: Sink, settings: RepositorySettings | None) -> tuple[Access | None, KeyMissing | None]:
        """The key of the settings or of the default place; and the error for a configured one that is missing."""
        if settings is not None and settings.key is not None:
            try:
                return self._access(settings.key), None
            except KeyMissing as missing:
                return None, missing
        default = self.folders.default_key(repository_id(sink))
        return (self._access(default), None) if default is not None and default.exists() else (None, None)

    def _access(self, path: Path) -> Access:
        key_files.require_private(path)
        return Access.from_key_file(key_files.read_key_file(path), str(path))
