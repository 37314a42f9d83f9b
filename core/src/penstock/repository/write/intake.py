"""Read-ahead for a stream: one thread fills batches while another cuts and looks up the previous one."""

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap

from penstock.api.errors import Interrupted
from penstock.api.source import DumpStream
from penstock.api.stopping import StopToken
from penstock.format.ids import StreamDigest
from penstock.repository.budget import BATCH, new_buffer

__all__ = ["SPARE", "Batch", "Intake"]

#: Whoever looks at blocks of so many bytes looks beyond the last byte.
SPARE = 128

#: How long an aborted stream may take to release its reader.
_ABORT_SECONDS = 3.0


@dataclass(slots=True)
class Batch:
    """The next bytes of a stream, after those carried over from the previous batch."""

    data: memoryview
    last: bool
    #: The same, and `SPARE` bytes of no meaning behind it.
    spared: memoryview


class Intake:
    """Reads a stream into the given buffers and computes its digest.

    Iterate over it inside its `with` block, and call `carry` for each batch with the number of bytes at its end to
    repeat in front of the next. Leaving the block early aborts the stream and waits a few seconds for the thread. The
    iteration raises what reading raises, and `Interrupted` as soon as `stop` stops.
    """

    def __init__(self, stream: DumpStream, buffers: list[mmap], headroom: int, stop: StopToken) -> None:
        self._stream = stream
        self._stop = stop
        self._headroom = headroom
        self._free: queue.SimpleQueue[mmap | None] = queue.SimpleQueue()
        self._full: queue.SimpleQueue[tuple[mmap, int, bool] | BaseException] = queue.SimpleQueue()
        self._buffers = buffers
        self._digest = StreamDigest()
        self._carry = 0
        self._thread = threading.Thread(target=self._fill, name="penstock-read", daemon=True)
        self.size = 0

    def __enter__(self) -> "Intake":
        for buffer in self._buffers:
            self._free.put(buffer)
        try:
            self._thread.start()
        except BaseException:
            self._stream.abort()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._free.put(None)
        if kind is not None:
            # The thread may be waiting for bytes that will never come.
            self._stream.abort()
        # If aborting the stream does not wake the thread, it ends with the process.
        self._thread.join(None if kind is None else _ABORT_SECONDS)

    @staticmethod
    def make_buffers(count: int, headroom: int) -> list[mmap]:
        """Buffers for `count` batches; at least two, so that reading and processing overlap."""
        return [new_buffer(headroom + BATCH + SPARE, at_once=True) for _ in range(max(2, count))]

    def carry(self, length: int) -> None:
        """Repeat the last `length` bytes of the current batch in front of the next one."""
        self._carry = length

    def digest(self) -> bytes:
        """The digest of the whole stream, once the iteration has ended."""
        return self._digest.digest()

    def __iter__(self) -> Iterator[Batch]:
        previous: mmap | None = None
        previous_end = 0
        last = False
        while not last:
            self._stop.check()
            with self._stop.on_stop(lambda: self._full.put(Interrupted("interrupted"))):
                item = self._full.get()
            if isinstance(item, BaseException):
                raise item
            buffer, filled, last = item
            carried = self._carry
            start = self._headroom - carried
            if previous is not None:
                buffer[start : self._headroom] = memoryview(previous)[previous_end - carried : previous_end]
                self._free.put(previous)
            previous, previous_end = buffer, self._headroom + filled
            self._carry = 0
            self.size += filled
            view = memoryview(buffer)
            yield Batch(view[start:previous_end], last, view[start : previous_end + SPARE])

    def _fill(self) -> None:
        """The reading thread: fills batches completely, so that short reads from a pipe do not make short batches."""
        try:
            while (buffer := self._free.get()) is not None:
                view = memoryview(buffer)[self._headroom : self._headroom + BATCH]
                filled = 0
                while filled < BATCH:
                    count = self._stream.readinto(view[filled:])
                    if not count:
                        break
                    filled += count
                self._digest.update(view[:filled])
                last = filled < BATCH
                self._full.put((buffer, filled, last))
                if last:
                    return
        except BaseException as error:  # noqa: BLE001 - any error belongs to the thread that waits for this one
            self._full.put(error)
