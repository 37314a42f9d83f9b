"""Attributes of files that keep even their owner from deleting them (chattr(1), ioctl_iflags(2); Linux alone)."""

import fcntl
import os
import struct
import sys
from pathlib import Path

__all__ = ["keeps"]

#: FS_IOC_GETFLAGS where a long has 8 bytes; the kernel writes an int.
_GET_FLAGS = 0x80086601
_IMMUTABLE, _APPEND_ONLY = 0x10, 0x20


def keeps(place: Path) -> bool:
    """Whether an attribute of the file, or of its folder, keeps it from being deleted. False where nobody can tell."""
    return any(_flags(one) & (_IMMUTABLE | _APPEND_ONLY) for one in (place, place.parent))


def _flags(place: Path) -> int:
    if sys.platform != "linux":
        return 0
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return 0
    try:
        found: int = struct.unpack_from("i", fcntl.ioctl(descriptor, _GET_FLAGS, bytes(8)))[0]
    except OSError:  # a file system without attributes
        return 0
    finally:
        os.close(descriptor)
    return found
