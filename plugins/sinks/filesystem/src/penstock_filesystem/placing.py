"""A finished file into a place that nothing may have taken: by a hard link, or by a rename that replaces nothing."""

import errno
import os
from pathlib import Path

__all__ = ["Unplaceable", "place_new"]

#: What file systems without hard links say (FAT: EPERM; FUSE: ENOSYS or what its program says; others: EOPNOTSUPP).
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP}
#: What systems and file systems say that do not know the flag.
_NO_FLAG = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1


class Unplaceable(OSError):
    """The file system has no way to put a file in a place that nothing may have taken."""


def place_new(written: Path, place: Path) -> None:
    """Give the file `written` the name `place`, at once and whole. Raises `FileExistsError` if that is taken.

    `written` may keep its name. Between hosts the file server decides. Raises `Unplaceable`, and `OSError` for
    whatever else the system refuses.
    """
    try:
        place.hardlink_to(written)
    except FileExistsError:
        # The answer of a network file system can get lost and its repetition fail: then the object is ours (open(2)).
        if written.stat().st_nlink != 2:
            raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename(written, place)


def _rename(written: Path, place: Path) -> None:
    try:
        rename_new(written, place)
    except FileExistsError:
        if written.exists():
            raise  # else the answer got lost, and the object is ours
    except OSError as error:
        if error.errno not in _NO_FLAG:
            raise
        reason = "the file system has neither hard links nor a rename that replaces nothing"
        raise Unplaceable(errno.EOPNOTSUPP, reason) from error


def rename_new(source: Path, target: Path) -> None:
    """Linux's renameat2(2) with RENAME_NOREPLACE; raises `OSError`, ENOSYS where the system has no such call."""
    import ctypes  # a rare need

    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if libc.renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(source), None, str(target))
