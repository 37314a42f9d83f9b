from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from core.tests.repository.lab import MIB, BytesSource, BytesStream, Lab, noise

from penstock.api import MissingObject, SinkDenied, SinkError
from penstock.repository import layout
from penstock.repository.known.cache import Cache
from penstock.repository.pool import Workers
from penstock.repository.snapshots import find_snapshot, list_snapshots
from penstock.repository.upkeep.locks import prolong_locks
from penstock.testing import Fail, FaultySink, MemorySink
from penstock.testing.memory import MemorySettings

DAYS = 30
OLD = noise(3 * MIB)


class LockingSink(MemorySink):
    """Locks objects for a month, and can pretend that time has passed."""

    def __init__(self) -> None:
        super().__init__(MemorySettings(object_lock_days=DAYS))

    def age(self, days: int) -> None:
        for key in self._locks:
            self._locks[key] -= timedelta(days=days)


@pytest.fixture
def sink() -> LockingSink:
    return LockingSink()


@pytest.fixture
def locking(tmp_path: Path, sink: LockingSink) -> Lab:
    return Lab(tmp_path / "cache", sink)


def needed_by_the_latest(lab: Lab) -> set[str]:
    repository = lab.open()
    entry = find_snapshot(repository, "latest")
    return {
        layout.CONFIG,
        *(layout.grant_key(number) for number in range(1, repository.grants.length + 1)),
        *(info.key for info in lab.sink.list(layout.SLOTS)),
        *(layout.session_key(session) for session in entry.catalogue.sessions),
        *(layout.pack_key(segment.pack) for segment in entry.catalogue.segments),
        *map(layout.index_key, entry.catalogue.index),
        layout.snapshot_key(entry.id),
    }


def test_everything_a_later_snapshot_needs_is_locked_as_long_as_the_snapshot(locking: Lab, sink: LockingSink) -> None:
    locking.backup({"d": OLD})
    sink.age(20)
    locking.backup({"d": OLD + b"a little more"}, cache=locking.cache.parent / "a host of its own")
    needed = needed_by_the_latest(locking)
    assert len([key for key in needed if key.startswith(layout.PACKS)]) >= 2
    least = datetime.now(UTC) + timedelta(days=DAYS) - timedelta(minutes=10)
    assert {key for key, until in sink.locks().items() if until > least} >= needed
    with pytest.raises(SinkDenied, match="locked until"):
        sink.delete(max(needed))


def test_locks_of_unneeded_objects_are_not_extended(locking: Lab, sink: LockingSink) -> None:
    locking.backup({"d": noise(2 * MIB, seed=1)})
    first = needed_by_the_latest(locking)
    sink.age(20)
    locking.backup({"d": noise(2 * MIB, seed=2)})
    left = first - needed_by_the_latest(locking)
    assert {key.partition("/")[0] for key in left} == {"packs", "sessions", "snapshots", "index"}
    assert all(sink.locks()[key] < datetime.now(UTC) + timedelta(days=DAYS / 2) for key in left)


def test_a_host_extends_a_lock_again_only_when_due(tmp_path: Path, sink: LockingSink) -> None:
    faulty = FaultySink(sink)
    lab = Lab(tmp_path, faulty)

    def lengthened() -> set[str]:
        before = len(faulty.calls)
        lab.backup({"d": OLD})
        return {key.partition("/")[0] for method, key in faulty.calls[before:] if method == "retain"}

    assert lengthened() == {"penstock.json", "grants", "slots", "packs", "sessions", "index"}
    assert lengthened() == {"sessions"}, "its own"


def test_a_lock_that_ends_just_with_the_snapshot_is_extended_too(tmp_path: Path, sink: LockingSink) -> None:
    """The snapshot is put a moment after the locks were looked at, and lives as long from then on."""
    lab = Lab(tmp_path, sink)
    lab.backup({"d": OLD})
    with (
        Cache(lab.cache, lab.open().id, sink.location, on_trouble=pytest.fail) as cache,
        Workers(2, "test", sink.stop) as workers,
    ):
        now = datetime.now(UTC)
        packs = [info.key for info in sink.list(layout.PACKS)]
        cache.add_locks(packs, now + timedelta(days=DAYS, minutes=10))
        before = sink.locks()
        assert prolong_locks(lab.open(), cache, packs, workers) == []
        assert all(sink.locks()[key] > max(before[key], now + timedelta(days=DAYS + 1)) for key in packs)


def test_nothing_is_committed_when_a_lock_cannot_be_extended(tmp_path: Path, sink: LockingSink) -> None:
    faulty = FaultySink(sink)
    lab = Lab(tmp_path, faulty)
    first = lab.backup({"d": OLD}).snapshot
    faulty.add(Fail("retain", prefix=layout.PACKS, error=SinkDenied))
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
    (session,) = find_snapshot(lab.open(), "latest").catalogue.sessions

    def retain(key: str, until: datetime) -> None:
        if key == layout.session_key(session):
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


def test_a_repository_that_lost_its_log_of_grants_takes_no_snapshot(locking: Lab, sink: LockingSink) -> None:
    repository = locking.open()
    del sink._objects[layout.grant_key(1)]
    with pytest.raises(MissingObject, match=layout.grant_key(1)):
        locking.backup({"d": OLD}, by=repository)
    assert not list(sink.list(layout.SNAPSHOTS))


def test_a_sink_without_object_lock_is_never_asked_to_lock(tmp_path: Path) -> None:
    faulty = FaultySink(MemorySink())
    lab = Lab(tmp_path, faulty)
    lab.backup({"d": OLD})
    lab.backup({"d": OLD})
    assert not [key for method, key in faulty.calls if method == "retain"]
    with pytest.raises(SinkError, match="locks no objects"):
        faulty.retain(layout.CONFIG, datetime.now(UTC))
