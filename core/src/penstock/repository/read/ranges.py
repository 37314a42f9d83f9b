"""Ranges of objects, read once for all who want a part of them: few requests, whatever an answer's latency."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Lock

from penstock.api.sink import Sink

__all__ = ["RANGE", "Ranges"]

#: What one request reads at most when it reads ahead, in bytes.
RANGE = 2 * 1024 * 1024
#: The latest ranges are kept, so many of them.
_KEPT = 8


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

    At most `_KEPT` ranges are kept, so it takes 16 MiB at most; a stream that is read from end to end takes two or
    three of them, because a range is let go when all of it was asked for, in whatever order its readers come.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        #: The latest to be used last.
        self._kept: list[_Range] = []
        self._lock = Lock()

    def read(self, key: str, start: int, end: int, further: Callable[[], int]) -> memoryview:
        """The bytes from `start` to `end`, or to the object's end; raises what the sink raises.

        Where they have to be fetched, `further` says up to where it is worth while to read at once. Who wants a part
        of what another thread is fetching waits for it.
        """
        with self._lock:
            found = next((kept for kept in reversed(self._kept) if kept.holds(key, start, end)), None)
            fetch = found is None
            if found is None:
                stop = max(end, further())
                found = _Range(key, start, stop, stop - start)
            else:
                self._kept.remove(found)
            found.left -= end - start
            if found.left > 0:
                self._kept.append(found)
                del self._kept[:-_KEPT]
        if fetch:
            self._fetch(found)
        return memoryview(found.data.result())[start - found.start : end - found.start]

    def _fetch(self, wanted: _Range) -> None:
        try:
            data = self._sink.get(wanted.key, start=wanted.start, length=wanted.end - wanted.start)
        except BaseException as error:  # noqa: BLE001 - raised again by `result`, also to those who wait
            with self._lock:
                self._kept = [kept for kept in self._kept if kept is not wanted]
            wanted.data.set_exception(error)
        else:
            wanted.data.set_result(data)
