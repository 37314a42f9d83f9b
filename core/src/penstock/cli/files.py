"""Penstock's own files on this host: key files, the cache, and what may be written where."""

import os
import stat
from contextlib import suppress
from pathlib import Path

from penstock.api.errors import KeyMissing, PenstockError, UsageError

__all__ = ["cache_folder", "default_key", "is_private", "new_private_file", "read_key_file", "writable_place"]

_LARGEST_KEY_FILE = 64 * 1024


def cache_folder() -> Path:
    """The folder of the cache when nobody names one: `$XDG_CACHE_HOME/penstock`."""
    return _base("XDG_CACHE_HOME", "~/.cache") / "penstock"


def default_key(repository: bytes) -> Path:
    """Where this host's key of a repository is looked for: `$XDG_CONFIG_HOME/penstock/keys/<repository-id>.key`."""
    return _base("XDG_CONFIG_HOME", "~/.config") / "penstock" / "keys" / f"{repository.hex()}.key"


def new_private_file(path: Path, data: bytes) -> None:
    """Make a file that only this user can read, durably; raises `UsageError` rather than replace one."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise UsageError(f"{path} exists already", hint="Keys are never overwritten: choose another file.") from None
    except OSError as error:
        raise PenstockError(f"cannot write {path}: {error.strerror}") from error


def writable_place(path: Path) -> None:
    """Raise what `new_private_file` would, before anything is done that needs the file; leaves nothing behind."""
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
            hint="name one that this user can read; penstock key add makes another, with the owner's passphrase",
        ) from error


def is_private(path: Path) -> bool:
    """Whether nobody but its owner can read the file."""
    try:
        return not path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH)
    except OSError:
        return True


def _base(variable: str, otherwise: str) -> Path:
    # XDG Base Directory Specification 0.8: relative paths are to be ignored.
    named = os.environ.get(variable, "")
    if named.startswith("/"):
        return Path(named)
    try:
        return Path(otherwise).expanduser()
    except RuntimeError:
        raise UsageError(f"this user has no home folder, and {variable} is not set") from None
