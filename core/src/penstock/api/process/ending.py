"""What a child that takes a stream is told to have done wrong, in the same sentences wherever it is fed."""

from collections.abc import Iterator
from contextlib import contextmanager

from penstock.api.process.child import Child
from penstock.api.process.trouble import LEFT_BEHIND, STALL_HINT, LeftBehind, Stalled, Trouble

__all__ = ["STOPPED", "judge", "troubles_told"]

STOPPED = "was stopped before its end"


@contextmanager
def troubles_told(child: Child, *, stalled: str) -> Iterator[None]:
    """Turns what befalls a wait within the block into what `child` fails with; it is dead and reaped then.

    `stalled` is what it did not do for too long.
    """
    try:
        yield
    except Stalled:
        raise child.killed(stalled, STALL_HINT) from None
    except LeftBehind:
        raise child.killed(child.outcome() or LEFT_BEHIND) from None
    except Trouble:
        raise child.killed(STOPPED) from None


def judge(child: Child, stall_timeout: float | None, *, after: str = "") -> None:
    """Wait for the exit of `child`, which has seen the end of its input, and raise what it fails with unless it is 0.

    `after` is what it did before, as a part of the sentence about one that does not exit in time. Raises `Trouble`.
    """
    if not child.wait_for_end(stall_timeout):
        raise child.killed(f"{after}did not exit within {stall_timeout or 0:g} seconds", STALL_HINT)
    child.end()
    if outcome := child.outcome():
        raise child.failure(outcome)
