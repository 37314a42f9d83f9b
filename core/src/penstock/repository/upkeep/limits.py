"""When a run ends before its work does, and whom it tells how far it is."""

import time
from collections.abc import Callable

__all__ = ["Limits", "OnPhase", "OnProgress"]

#: Told of a phase, with the bytes that it is about, and of objects and bytes done in it.
OnPhase = Callable[[str, int | None], None]
OnProgress = Callable[[str, int], None]


class Limits:
    """When a run ends although there is more to delete: after so many seconds from now, or so many bytes."""

    def __init__(self, *, seconds: float | None = None, size: int | None = None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds
        self._left = size

    def spend(self, size: int) -> None:
        """So many bytes were deleted."""
        if self._left is not None:
            self._left -= size

    @property
    def reached(self) -> bool:
        """Whether the run ends."""
        return (self._end is not None and time.monotonic() >= self._end) or (self._left is not None and self._left <= 0)
