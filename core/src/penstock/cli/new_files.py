"""Files that a command is asked for: whole or not there."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from penstock.api import PenstockError, UsageError

__all__ = ["require_place", "write_whole"]


def require_place(path: Path) -> None:
    """Before the work that the file is to show: raise `UsageError` if it cannot be there at all."""
    if path.is_dir() or not path.parent.is_dir():
        why = "it is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise UsageError(f"cannot write {path}: {why}", hint="Name a file in a folder that is there.")


def write_whole(path: Path, data: bytes) -> None:
    """Write a file, or replace one, at once: nobody finds a half of it. Its mode is that of any new file.

    Raises `PenstockError`; then what was there is as it was.
    """
    # Not by `tempfile`, whose files are private.
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with beside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise PenstockError(
            f"cannot write {path}: {error.strerror}", hint="Name a file in a folder that takes it."
        ) from error
