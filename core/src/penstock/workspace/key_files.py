"""Key files: read, and written so that nobody else can read them."""

import os
import stat
from contextlib import suppress
from pathlib import Path

from penstock.api.errors import KeyMissing, KeyProblem, PenstockError, UsageError

__all__ = ["check_writable", "new_private_file", "read_key_file", "require_private"]

_LARGEST_KEY_FILE = 64 * 1024


def new_private_file(path: Path, data: bytes) -> None:
    """Write a new file that only this user can read, durably. Raises `UsageError` if the file exists."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise UsageError(f"{path} exists already", hint="Choose another file: keys are never overwritten.") from None
    except OSError as error:
        raise PenstockError(f"cannot write {path}: {error.strerror}") from error


def check_writable(path: Path) -> None:
    """Raise what `new_private_file` would raise, before the work that needs the file begins; leaves no file behind."""
    new_private_file(path, b"")
    with suppress(OSError):
        path.unlink()


def read_key_file(path: Path) -> bytes:
    """The content of a key file; raises `KeyMissing`."""
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST_KEY_FILE)
    except OSError as error:
        raise KeyMissing(
            f"cannot read the key file {path}: {error.strerror}",
            hint="Name a file that this user can read, or make a key with penstock key add and the owner's passphrase.",
        ) from error


def require_private(path: Path) -> None:
    """Raise `KeyProblem` if everybody on the host can read or write a file that holds a key or a passphrase."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # whoever reads it will say so
    if stat.S_ISREG(mode) and mode & (stat.S_IROTH | stat.S_IWOTH):
        raise KeyProblem(
            f"everybody on this host can read {path}", hint=f"Run chmod o= {path}, and think of a new one."
        )
