from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from core.tests.repository.lab import MIB, BytesSource, BytesStream, Lab, noise

from penstock.api import MissingObject, SinkDenied, SinkError
from penstock.repository import layout
from penstock.repository.known.cache import Cache
from penstock.repository.pool import Workers
from penstock.repository.read.content import each_row, parts_of, sessions_of
from penstock.repository.snapshots import find_snapshot, list_snapshots
from penstock.repository.upkeep.locks import prolong_locks
from penstock.testing import Fail, FaultySink, MemorySink
from penstock.testing.memory import MemorySettings

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow

DAYS = 30
OLD = noise(3 * MIB)


class LockingSink(MemorySink):
    """Locks objects for a month, and can pretend that time has passed."""

    def __init__(self) -> None:
        super().__init__(MemorySettings(object_lock_days=DAYS))

    def age(self, days: int) -> None:
        for key in self._locks:
            self._locks[key] -= timedelta(days=days)


class ElsewhereSink(LockingSink):
    """A store whose clock is that far ahead of the hosts'; the lock of a PUT goes by it, as all sinks see to."""

    def __init__(self, ahead: timedelta) -> None:
        super().__init__()
        self.ahead = ahead

    @property
    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
        super().put(key, data, if_absent=if_absent)
        self._objects[key] = (bytes(data), self.now)
        self._locks[key] = self.now + timedelta(days=DAYS)


@pytest.fixture
def sink() -> LockingSink:
    return LockingSink()


@pytest.fixture
def locking(tmp_path: Path, sink: LockingSink) -> Lab:
    return Lab(tmp_path / "cache", sink)


def needed_by_the_latest(lab: Lab) -> set[str]:
    entry = find_snapshot(lab.open(), "latest")
    return {
        layout.CONFIG,
        *lab.keys(layout.GRANTS),
        *lab.keys(layout.SLOTS),
        *map(lab.at.session_key, sessions_of(entry)),
        *(lab.at.pack_key(row.pack) for row in each_row(entry) if row.used),
        *(lab.at.part_key(ref.part) for ref in parts_of(entry)),
        *map(lab.at.index_key, entry.head.index),
        lab.at.snapshot_key(entry.id),
    }


def kind(key: str) -> str:
    """The kind of an object by its key."""
    return key.split("/")[2] if key.startswith(layout.DOMAINS) else key.partition("/")[0]


def test_everything_a_later_snapshot_needs_is_locked_as_long_as_the_snapshot(locking: Lab, sink: LockingSink) -> None:
    locking.backup({"d": OLD})
    sink.age(20)
    locking.backup({"d": OLD + b"a little more"}, cache=locking.cache.parent / "a host of its own")
    needed = needed_by_the_latest(locking)
    assert len([key for key in needed if kind(key) == "packs"]) >= 2
    least = datetime.now(UTC) + timedelta(days=DAYS) - timedelta(minutes=10)
    assert {key for key, until in sink.locks().items() if until > least} >= needed
    with pytest.raises(SinkDenied, match="locked until"):
        sink.delete(max(needed))


@pytest.mark.parametrize("hours", [90 * 24, -12], ids=["the host is months behind", "the host is ahead"])
def test_locks_go_by_the_time_of_the_store(tmp_path: Path, hours: int) -> None:
    sink = ElsewhereSink(timedelta(hours=hours))
    lab = Lab(tmp_path / "cache", sink)
    lab.backup({"d": OLD})
    sink.age(20)
    lab.backup({"d": OLD + b"a little more"}, cache=tmp_path / "a host of its own")
    needed = needed_by_the_latest(lab)
    least, most = (sink.now + timedelta(days=days) for days in (DAYS, DAYS + DAYS / 8))
    slack = timedelta(minutes=10)
    locks = sink.locks()
    assert all(least - slack < locks[key] < most + slack for key in needed)


def test_a_store_that_tells_no_time_goes_by_that_of_the_host(
    locking: Lab, sink: LockingSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = sink.stat
    monkeypatch.setattr(sink, "stat", lambda key: replace(stat(key), modified=None))
    locking.backup({"d": OLD})
    least = datetime.now(UTC) + timedelta(days=DAYS) - timedelta(minutes=10)
    assert {key for key, until in sink.locks().items() if until > least} >= needed_by_the_latest(locking)


def test_locks_of_unneeded_objects_are_not_extended(locking: Lab, sink: LockingSink) -> None:
    locking.backup({"d": noise(2 * MIB, seed=1)})
    first = needed_by_the_latest(locking)
    sink.age(20)
    locking.backup({"d": noise(2 * MIB, seed=2)})
    left = first - needed_by_the_latest(locking)
    assert {kind(key) for key in left} == {"packs", "parts", "sessions", "snapshots", "index"}
    assert all(sink.locks()[key] < datetime.now(UTC) + timedelta(days=DAYS / 2) for key in left)


def test_a_host_extends_a_lock_again_only_when_due(tmp_path: Path, sink: LockingSink) -> None:
    faulty = FaultySink(sink)
    lab = Lab(tmp_path, faulty)

    def lengthened() -> set[str]:
        before = len(faulty.calls)
        lab.backup({"d": OLD})
        return {kind(key) for method, key in faulty.calls[before:] if method == "retain"}

    assert lengthened() == {"penstock.json", "grants", "slots", "packs", "parts", "sessions", "index"}
    assert lengthened() == {"sessions", "parts"}, "its own"


def test_a_lock_that_ends_just_with_the_snapshot_is_extended_too(tmp_path: Path, sink: LockingSink) -> None:
    """The snapshot is put a moment after the locks were looked at, and lives as long from then on."""
    lab = Lab(tmp_path, sink)
    lab.backup({"d": OLD})
    with (
        Cache(lab.cache, lab.domain.scope, sink.location, on_trouble=pytest.fail) as cache,
        Workers(2, "test", sink.stop) as workers,
    ):
        now = datetime.now(UTC)
        packs = [info.key for info in sink.list(lab.at.packs)]
        cache.add_locks(packs, now + timedelta(days=DAYS, minutes=10))
        before = sink.locks()
        assert prolong_locks(sink, cache, packs, workers, now=now) == []
        assert all(sink.locks()[key] > max(before[key], now + timedelta(days=DAYS + 1)) for key in packs)


def test_nothing_is_committed_when_a_lock_cannot_be_extended(tmp_path: Path, sink: LockingSink) -> None:
    faulty = FaultySink(sink)
    lab = Lab(tmp_path, faulty)
    first = lab.backup({"d": OLD}).snapshot
    faulty.add(Fail("retain", prefix=lab.at.packs, error=SinkDenied))
    with pytest.raises(SinkDenied):
        lab.backup({"d": OLD + noise(2 * MIB, seed=3)})
    assert [entry.id for entry in list_snapshots(lab.open())] == [first]
    faulty.heal()
    assert lab.backup({"d": OLD + noise(2 * MIB, seed=3)}).packs == 0


def test_a_session_that_disappears_while_its_data_is_reused_leaves_no_snapshot(
    tmp_path: Path, sink: LockingSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(tmp_path, sink)
    first = lab.backup({"d": OLD})
    (session,) = lab.sessions()

    def retain(key: str, until: datetime) -> None:
        if key == lab.at.session_key(session):
            sink._objects.pop(key, None)
        MemorySink.retain(sink, key, until)

    monkeypatch.setattr(sink, "retain", retain)
    with pytest.raises(MissingObject, match=session.hex()):
        lab.backup({"d": OLD}, cache=tmp_path / "a host of its own")
    assert [entry.id for entry in list_snapshots(lab.open())] == [first.snapshot]


def test_the_first_objects_of_a_long_run_are_locked_as_long_as_its_snapshot(locking: Lab, sink: LockingSink) -> None:
    class Lasts(BytesStream):
        def close(self) -> None:
            super().close()
            sink.age(3)

    locking.backup(BytesSource({"d": noise(40 * MIB)}, opener=Lasts))
    least = datetime.now(UTC) + timedelta(days=DAYS) - timedelta(minutes=10)
    assert {key for key, until in sink.locks().items() if until > least} >= needed_by_the_latest(locking)


def test_a_missing_passphrase_slot_is_reported_and_does_not_prevent_a_backup(locking: Lab, sink: LockingSink) -> None:
    (slot,) = [info.key for info in sink.list(layout.SLOTS)]
    del sink._objects[slot]
    result = locking.backup({"d": OLD})
    assert any(slot in warning for warning in result.warnings)


@pytest.mark.parametrize("entry", range(2))
def test_a_repository_that_lost_an_entry_of_its_log_takes_no_snapshot(
    locking: Lab, sink: LockingSink, entry: int
) -> None:
    repository = locking.open()
    assert len(repository.log.keys) == 2
    key = repository.log.keys[entry]
    del sink._objects[key]
    with pytest.raises(MissingObject, match=key):
        locking.backup({"d": OLD}, by=repository)
    assert not locking.keys(locking.at.snapshots)


def test_a_sink_without_object_lock_is_never_asked_to_lock(tmp_path: Path) -> None:
    faulty = FaultySink(MemorySink())
    lab = Lab(tmp_path, faulty)
    lab.backup({"d": OLD})
    lab.backup({"d": OLD})
    assert not [key for method, key in faulty.calls if method == "retain"]
    with pytest.raises(SinkError, match="locks no objects"):
        faulty.retain(layout.CONFIG, datetime.now(UTC))
