"""The file that `penstock restore --rejects` writes: the statements of what was left out."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from penstock.api.errors import UsageError
from penstock.api.models import LeftOut

__all__ = ["Rejects", "open_rejects"]


class Rejects:
    """Takes objects that a restore leaves out, and writes them one by one; without a file it forgets them."""

    def __init__(self, file: BinaryIO | None, comment: str) -> None:
        self._file = file
        self._comment = comment
        #: How many objects are in the file.
        self.count = 0

    def add(self, one: LeftOut) -> None:
        """Write what it is and why as a comment, then its statement."""
        if self._file is None:
            return
        lines = [f"{self._comment} {' '.join(str(one).split())}"]
        if one.statement:
            lines.append(one.statement)
        self._file.write(("\n".join(lines) + "\n\n").encode(errors="surrogateescape"))
        self._file.flush()
        self.count += 1


@contextmanager
def open_rejects(path: Path | None, comment: str) -> Iterator[Rejects]:
    """The file for the length of the block: a new one that only this user can read, since statements hold passwords.

    It is removed again if nothing was written into it. Raises `UsageError` if it exists or cannot be made: before the
    restore, not after it.
    """
    if path is None:
        yield Rejects(None, comment)
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise UsageError(
            f"cannot make the file {path} for what is left out: {error.strerror}",
            hint="Give --rejects a file that does not exist yet, in a folder that you may write to.",
        ) from error
    with os.fdopen(descriptor, "wb") as file:
        rejects = Rejects(file, comment)
        try:
            yield rejects
        finally:
            if not rejects.count:
                with suppress(OSError):
                    path.unlink()
