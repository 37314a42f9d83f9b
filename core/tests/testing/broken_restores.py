"""Sources whose dumps are good, and whose restores each break one promise."""

import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from core.tests.testing.broken_sources import LeavesAProcess
from core.tests.testing.shelf import END, ShelfSource

from penstock.api import Restore, RestoreFailed, RestorePlan, RestoreTarget, StreamSpec


class LosesTheLastByte(ShelfSource):
    def put(self, file: Path, data: bytes) -> None:
        super().put(file, data[:-1])


class KeepsBlocks(ShelfSource):
    def write(self, spec: StreamSpec, blocks: Iterable[memoryview], whole: dict[Path, bytes]) -> None:
        super().write(spec, list(blocks), whole)


class CleansWhenItLooks(ShelfSource):
    def plan_restore(self, streams: Sequence[StreamSpec], target: RestoreTarget) -> RestorePlan:
        self._file("lock").touch()
        return super().plan_restore(streams, target)


class IgnoresOptions(ShelfSource):
    def plan_restore(self, streams: Sequence[StreamSpec], target: RestoreTarget) -> RestorePlan:
        return super().plan_restore(streams, replace(target, options={}))


class WritesOverData(ShelfSource):
    def plan_restore(self, streams: Sequence[StreamSpec], target: RestoreTarget) -> RestorePlan:
        return super().plan_restore(streams, replace(target, clean=True))


class AddsToWhatItShouldClean(ShelfSource):
    def put(self, file: Path, data: bytes) -> None:
        super().put(file, (file.read_bytes() if file.exists() else b"") + data)


class CompletesWhatBreaksOff(ShelfSource):
    @contextmanager
    def restore(self, plan: RestorePlan) -> Iterator[Restore]:
        done: dict[Path, bytearray] = {}

        def write(spec: StreamSpec, blocks: Iterable[memoryview]) -> None:
            data = done.setdefault(self._file(Path(spec.name).stem), bytearray())
            for block in blocks:
                data += block

        try:
            yield Restore(write)
        finally:
            for file, data in done.items():
                file.write_bytes(data.removesuffix(END))


class CallsABrokenRestoreDone(ShelfSource):
    def write(self, spec: StreamSpec, blocks: Iterable[memoryview], whole: dict[Path, bytes]) -> None:
        with suppress(Exception):
            super().write(spec, blocks, whole)


class CommitsBeforeTheEnd(ShelfSource):
    """Takes the engine's end marker for the end, as an engine that is fed all blocks at once does."""

    def write(self, spec: StreamSpec, blocks: Iterable[memoryview], whole: dict[Path, bytes]) -> None:
        data = b""
        for block in blocks:
            data += bytes(block)
            if data.endswith(END):
                self.put(self._file(Path(spec.name).stem), data.removesuffix(END))


class StopsAtTheEndMarker(ShelfSource):
    def received(self, spec: StreamSpec, blocks: Iterable[memoryview]) -> bytes:
        data = b""
        for block in blocks:
            data += bytes(block)
            if data.endswith(END):
                return data.removesuffix(END)
        raise RestoreFailed(f"{spec.name} has no end")


class WritesAsItReads(ShelfSource):
    def received(self, spec: StreamSpec, blocks: Iterable[memoryview]) -> bytes:
        with self._file(Path(spec.name).stem).open("wb") as file:
            for block in blocks:
                file.write(block)
        return super().received(spec, [memoryview(self._file(Path(spec.name).stem).read_bytes())])


class PutsEachStreamInPlaceAtOnce(ShelfSource):
    """What `finish` should do, `write` has done."""

    def write(self, spec: StreamSpec, blocks: Iterable[memoryview], whole: dict[Path, bytes]) -> None:
        self.put(self._file(Path(spec.name).stem), self.received(spec, blocks))


class LeavesAProcessUnlessItIsFinished(ShelfSource):
    @contextmanager
    def restore(self, plan: RestorePlan) -> Iterator[Restore]:
        process = subprocess.Popen(["sleep", "1000"])
        LeavesAProcess.left.append(process)

        with super().restore(plan) as restoring:

            def finish() -> None:
                restoring.finish()
                process.kill()
                process.wait()

            yield replace(restoring, finish=finish)


class LetsWhatItIsGivenBreakIt(ShelfSource):
    def received(self, spec: StreamSpec, blocks: Iterable[memoryview]) -> bytes:
        data = b"".join(bytes(block) for block in blocks)
        data.removesuffix(END).decode()  # a UnicodeDecodeError is nothing that an operator understands
        return super().received(spec, [memoryview(data)])
