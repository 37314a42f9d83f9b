"""Sources that each break one promise, in a way that a real one might."""

import os
import subprocess
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from core.tests.testing.shelf import END, ShelfSettings, ShelfSource
from pydantic import ConfigDict

from penstock.api import (
    ChildOutput,
    Dump,
    DumpFailed,
    DumpStream,
    Inspection,
    RestoreTarget,
    SourceError,
    StreamSpec,
    UsageError,
)


class _Wrapped(DumpStream):
    """Passes on, for faults to be built on."""

    def __init__(self, child: ChildOutput) -> None:
        self.child = child

    def readinto(self, buffer: memoryview, /) -> int:
        return self.child.readinto(buffer)

    def close(self) -> None:
        self.child.close()

    def abort(self) -> None:
        self.child.abort()


class HasABadName(ShelfSource):
    name = "A Shelf"


class IsNowhere(ShelfSource):
    location = ""


class _Lax(ShelfSettings):
    model_config = ConfigDict(extra="ignore", frozen=True)


class IgnoresUnknownSettings(ShelfSource):
    Settings = _Lax


class _Changeable(ShelfSettings):
    model_config = ConfigDict(extra="forbid", frozen=False)


class LetsSettingsBeChanged(ShelfSource):
    Settings = _Changeable


class TakesPasswordsInUrls(ShelfSource):
    @classmethod
    def settings_from_url(cls, url: str) -> dict[str, Any]:
        return {}


class QuotesTheUrl(ShelfSource):
    @classmethod
    def settings_from_url(cls, url: str) -> dict[str, Any]:
        raise UsageError(f"no password, please: {url}")


class KnowsNoVersion(ShelfSource):
    def inspect(self) -> Inspection:
        return replace(super().inspect(), server_version="")


class EstimatesByDumping(ShelfSource):
    def inspect(self) -> Inspection:
        size = subprocess.run([self.settings.program, self._file("main")], capture_output=True, check=True).stdout
        return replace(super().inspect(), size_estimate=len(size))


class LetsOsErrorsThrough(ShelfSource):
    def _look(self) -> None:
        self._file("main").read_bytes()


class SaysBrokenForUnreachable(ShelfSource):
    def _look(self) -> None:
        if not self._file("main").exists():
            raise SourceError("no shelf")


class _Renaming(ShelfSource):
    names: ClassVar[tuple[str, str]]

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        with super().dump() as dump:
            streams = tuple(replace(spec, name=name) for spec, name in zip(dump.plan.streams, self.names, strict=True))
            yield replace(dump, plan=replace(dump.plan, streams=streams))


class GivesOneNameTwice(_Renaming):
    names = ("main", "main")


class LeavesTheFolder(_Renaming):
    names = ("../notes", "main")


class PutsObjectsIntoAttributes(ShelfSource):
    @contextmanager
    def dump(self) -> Iterator[Dump]:
        with super().dump() as dump:
            attributes: Any = {"file": self._file("main")}
            yield replace(
                dump,
                plan=replace(
                    dump.plan, streams=tuple(replace(spec, attributes=attributes) for spec in dump.plan.streams)
                ),
            )


class KeepsItsViewToItself(ShelfSource):
    view: str | None = None

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        with super().dump() as dump:
            self.view = dump.plan.consistency
            yield dump
            self.view = None

    def attach(self, spec: StreamSpec) -> DumpStream:
        if self.view is None:
            raise SourceError("not while no dump is going on")
        return super().attach(spec)


class LosesTheLastByte(ShelfSource):
    def write(self, spec: StreamSpec, blocks: Iterable[memoryview], target: RestoreTarget) -> None:
        super().write(spec, blocks, target)
        file = self._file(Path(spec.name).stem)
        file.write_bytes(file.read_bytes()[:-1])


class KeepsBlocks(ShelfSource):
    def write(self, spec: StreamSpec, blocks: Iterable[memoryview], target: RestoreTarget) -> None:
        super().write(spec, list(blocks), target)


class _ReadsAhead(_Wrapped):
    def readinto(self, buffer: memoryview, /) -> int:
        block = bytearray(65_536)
        count = self.child.readinto(memoryview(block))
        count = min(count, len(buffer))
        buffer[:count] = block[:count]
        return count


class LosesWhatDoesNotFit(ShelfSource):
    def attach(self, spec: StreamSpec) -> DumpStream:
        return _ReadsAhead(self._child(spec))


class DumpsTheLiveFile(ShelfSource):
    def _view(self, folder: Path) -> Path:
        return self.settings.path


class SignsEveryDump(ShelfSource):
    def _view(self, folder: Path) -> Path:
        super()._view(folder)
        with (folder / "notes").open("a") as file:
            file.write(f"{uuid.uuid4()}\n")
        return folder

    def write(self, spec: StreamSpec, blocks: Iterable[memoryview], target: RestoreTarget) -> None:
        super().write(spec, blocks, target)
        if spec.name == "notes.txt":
            file = self._file("notes")
            file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))


class _Careless(_Wrapped):
    def close(self) -> None:
        with suppress(DumpFailed):
            self.child.close()


class TakesEndOfFileForSuccess(ShelfSource):
    def attach(self, spec: StreamSpec) -> DumpStream:
        return _Careless(self._child(spec, end_marker=None))


class _ForgivesAStatus(_Wrapped):
    def close(self) -> None:
        try:
            self.child.close()
        except DumpFailed as error:
            if "exited with 1" not in error.message:
                raise


class ForgivesAnExitStatus(ShelfSource):
    def attach(self, spec: StreamSpec) -> DumpStream:
        return _ForgivesAStatus(self._child(spec))


class LooksForNoEnd(ShelfSource):
    def attach(self, spec: StreamSpec) -> DumpStream:
        return self._child(spec, end_marker=None)


class WaitsForEver(ShelfSource):
    def attach(self, spec: StreamSpec) -> DumpStream:
        return self._child(spec, stall_timeout=None)


class _SaysFailed(_Wrapped):
    def readinto(self, buffer: memoryview, /) -> int:
        try:
            return self.child.readinto(buffer)
        except DumpFailed:
            raise DumpFailed("something went wrong") from None


class DoesNotTellAStall(ShelfSource):
    def attach(self, spec: StreamSpec) -> DumpStream:
        return _SaysFailed(self._child(spec))


class _KillsOnlyWhenClosed(_Wrapped):
    def abort(self) -> None:
        return


class AbortsNothing(ShelfSource):
    def attach(self, spec: StreamSpec) -> DumpStream:
        return _KillsOnlyWhenClosed(self._child(spec))


class _AbortsOnce(_Wrapped):
    aborted = False

    def abort(self) -> None:
        if self.aborted:
            raise DumpFailed("aborted already")
        self.aborted = True
        self.child.abort()


class AbortsOnce(ShelfSource):
    def attach(self, spec: StreamSpec) -> DumpStream:
        return _AbortsOnce(self._child(spec))


class LeavesAProcess(ShelfSource):
    left: ClassVar[list["subprocess.Popen[bytes]"]] = []

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        self.left.append(subprocess.Popen(["sleep", "1000"]))
        with super().dump() as dump:
            yield dump


class LeavesADescriptor(ShelfSource):
    left: ClassVar[list[int]] = []

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        with super().dump() as dump:
            self.left.append(os.open(self._file("main"), os.O_RDONLY))
            yield dump


class DumpsOnce(ShelfSource):
    dumped = 0

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        self.dumped += 1
        if self.dumped > 2:
            raise SourceError("a dump is going on already")
        with super().dump() as dump:
            yield dump


class ShowsItsPassword(ShelfSource):
    def __repr__(self) -> str:
        return f"<ShelfSource {self._secret().reveal()}>"


class RecordsItsPassword(ShelfSource):
    @contextmanager
    def dump(self) -> Iterator[Dump]:
        with super().dump() as dump:
            more = {"password": self._secret().reveal()}
            yield replace(
                dump,
                plan=replace(
                    dump.plan, streams=tuple(replace(s, attributes={**s.attributes, **more}) for s in dump.plan.streams)
                ),
            )


class SaysItsPasswordAloud(ShelfSource):
    def _command(self, spec: StreamSpec) -> list[str]:
        return [*super()._command(spec), f"--password={self._secret().reveal()}"]


class RepeatsWhatTheChildSays(ShelfSource):
    def attach(self, spec: StreamSpec) -> DumpStream:
        return self._child(spec, secrets=[])


class CleansWhenItLooks(ShelfSource):
    def check_target(self, streams: Sequence[StreamSpec], target: RestoreTarget) -> None:
        super().check_target(streams, target)
        self._file("lock").touch()


class IgnoresOptions(ShelfSource):
    def check_target(self, streams: Sequence[StreamSpec], target: RestoreTarget) -> None:
        super().check_target(streams, replace(target, options={}))


class WritesOverData(ShelfSource):
    def check_target(self, streams: Sequence[StreamSpec], target: RestoreTarget) -> None:
        super().check_target(streams, replace(target, clean=True))


class AddsToWhatItShouldClean(ShelfSource):
    def write(self, spec: StreamSpec, blocks: Iterable[memoryview], target: RestoreTarget) -> None:
        file = self._file(Path(spec.name).stem)
        old = file.read_bytes() if file.exists() else b""
        super().write(spec, blocks, target)
        file.write_bytes(old + file.read_bytes())


class CompletesWhatBreaksOff(ShelfSource):
    def write(self, spec: StreamSpec, blocks: Iterable[memoryview], target: RestoreTarget) -> None:
        data = bytearray()
        try:
            for block in blocks:
                data += block
        finally:
            self._file(Path(spec.name).stem).write_bytes(data.removesuffix(END))


class CallsABrokenRestoreDone(ShelfSource):
    def write(self, spec: StreamSpec, blocks: Iterable[memoryview], target: RestoreTarget) -> None:
        with suppress(Exception):
            super().write(spec, blocks, target)


class CommitsBeforeTheEnd(ShelfSource):
    """Takes the engine's end marker for the end, as an engine that is fed all blocks at once does."""

    def write(self, spec: StreamSpec, blocks: Iterable[memoryview], target: RestoreTarget) -> None:
        data = b""
        for block in blocks:
            data += bytes(block)
            if data.endswith(END):
                self._file(Path(spec.name).stem).write_bytes(data.removesuffix(END))


class WritesAsItReads(ShelfSource):
    def write(self, spec: StreamSpec, blocks: Iterable[memoryview], target: RestoreTarget) -> None:
        with self._file(Path(spec.name).stem).open("wb") as file:
            for block in blocks:
                file.write(block)
        super().write(spec, [memoryview(self._file(Path(spec.name).stem).read_bytes())], target)
