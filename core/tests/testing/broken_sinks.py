"""Sinks that each break one promise, in a way that a real one might."""

import multiprocessing
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from penstock.api import (
    Capability,
    ObjectExists,
    ObjectInfo,
    ObjectLocked,
    ObjectMissing,
    PluginSettings,
    SecretRef,
    SinkDenied,
    SinkError,
    SinkUnreachable,
    UsageError,
)
from penstock.testing import MemorySink
from penstock.testing.memory import MemorySettings

Buffer = bytes | bytearray | memoryview


class _Unchecked(MemorySink):
    """A memory sink with a plain dictionary, for faults to be built on."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, Buffer] = {}

    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> None:
        super().put(key, data, if_absent=if_absent)
        self.kept[key] = data


class KeepsTheBuffer(_Unchecked):
    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        super().get(key)
        data = bytes(self.kept[key])
        return data[start:] if length is None else data[start : start + length]


class HoldsTheBuffer(MemorySink):
    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> None:
        super().put(key, data, if_absent=if_absent)
        self.held = memoryview(data)


class TakesBytesOnly(MemorySink):
    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> None:
        if not isinstance(data, bytes):
            raise SinkError(key, "bytes, please")
        super().put(key, data, if_absent=if_absent)


class ReadsAtMost8MiB(MemorySink):
    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        return super().get(key, start=start, length=length)[: 8 * 2**20]


class RefusesRangesPastTheEnd(MemorySink):
    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        if start and start >= self.stat(key).size:
            raise SinkError(key, "416 range not satisfiable")
        return super().get(key, start=start, length=length)


class RefusesRangesOfEmptyObjects(MemorySink):
    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        if length is not None and self.stat(key).size == 0:
            raise SinkError(key, "416 range not satisfiable")
        return super().get(key, start=start, length=length)


class TakesLengthZeroForNone(MemorySink):
    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        return super().get(key, start=start, length=length or None)


class LetsKeyErrorsThrough(MemorySink):
    def stat(self, key: str) -> ObjectInfo:
        try:
            return super().stat(key)
        except ObjectMissing:
            raise KeyError(key) from None


class ForgetsTheKeyOfErrors(MemorySink):
    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        try:
            return super().get(key, start=start, length=length)
        except ObjectMissing:
            raise ObjectMissing("", "404") from None


class TakesAFolderForAnObject(MemorySink):
    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        if any(info.key.startswith(f"{key}/") for info in self.list()):
            return b""
        return super().get(key, start=start, length=length)


class GivesABytearray(MemorySink):
    def get(self, key: str, *, start: int = 0, length: int | None = None) -> Any:
        return bytearray(super().get(key, start=start, length=length))


class WritesOverTheStart(MemorySink):
    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> None:
        old = self.contents().get(key, b"")
        super().put(key, bytes(data) + old[len(data) :], if_absent=if_absent)


class IgnoresIfAbsent(MemorySink):
    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> None:
        super().put(key, data)


class ForgivesTheSamePutTwice(MemorySink):
    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> None:
        if self.contents().get(key) != bytes(data):
            super().put(key, data, if_absent=if_absent)


class TakesAnEmptyObjectForNone(MemorySink):
    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> None:
        super().put(key, data, if_absent=if_absent and bool(self.contents().get(key)))


class LooksThenPuts(MemorySink):
    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> None:
        if if_absent and key in self.contents():
            raise ObjectExists(key, "there already")
        time.sleep(0.001)
        super().put(key, data)


class ShowsHalfAnObject(MemorySink):
    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> None:
        super().put(key, bytes(data)[: len(data) // 2], if_absent=if_absent)
        time.sleep(0.002)
        super().put(key, data)


class DeletesBeforeItReplaces(MemorySink):
    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> None:
        if not if_absent:
            self.delete(key)
            time.sleep(0.002)
        super().put(key, data, if_absent=if_absent)


class ListsFoldersOnly(MemorySink):
    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        folder = prefix.rpartition("/")[0]
        yield from super().list(f"{folder}/" if folder else "")


class ListsOnePage(MemorySink):
    page = 1000

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        yield from [info for info, _ in zip(super().list(prefix), range(self.page), strict=False)]


class ListsFiveThousand(ListsOnePage):
    page = 5000


class CreatesAtTheTarget(MemorySink):
    """As `open(path, "xb")` and then `write` do."""

    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> None:
        if if_absent:
            super().put(key, bytes(data)[: len(data) // 2], if_absent=True)
            time.sleep(0.003)
        super().put(key, data)


class ListsUnfinishedUploads(MemorySink):
    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> None:
        super().put(f"{key}.part", data)
        time.sleep(0.003)
        super().put(key, data, if_absent=if_absent)
        self.delete(f"{key}.part")


class ListsTheEndOfAPageTwice(MemorySink):
    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        for number, info in enumerate(super().list(prefix)):
            yield info
            if number == 999:
                yield info


class ListsAMarker(MemorySink):
    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        yield ObjectInfo(prefix, 0)
        yield from super().list(prefix)


class TellsLocalTime(MemorySink):
    def stat(self, key: str) -> ObjectInfo:
        found = super().stat(key)
        return replace(found, modified=found.modified and found.modified.astimezone().replace(tzinfo=None))


class HidesDotFiles(MemorySink):
    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        yield from (info for info in super().list(prefix) if "/." not in f"/{info.key}")


class TakesAnyKey(MemorySink):
    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> None:
        try:
            super().put(key, data, if_absent=if_absent)
        except SinkError as error:
            if "valid" not in str(error):
                raise


class RaisesItsOwnForKeys(MemorySink):
    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> None:
        if ".." in key:
            raise UsageError(key)
        super().put(key, data, if_absent=if_absent)


class MissesWhatItDeletes(MemorySink):
    def delete(self, key: str) -> None:
        self.stat(key)
        super().delete(key)


class DeletesByPrefix(MemorySink):
    def delete(self, key: str) -> None:
        for info in list(super().list(key)):
            super().delete(info.key)


class SharesStateBetweenThreads(MemorySink):
    key = ""

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        self.key = key
        time.sleep(0.0005)
        return super().get(self.key, start=start, length=length)


class IsNowhere(MemorySink):
    location = ""


class ClosesOnce(MemorySink):
    closed = False

    def close(self) -> None:
        if self.closed:
            raise SinkError("", "closed already")
        self.closed = True


class _SaysItLocks(MemorySink):
    def capabilities(self) -> frozenset[Capability]:
        return super().capabilities() | {Capability.OBJECT_LOCK}


class DeclaresLocksThatItHasNot(_SaysItLocks):
    pass


class LocksWhatIsNotThere(_SaysItLocks):
    retention = timedelta(days=1)

    def retain(self, key: str, until: datetime) -> None:
        pass


class RefusesAShorterLock(_SaysItLocks):
    retention = timedelta(days=1)
    latest = datetime.min.replace(tzinfo=UTC)

    def retain(self, key: str, until: datetime) -> None:
        self.stat(key)
        if until < self.latest:
            raise SinkError(key, "409 the lock would be shortened")
        self.latest = until


class _Locking(MemorySink):
    """Locks for a day, by a clock that is put on."""

    def __init__(self) -> None:
        self.late = timedelta()
        super().__init__(MemorySettings(object_lock_days=1), clock=lambda: datetime.now(UTC) + self.late)

    def end_locks(self, keys: Iterable[str]) -> None:
        self.late += timedelta(days=2)


class HidesWhatIsLocked(_Locking):
    """As a plain DELETE does in a bucket with versions: it leaves a marker, and the bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden: set[str] = set()

    def delete(self, key: str) -> None:
        try:
            super().delete(key)
        except ObjectLocked:
            self.hidden.add(key)
            raise

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        yield from (info for info in super().list(prefix) if info.key not in self.hidden)


class HidesWhatIsLockedAndSaysNothing(HidesWhatIsLocked):
    def delete(self, key: str) -> None:
        with suppress(ObjectLocked):
            super().delete(key)


class SaysNothingOfLocks(_Locking):
    def delete(self, key: str) -> None:
        with suppress(ObjectLocked):
            super().delete(key)


class StopsAtTheFirstLock(_Locking):
    def delete_many(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.delete(key)


class NamesTheLastLockAlone(_Locking):
    def delete_many(self, keys: Iterable[str]) -> None:
        failed = None
        for key in keys:
            try:
                self.delete(key)
            except ObjectLocked as error:
                failed = error
        if failed is not None:
            raise failed


class DoesNotSayUntilWhen(_Locking):
    def delete(self, key: str) -> None:
        try:
            super().delete(key)
        except ObjectLocked:
            raise ObjectLocked(key, "409 BlobImmutableDueToPolicy") from None


class TakesALockForADenial(_Locking):
    def delete(self, key: str) -> None:
        try:
            super().delete(key)
        except ObjectLocked:
            raise SinkDenied(key, "403 AccessDenied") from None


class LocksForGood(_Locking):
    def end_locks(self, keys: Iterable[str]) -> None:
        pass


class DeletesAllBelowThem(MemorySink):
    def delete_many(self, keys: Iterable[str]) -> None:
        for key in keys:
            for info in list(super().list(key)):
                super().delete(info.key)


class ReadsTheKeysTwice(MemorySink):
    def delete_many(self, keys: Iterable[str]) -> None:
        if any(True for _ in keys):
            super().delete_many(keys)


class CanDoMoreThanItsClass(MemorySink):
    possible_capabilities = frozenset()

    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.CONDITIONAL_PUT})


class ChangesItsMind(MemorySink):
    asked = 0

    def capabilities(self) -> frozenset[Capability]:
        self.asked += 1
        return super().capabilities() if self.asked == 1 else frozenset()


class HasNoConnections(MemorySink):
    connections = 0


class LeavesAnObjectBehind(MemorySink):
    def preflight(self) -> None:
        self.put("probe", b"")


PASSWORD = "pa55word-of-the-sink"


class _Secretive(PluginSettings):
    password: SecretRef


class _WithPassword(MemorySink):
    Settings = _Secretive

    def __init__(self) -> None:
        super().__init__(_Secretive.model_validate({"password": {"command": ["echo", PASSWORD]}}))


class ShowsItsPasswordInItsLocation(_WithPassword):
    location = f"memory://user:{PASSWORD}@host"


class ShowsItsPasswordInItsRepr(_WithPassword):
    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> None:
        super().put(key, data, if_absent=if_absent)
        self.login = ("user", PASSWORD)


class _PlainSettings(PluginSettings):
    access_token: str | None = None


class KeepsASecretAsText(MemorySink):
    Settings = _PlainSettings

    def __init__(self) -> None:
        super().__init__(_PlainSettings())


class TakesPasswordsInUrls(MemorySink):
    schemes = ("memory",)

    @classmethod
    def settings_from_url(cls, url: str) -> dict[str, Any]:
        return {}


class RepeatsPasswordsOfUrls(MemorySink):
    schemes = ("memory",)

    @classmethod
    def settings_from_url(cls, url: str) -> dict[str, Any]:
        raise UsageError(f"cannot parse {url}")


class _Unreachable(MemorySink):
    """What every call of it does, until `fail` says otherwise, is the right thing."""

    def fail(self, key: str) -> None:
        raise SinkUnreachable(key, "no answer")

    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> None:
        self.fail(key)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        self.fail(key)
        return b""

    def stat(self, key: str) -> ObjectInfo:
        self.fail(key)
        return ObjectInfo(key, 0)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self.fail(prefix)
        yield from ()

    def delete(self, key: str) -> None:
        self.fail(key)

    def preflight(self) -> None:
        self.fail("")


class RaisesWhatItsSdkRaises(_Unreachable):
    def fail(self, key: str) -> None:
        raise ConnectionResetError("the SDK says so")


class HasNoDeadline(_Unreachable):
    def fail(self, key: str) -> None:
        threading.Event().wait(20)


class TakesSilenceForSuccess(_Unreachable):
    def fail(self, key: str) -> None:
        pass


class WaitsForItsRequestsWhenClosed(_Unreachable):
    def __init__(self) -> None:
        super().__init__()
        self.busy = threading.Lock()

    def fail(self, key: str) -> None:
        with self.busy:
            threading.Event().wait(20)

    def close(self) -> None:
        with self.busy:
            pass


class SleepsThroughAStop(_Unreachable):
    def fail(self, key: str) -> None:
        self.report.retry("no answer: trying again")
        time.sleep(20)


class ReportsNoRetry(SleepsThroughAStop):
    def fail(self, key: str) -> None:
        self.stop.wait(20)


_OF_ONE_PROCESS = threading.Lock()


class _InAFolder(PluginSettings):
    path: Path


class LocksWithinItsProcess(MemorySink):
    """Looks, and puts, in a folder that other processes have, too."""

    Settings = _InAFolder

    def __init__(self, settings: PluginSettings | None = None) -> None:
        super().__init__(settings or _InAFolder(path=Path(tempfile.mkdtemp())))
        assert isinstance(self.settings, _InAFolder)
        self._folder = self.settings.path

    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> None:
        file = self._folder / key.replace("/", "-")
        with _OF_ONE_PROCESS:
            if if_absent and file.exists():
                raise ObjectExists(key, "there already")
            time.sleep(0.01)
            file.write_bytes(data)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        return (self._folder / key.replace("/", "-")).read_bytes()


class NeedsMoreThanItsSettings(MemorySink):
    def __init__(self, settings: PluginSettings | None = None) -> None:
        super().__init__(settings)
        if threading.current_thread() is threading.main_thread() and multiprocessing.parent_process():
            raise SinkError("", "no session was handed in")
