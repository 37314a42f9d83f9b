"""A store with a clock that stands still until a test turns it."""

from datetime import UTC, datetime, timedelta

from penstock.testing import MemorySink
from penstock.testing.memory import MemorySettings

__all__ = ["BEGINNING", "VirtualStore"]

#: Later than any host's clock: what claims to be younger than the store says is of the future.
BEGINNING = datetime(2100, 3, 1, 2, 0, tzinfo=UTC)


class VirtualStore(MemorySink):
    """A `MemorySink` whose time is what `now` says."""

    def __init__(self, settings: MemorySettings | None = None) -> None:
        super().__init__(settings, clock=lambda: self.now)
        self.now = BEGINNING

    def passes(self, **time: float) -> None:
        """Let so much time pass: `hours=2`."""
        self.now += timedelta(**time)
