"""With what a repository is opened: a key file, or the owner's passphrase.

A key file comes from --key (or PENSTOCK_KEY_FILE), the settings, or the default place by the repository's id; else it
is a passphrase, from --passphrase-file, PENSTOCK_PASSPHRASE, the settings, or a prompt. What needs the owner takes a
passphrase when the key that was found is another role's; a key that was named with --key is the only one tried.
"""

import getpass
import os
import sys
from enum import Enum
from pathlib import Path

from penstock.api.errors import KeyMissing, RoleForbids, UsageError
from penstock.api.secrets import Secret, SecretEnv, SecretFile
from penstock.cli import files
from penstock.cli.options import Options
from penstock.cli.output.console import Output
from penstock.cli.run import Place
from penstock.format.trust import Role
from penstock.repository import Access, Repository
from penstock.repository.repository import repository_id
from penstock.settings import RepositorySettings

__all__ = ["PASSPHRASE_VARIABLE", "Need", "given_passphrase", "new_passphrase", "unlock"]

PASSPHRASE_VARIABLE = "PENSTOCK_PASSPHRASE"  # noqa: S105 - its name
_WAYS = f"Give --key FILE or --passphrase-file FILE, set {PASSPHRASE_VARIABLE}, or run it in a terminal."


class Need(Enum):
    """What a command needs of the one who opens a repository."""

    ANY = "any role"
    OWNER = "the owner"
    #: The owner if that is to be had, else whoever there is.
    OWNER_OR_ANY = "preferably the owner"


def unlock(place: Place, options: Options, output: Output, need: Need) -> Repository:
    """Open the repository. Raises `KeyMissing`, `RoleForbids` and what `Repository.open` does."""
    if options.key is not None:
        access = _access(options.key, output)
        if need is Need.OWNER and access.role is not Role.OWNER:
            raise RoleForbids(
                f"this needs the owner, and {options.key} is a {access.role} key",
                hint="Leave --key out to use the passphrase.",
            )
        return Repository.open(place.sink, access)
    found, missing = _found_key(place, output)
    if found is not None and (need is Need.ANY or found.role is Role.OWNER):
        return Repository.open(place.sink, found)
    passphrase = given_passphrase(options, place.settings)
    if passphrase is None and _can_ask(output):
        optional = found is not None and need is Need.OWNER_OR_ANY
        passphrase = _ask(f"Passphrase of {place.shown}{' (empty: do without)' if optional else ''}: ")
        if passphrase is None and not optional:
            raise KeyMissing("no passphrase was given", hint=_WAYS)
    if passphrase is not None:
        return Repository.open(place.sink, passphrase)
    if found is None:
        if missing is not None:
            raise missing
        raise KeyMissing(f"there is neither a key nor a passphrase for {place.shown}", hint=_WAYS)
    if need is Need.OWNER:
        raise RoleForbids(f"this needs the owner, and the key at hand is a {found.role} key", hint=_WAYS)
    return Repository.open(place.sink, found)


def given_passphrase(options: Options, settings: RepositorySettings | None) -> Secret | None:
    """The passphrase that somebody left somewhere, or None. Raises `SecretUnavailable` when it is not there."""
    if options.passphrase_file is not None:
        return SecretFile(file=options.passphrase_file).resolve()
    if os.environ.get(PASSPHRASE_VARIABLE):
        return SecretEnv(env=PASSPHRASE_VARIABLE).resolve()
    if settings is not None and settings.passphrase is not None:
        return settings.passphrase.resolve()
    return None


def new_passphrase(output: Output, what: str) -> Secret | None:
    """A new passphrase, asked for twice; None where there is no terminal to ask at."""
    if not _can_ask(output):
        return None
    first = _ask(f"New passphrase {what}: ")
    if first is None:
        raise UsageError("a passphrase is not empty")
    again = _ask("The same again: ")
    if again is None or first.reveal() != again.reveal():
        raise UsageError("the two passphrases differ", hint="Nothing was changed: try again.")
    return first


def _found_key(place: Place, output: Output) -> tuple[Access | None, KeyMissing | None]:
    """The key of the settings or of the default place; and what to say should a configured one be all there is."""
    if place.settings is not None and place.settings.key is not None:
        try:
            return _access(place.settings.key, output), None
        except KeyMissing as missing:
            return None, missing
    default = files.default_key(repository_id(place.sink))
    return (_access(default, output), None) if default.exists() else (None, None)


def _access(path: Path, output: Output) -> Access:
    access = Access.from_key_file(files.read_key_file(path), str(path))
    if not files.is_private(path):
        output.warning(f"others can read the key file {path}; chmod 600 it")
    return access


def _can_ask(output: Output) -> bool:
    return not output.json and sys.stdin.isatty() and sys.stderr.isatty()


def _ask(prompt: str) -> Secret | None:
    try:
        answer = getpass.getpass(prompt, stream=sys.stderr)
    except EOFError:
        return None
    return Secret(answer) if answer else None
