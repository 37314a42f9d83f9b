"""What the operating system refuses, in the words of the sink's contract."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from penstock.api import SinkDenied, SinkError, SinkFull
from penstock_filesystem.placing import Unplaceable

__all__ = ["translated"]

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR}


@contextmanager
def translated(key: str, *, absent: Callable[[str], SinkError] | None = None) -> Iterator[None]:
    """Turn each `OSError` of the block into the `SinkError` that carries `key`, with the `OSError` as its cause.

    Where `absent` is given, a missing file is what it makes of the key.
    """
    try:
        yield
    except OSError as error:
        if absent is not None and error.errno in _ABSENT:
            raise absent(key) from error
        raise _refusal(key, error) from error


def _refusal(key: str, error: OSError) -> SinkError:
    reason = error.strerror or str(error)
    if isinstance(error, Unplaceable):
        hint = "Use a folder in another file system, such as a disk of this host, or another sink: nothing was stored."
        return SinkError(key, reason, hint=hint)
    if error.errno in _FULL:
        return SinkFull(key, reason, hint="Free some space or raise the quota, then run again.")
    if error.errno in _DENIED:
        return SinkDenied(key, reason, hint="Check that the user that runs Penstock may read and write in the folder.")
    if error.errno in (errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV):
        return SinkError(key, reason, hint="Use a folder in a single file system, one that has hard links.")
    return SinkError(key, reason)
