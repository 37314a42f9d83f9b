"""Secrets: values that are never displayed, and the references that settings hold in their place."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from penstock.api.errors import SecretUnavailable

__all__ = ["Secret", "SecretCommand", "SecretEnv", "SecretFile", "SecretRef"]

_COMMAND_TIMEOUT_SECONDS = 60.0
_LONGEST_SECRET_BYTES = 64 * 1024
_MARK = "\ufeff"
#: The variable with the owner's passphrase. It opens every backup, so no child process gets it.
_OWNERS = "PENSTOCK_PASSPHRASE"


class Secret:
    """A secret string. `str()`, `repr()`, formatting, pickling and comparing never reveal it; only `reveal()` does."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The string itself: pass it directly to where it is needed, and keep no copy."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Secret is not pickled: pass the reference on and resolve it at the other end")


class _Ref(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class SecretEnv(_Ref):
    """The value of an environment variable: `{ env = "NAME" }`."""

    env: str = Field(min_length=1)

    def resolve(self, environ: Mapping[str, str] | None = None) -> Secret:
        """Look up the variable; raises `SecretUnavailable` if it is unset, empty or begins with a byte order mark."""
        value = (os.environ if environ is None else environ).get(self.env, "")
        if not value:
            raise SecretUnavailable(
                f"the environment variable {self.env} is not set",
                hint="Set it in the environment of penstock.",
            )
        return _without_mark(value, f"the environment variable {self.env}")


class SecretFile(_Ref):
    """The first line of a file: `{ file = "/run/secrets/name" }`."""

    file: Path

    def resolve(self, environ: Mapping[str, str] | None = None) -> Secret:
        """Read the file; raises `SecretUnavailable` if it cannot be read or is empty."""
        del environ
        try:
            with self.file.open("rb") as stream:
                data = stream.read(_LONGEST_SECRET_BYTES + 1)
        except OSError as error:
            raise SecretUnavailable(
                f"cannot read the secret in {self.file}: {error.strerror}",
                hint="Name a file that the user running penstock can read.",
            ) from error
        return _first_line(data, f"the file {self.file}")


class SecretCommand(_Ref):
    """The first line of a command's output: `{ command = ["pass", "show", "name"] }`; no shell is involved.

    The command gets this process's environment without the owner's passphrase.
    """

    command: tuple[str, ...] = Field(min_length=1)

    def resolve(self, environ: Mapping[str, str] | None = None) -> Secret:
        """Run the command; raises `SecretUnavailable` if it fails, prints nothing or takes over a minute."""
        program = self.command[0]
        all_of_it = os.environ if environ is None else environ
        try:
            done = subprocess.run(  # the operator's own command, without a shell
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # it may quote the secret
                timeout=_COMMAND_TIMEOUT_SECONDS,
                env={name: value for name, value in all_of_it.items() if name != _OWNERS},
                check=False,
            )
        except OSError as error:
            raise SecretUnavailable(f"cannot run the secret command {program}: {error.strerror}") from error
        except subprocess.TimeoutExpired:
            # Not chained: the cause holds the command's output.
            raise SecretUnavailable(f"the secret command {program} took over a minute") from None
        if done.returncode != 0:
            raise SecretUnavailable(f"the secret command {program} exited with {done.returncode}")
        return _first_line(done.stdout, f"the command {program}")


def _hide_what_is_no_reference(value: object) -> object:
    # Validation errors quote their input, and anything else here is most likely the secret itself.
    return Secret("") if _kind(value) is None else value


def _kind(value: object) -> str | None:
    match value:
        case SecretEnv() | SecretFile() | SecretCommand():
            return next(iter(type(value).model_fields))
        case {**entries} if len(entries) == 1 and (kind := next(iter(entries))) in ("env", "file", "command"):
            return str(kind)
        case _:
            return None


SecretRef = Annotated[
    Annotated[SecretEnv, Tag("env")] | Annotated[SecretFile, Tag("file")] | Annotated[SecretCommand, Tag("command")],
    Discriminator(
        _kind,
        custom_error_type="secret_reference",
        custom_error_message="name where the secret is found, not the secret: "
        "{ env = … }, { file = … } or { command = […] }",
    ),
    BeforeValidator(_hide_what_is_no_reference),
    Field(description="where a secret is found: { env = … }, { file = … } or { command = […] }"),
]
"""What settings hold in place of a secret. By design, no form holds the secret itself."""


def _first_line(data: bytes, origin: str) -> Secret:
    line = data.split(b"\n", 1)[0].rstrip(b"\r")
    if not line:
        raise SecretUnavailable(f"{origin} gave an empty secret")
    if len(line) > _LONGEST_SECRET_BYTES:
        raise SecretUnavailable(f"{origin} gave a secret of more than {_LONGEST_SECRET_BYTES} bytes")
    try:
        return _without_mark(line.decode(), origin)
    except UnicodeDecodeError:
        raise SecretUnavailable(f"{origin} gave a secret that is not UTF-8") from None


def _without_mark(text: str, origin: str) -> Secret:
    if text.startswith(_MARK):
        # Editors put it there unseen: taken as a part of the secret, it would be one that nobody could ever type.
        raise SecretUnavailable(
            f"{origin} gave a secret that begins with a byte order mark, which cannot be typed",
            hint="Save the file that it comes from as UTF-8 without one (without a BOM).",
        )
    return Secret(text)
