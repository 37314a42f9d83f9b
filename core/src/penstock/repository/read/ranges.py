"""Ranges of objects, read once for all who want a part of them: few requests, whatever an answer's latency."""

from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Lock

from penstock.api.sink import Sink

__all__ = ["Ranges"]


@dataclass(slots=True, eq=False)
class _Range:
    key: str
    start: int
    end: int
    #: Bytes that nobody has asked for yet.
    left: int
    data: "Future[bytes]" = field(default_factory=Future)

    def holds(self, key: str, start: int, end: int) -> bool:
        return self.key == key and self.start <= start <= end <= self.end


class Ranges:
    """Reads parts of objects, and keeps what it read ahead. Safe to use from several threads.

    At most `kept` ranges are kept; a stream that is read from end to end takes two or three of them, because a range is
    let go when all of it was asked for, in whatever order its readers come. No lock is held while anything is fetched.
    """

    def __init__(self, sink: Sink, kept: int) -> None:
        self._sink = sink
        self._limit = kept
        #: The latest to be used last.
        self._kept: list[_Range] = []
        self._lock = Lock()

    def read(self, key: str, start: int, end: int, stop: int) -> memoryview:
        """The bytes from `start` to `end`, or to the object's end; raises what the sink raises.

        Where they have to be fetched, it is worthwhile to read up to `stop` at once. Who wants a part of what another
        thread is fetching waits for it.
        """
        with self._lock:
            found = self._take(key, start, end)
            new = found is None
            if found is None:
                # What another range holds is not read twice.
                begins = (one.start for one in self._kept if one.key == key and end <= one.start)
                stop = max(end, min([stop, *begins]))
                found = _Range(key, start, stop, stop - end)
                self._keep(found)
        if new:
            self._fetch(found)
        return memoryview(found.data.result())[start - found.start : end - found.start]

    def _take(self, key: str, start: int, end: int) -> _Range | None:
        """The range that holds these bytes, which count as asked for from now on; under the lock."""
        found = next((kept for kept in reversed(self._kept) if kept.holds(key, start, end)), None)
        if found is not None:
            self._kept.remove(found)
            found.left -= end - start
            self._keep(found)
        return found

    def _keep(self, one: _Range) -> None:
        if one.left > 0:
            self._kept.append(one)
            del self._kept[: -self._limit]

    def _fetch(self, wanted: _Range) -> None:
        try:
            data = self._sink.get(wanted.key, start=wanted.start, length=wanted.end - wanted.start)
        except BaseException as error:  # noqa: BLE001 - raised again by `result`, also to those who wait
            with self._lock:
                self._kept = [kept for kept in self._kept if kept is not wanted]
            wanted.data.set_exception(error)
        else:
            wanted.data.set_result(data)
