"""Sources that each break one promise, in a way that a real one might."""

import fcntl
import os
import subprocess
import sys
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from core.tests.testing.shelf import IN_PROCESS, ShelfSettings, ShelfSource
from pydantic import ConfigDict

from penstock.api import (
    NEVER,
    ChildOutput,
    Dump,
    DumpFailed,
    DumpStream,
    Inspection,
    InventoryItem,
    PluginSettings,
    SecretRef,
    SourceError,
    StreamOutcome,
    StreamSpec,
    UsageError,
    env_for_child,
    run_child,
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

    def put(self, file: Path, data: bytes) -> None:
        super().put(file, b"".join(data.splitlines(keepends=True)[:-1]) if file.name == "notes" else data)


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


class HearsNoStop(ShelfSource):
    def attach(self, spec: StreamSpec) -> DumpStream:
        return self._child(spec, stop=NEVER)


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


class AsksAloud(ShelfSource):
    """By a helper that is gone before anybody looks."""

    def inspect(self) -> Inspection:
        run_child(["true", f"--password={self._secret().reveal()}"], name="true", timeout=10)
        return super().inspect()


class RepeatsWhatTheChildSays(ShelfSource):
    def attach(self, spec: StreamSpec) -> DumpStream:
        return self._child(spec, secrets=[])


class _Deflated(_Wrapped):
    """Compresses what the child writes, as an option of a dump program does."""

    level, window = 9, 31  # as gzip does

    def __init__(self, child: ChildOutput) -> None:
        super().__init__(child)
        self.ready: bytes | None = None

    def readinto(self, buffer: memoryview, /) -> int:
        if self.ready is None:
            data, room = bytearray(), memoryview(bytearray(65_536))
            while count := self.child.readinto(room):
                data += room[:count]
            deflate = zlib.compressobj(self.level, wbits=self.window)
            self.ready = deflate.compress(data) + deflate.flush()
        part, self.ready = self.ready[: len(buffer)], self.ready[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)


class _RawDeflated(_Deflated):
    level, window = 1, -15  # without any magic number


class CompressesItsStreams(ShelfSource):
    def attach(self, spec: StreamSpec) -> DumpStream:
        return _Deflated(self._child(spec))


class CompressesWithoutASign(ShelfSource):
    def attach(self, spec: StreamSpec) -> DumpStream:
        return _RawDeflated(self._child(spec))


class WritesTheCountIntoEachRow(ShelfSource):
    """One row more, and every row of the dump is another one."""

    def _view(self, folder: Path) -> Path:
        super()._view(folder)
        rows = (folder / "main").read_text().splitlines()
        (folder / "main").write_text("".join(f"{len(rows)} {row}\n" for row in rows))
        return folder


class LocksItsOwnProcessOnly(ShelfSource):
    """Dumps the live file, from which it keeps the writers of this process alone."""

    def _view(self, folder: Path) -> Path:
        return self.settings.path

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        with IN_PROCESS, super().dump() as dump:
            yield dump


class _ReadsOnce(_Wrapped):
    """Takes what comes after the first read for the end."""

    done = False

    def readinto(self, buffer: memoryview, /) -> int:
        count = 0
        while not self.done and count < len(buffer) and (more := self.child.readinto(buffer[count:])):
            count += more
        self.done = self.done or len(buffer) > 0
        return count

    def close(self) -> None:
        with suppress(DumpFailed):
            self.child.close()


class EndsAfterOneRead(ShelfSource):
    def attach(self, spec: StreamSpec) -> DumpStream:
        return _ReadsOnce(self._child(spec))


class HasNoDeadline(ShelfSource):
    def _deadline(self) -> float | None:
        return None


class ShowsItsPasswordInItsLocation(ShelfSource):
    @property
    def location(self) -> str:
        return f"shelf://me:{self._secret().reveal()}@{self.settings.path}"


class TakesAPasswordAsAParameter(ShelfSource):
    @classmethod
    def settings_from_url(cls, url: str) -> dict[str, Any]:
        parts = urlsplit(url)
        if parts.password or parts.query.startswith("password="):
            raise UsageError("a password in a URL can be read by everybody")
        return {"path": parts.path, "program": "/bin/true", "loader": "/bin/true"}


class KeepsItsPassword(ShelfSource):
    def __init__(self, settings: PluginSettings) -> None:
        super().__init__(settings)
        self._password = {"PGPASSWORD": self._secret().reveal()}


class _TextSettings(ShelfSettings):
    password: SecretRef | str | None = None  # type: ignore[assignment]


class TakesThePasswordItself(ShelfSource):
    Settings = _TextSettings


class CountsWrongly(ShelfSource):
    def _inventory(self, folder: Path) -> tuple[InventoryItem, ...]:
        return tuple(replace(item, rows=1) for item in super()._inventory(folder))


class PromisesOtherStreams(ShelfSource):
    def inspect(self) -> Inspection:
        return replace(super().inspect(), streams=(StreamSpec("main.txt", "shelf"),))


class KeepsItsDumpOnItself(ShelfSource):
    """As sources did whose `open` was a method."""

    view: Path | None = None

    def _view(self, folder: Path) -> Path:
        self.view = super()._view(folder)
        return folder

    def _command(self, spec: StreamSpec) -> list[str]:
        assert self.view is not None
        return [str(self.settings.program), str(self.view / Path(spec.name).stem)]


class AttachesToTheLiveFile(ShelfSource):
    """Its own process dumps the view; others, the file as they find it."""

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        with super().dump() as dump:
            yield replace(dump, open=super().attach)

    def attach(self, spec: StreamSpec) -> DumpStream:
        live = {"file": str(self._file(Path(spec.name).stem))}
        return super().attach(replace(spec, attributes=live))


class ReadsOneStreamAtATime(ShelfSource):
    """Whoever opens a stream of its dump ends the one before."""

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        with super().dump() as dump:
            opened: list[DumpStream] = []

            def begin(spec: StreamSpec) -> DumpStream:
                for stream in opened:
                    stream.abort()
                opened[:] = [dump.open(spec)]
                return opened[0]

            yield replace(dump, open=begin)


class LocksWritersOut(ShelfSource):
    """Breaks nothing: it dumps the live file, which no other process may write to meanwhile."""

    def _view(self, folder: Path) -> Path:
        return self.settings.path

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        with self._file("main").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with super().dump() as dump:
                yield dump


class _TellsAPath(_Wrapped):
    def outcome(self) -> StreamOutcome:
        attributes: Any = {"file": Path("main")}
        return StreamOutcome(attributes)


class ShowsObjectsInAnOutcome(ShelfSource):
    def attach(self, spec: StreamSpec) -> DumpStream:
        return _TellsAPath(self._child(spec))


class NeedsATerminal(ShelfSource):
    @contextmanager
    def dump(self) -> Iterator[Dump]:
        sys.stderr.write("dumping the shelf\n")
        with super().dump() as dump:
            yield dump


class WarnsOfWhatTheChildSays(ShelfSource):
    def attach(self, spec: StreamSpec) -> DumpStream:
        env = env_for_child({"SHELF_PASSWORD": self._secret()})
        done = subprocess.run(self._command(spec), env=env, capture_output=True, text=True, check=True)
        if done.stderr:
            self.report.warn(f"shelfdump says: {done.stderr}")
        return super().attach(spec)
