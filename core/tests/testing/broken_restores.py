"""Sources whose dumps are good, and whose restores each break one promise."""

import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.tests.testing.broken_sources import LeavesAProcess
from core.tests.testing.shelf import END, ShelfSource

from penstock.api import LeftOut, Restore, RestoreFailed, RestorePlan, RestoreTarget, StreamSpec


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


class ClearsTheWayWhenItLooks(ShelfSource):
    def plan_restore(self, streams: Sequence[StreamSpec], target: RestoreTarget) -> RestorePlan:
        plan = super().plan_restore(streams, target)
        if target.clean:
            self._file("main").unlink(missing_ok=True)
        return plan


class _Planning(ShelfSource):
    def replanned(self, plan: RestorePlan) -> RestorePlan:
        raise NotImplementedError

    def plan_restore(self, streams: Sequence[StreamSpec], target: RestoreTarget) -> RestorePlan:
        return self.replanned(super().plan_restore(streams, target))


class PlansForAnotherTarget(_Planning):
    def replanned(self, plan: RestorePlan) -> RestorePlan:
        return replace(plan, target=RestoreTarget())


class PlansWithoutAStream(_Planning):
    def replanned(self, plan: RestorePlan) -> RestorePlan:
        return replace(plan, streams=plan.streams[:1])


class PlansObjects(_Planning):
    def replanned(self, plan: RestorePlan) -> RestorePlan:
        name: Any = self._file("main")
        return replace(plan, left_out=(LeftOut("mark", "m", "no", database=name),))


class LeavesOutWithoutAReason(_Planning):
    def replanned(self, plan: RestorePlan) -> RestorePlan:
        return replace(plan, left_out=(LeftOut("mark", "m", ""),))


class PlansSomethingElseEachTime(_Planning):
    planned = 0

    def replanned(self, plan: RestorePlan) -> RestorePlan:
        self.planned += 1
        return replace(plan, warnings=(f"this is plan number {self.planned}",))


class ForeseesNothing(ShelfSource):
    def foreseen(self, streams: Sequence[StreamSpec]) -> Iterator[LeftOut]:
        yield from ()


class FailsForOneBadObject(ShelfSource):
    def refuse(self, plan: RestorePlan, name: str, words: str) -> None:
        raise RestoreFailed(f"there is a mark {name}")


class LeavesOutInSilence(ShelfSource):
    def refuse(self, plan: RestorePlan, name: str, words: str) -> None:
        if plan.target.strict:
            super().refuse(plan, name, words)


class TellsWhatThePlanHasTold(ShelfSource):
    def refuse(self, plan: RestorePlan, name: str, words: str) -> None:
        super().refuse(replace(plan, left_out=()), name, words)


class LosesTheRestOfTheStream(ShelfSource):
    def taken(self, plan: RestorePlan, data: bytes) -> bytes:
        rest = data.partition(b"mark ")[0]
        return rest if super().taken(plan, data) != data else data


class LeavesOutWhatIsNearIt(ShelfSource):
    def refuse(self, plan: RestorePlan, name: str, words: str) -> None:
        super().refuse(plan, name, words)
        self.report.left_out(LeftOut("line", "the next", "it is beside one that is refused"))


class StopsReadingAtABadObject(ShelfSource):
    def received(self, spec: StreamSpec, blocks: Iterable[memoryview]) -> bytes:
        data = b""
        for block in blocks:
            data += bytes(block)
            if b"\nmark " in data:
                return data[: data.index(b"mark ")]
        return super().received(spec, [memoryview(data)])


class IsNeverStrict(ShelfSource):
    def refuse(self, plan: RestorePlan, name: str, words: str) -> None:
        super().refuse(replace(plan, target=RestoreTarget()), name, words)


class IsStrictTooLate(ShelfSource):
    """Notices what it cannot take when a part of the target is written already."""

    @contextmanager
    def restore(self, plan: RestorePlan) -> Iterator[Restore]:
        whole: dict[Path, bytes] = {}

        def finish() -> None:
            for file, data in whole.items():
                self.put(file, self.taken(plan, data))

        yield Restore(lambda spec, blocks: self.write(spec, blocks, whole), finish)


class DoesNotSayWhatIsTooMuch(ShelfSource):
    def refuse(self, plan: RestorePlan, name: str, words: str) -> None:
        if plan.target.strict:
            raise RestoreFailed("the shelf does not take everything")
        super().refuse(plan, name, words)


class RepeatsTheServersWording(ShelfSource):
    def masked(self, said: str) -> str:
        return said


class ShowsTheStatementOfASecret(ShelfSource):
    def refuse(self, plan: RestorePlan, name: str, words: str) -> None:
        if plan.target.strict:
            super().refuse(plan, name, words)
        elif name not in {known.name for known in plan.left_out}:
            self.report.left_out(LeftOut("mark", name, "no shelf takes a mark", f"mark {name} {words}"))


class WarnsOfWhatItIsGiven(ShelfSource):
    def refuse(self, plan: RestorePlan, name: str, words: str) -> None:
        self.report.warn(f"the mark {name} says: {words}")
        super().refuse(plan, name, words)


class RepeatsWhatTheLoaderSays(ShelfSource):
    def load(self, **more: Any) -> None:
        super().load(secrets=[])
