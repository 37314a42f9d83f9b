"""Reading a stream ahead of the work on it: one thread fills batches while another cuts and looks up the one before."""

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

__all__ = ["Batch", "Intake"]

#: How long an aborted stream may take to let its reader go.
_ABORT_SECONDS = 3.0


@dataclass(slots=True)
class Batch:
    """The next bytes of a stream, with what was carried over from the batch before in front of them."""

    data: memoryview
    last: bool


class Intake:
    """Reads a stream into as many buffers as it was given, and its digest on the way.

    Iterate over it within its `with` block, and tell `carry` of each batch how many bytes at its end are to come again
    in front of the next. Leaving the block before the end aborts the stream, and waits a few seconds for the thread.
    The iteration raises what reading raises, and `Interrupted` as soon as `stop` stops.
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
            # The thread may be waiting for bytes that never come.
            self._stream.abort()
        # A stream that an abort does not wake keeps the thread, which ends with the process.
        self._thread.join(None if kind is None else _ABORT_SECONDS)

    @staticmethod
    def make_buffers(count: int, headroom: int) -> list[mmap]:
        """Buffers for `count` batches; at least two, so that reading and working overlap."""
        return [new_buffer(headroom + BATCH) for _ in range(max(2, count))]

    def carry(self, length: int) -> None:
        """The last `length` bytes of the current batch come again in front of the next one."""
        self._carry = length

    def digest(self) -> bytes:
        """Of the whole stream, once the iteration has ended."""
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
            yield Batch(memoryview(buffer)[start:previous_end], last)

    def _fill(self) -> None:
        """In the reading thread: whole batches, so that small reads from a pipe do not make small batches."""
        try:
            while (buffer := self._free.get()) is not None:
                view = memoryview(buffer)[self._headroom :]
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
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to the thread that waits for us
            self._full.put(error)
