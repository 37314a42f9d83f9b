"""A store with a clock that stands still until a test turns it."""

from datetime import UTC, datetime, timedelta

from penstock.testing import MemorySink

__all__ = ["BEGINNING", "VirtualStore"]

#: Later than any host's clock: what claims to be younger than the store says is of the future.
BEGINNING = datetime(2100, 3, 1, 2, 0, tzinfo=UTC)


class VirtualStore(MemorySink):
    """A `MemorySink` whose objects are of the time that `now` says."""

    def __init__(self) -> None:
        super().__init__()
        self.now = BEGINNING

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
        super().put(key, data, if_absent=if_absent)
        with self._lock:
            self._objects[key] = (self._objects[key][0], self.now)

    def passes(self, **time: float) -> None:
        """Let so much time pass: `hours=2`."""
        self.now += timedelta(**time)
