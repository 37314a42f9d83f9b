"""What the system has too little of, told from a mistake of ours."""

import errno

from penstock.api.errors import PenstockError

__all__ = ["shortage"]

_NO_THREAD = "can't start new thread"


def shortage(error: Exception) -> PenstockError | None:
    """The error in our words if the system refused memory or a thread, which needs some; None for any other."""
    refused = isinstance(error, OSError) and error.errno == errno.ENOMEM
    if isinstance(error, MemoryError) or refused or (isinstance(error, RuntimeError) and _NO_THREAD in str(error)):
        return PenstockError(
            "not enough memory: the system refused to give more",
            hint="Raise the limit of this process (ulimit -v, or the container's), or give a smaller --memory: "
            "64MiB is the least.",
        )
    return None
