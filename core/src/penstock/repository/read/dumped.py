"""A stream of a snapshot as a dump would give it, for whoever stores it once more."""

from collections.abc import Iterator
from threading import Lock

from penstock.api.errors import DamagedObject, MissingObject
from penstock.api.models import StreamSpec
from penstock.api.source import DumpStream
from penstock.format.manifest import StreamRecord
from penstock.repository.read.reader import SnapshotReader

__all__ = ["DumpedStream", "spec_of"]


def spec_of(record: StreamRecord) -> StreamSpec:
    """What a source said of the stream when it was dumped; its size is known now."""
    return StreamSpec(
        name=record.name,
        format=record.format,
        phase=record.phase,
        size_estimate=record.size,
        optional=record.optional,
        attributes=record.attributes,
        record_separator=record.separator,
    )


class DumpedStream(DumpStream):
    """The bytes of a stream as `SnapshotReader.blocks` gives them; `readinto` raises what that raises.

    Its end is the proof that the stream is whole. `problem` is what was found damaged or missing on the way there. The
    reader is in use until `close` has returned.
    """

    def __init__(self, reader: SnapshotReader, record: StreamRecord) -> None:
        self._blocks: Iterator[memoryview] = reader.blocks(record)
        self._block = memoryview(b"")
        self._reading = Lock()
        self._aborted = False
        self.problem: DamagedObject | MissingObject | None = None

    def readinto(self, buffer: memoryview, /) -> int:
        """Of one block, which is valid until the next one is asked for."""
        with self._reading:
            if not self._block and not self._aborted:
                self._block = self._following()
            count = min(len(buffer), len(self._block))
            buffer[:count] = self._block[:count]
            self._block = self._block[count:]
            return count

    def _following(self) -> memoryview:
        try:
            return next(self._blocks, memoryview(b""))
        except (DamagedObject, MissingObject) as error:
            self.problem = error
            raise

    def close(self) -> None:
        """Wait for a read that another thread is in the middle of, and give back what was read ahead."""
        with self._reading:
            self._aborted = True
            self._block = memoryview(b"")
            self._blocks = iter(())

    def abort(self) -> None:
        """Let the next `readinto` be the last."""
        self._aborted = True
