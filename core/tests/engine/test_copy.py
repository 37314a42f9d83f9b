"""Copies: snapshots of one owner, stored again under the keys of another."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import pytest
from core.tests.engine.nightly import Nightly, after, joined, rows, stored_in_segments
from core.tests.repository.hanging_sink import HangingSink, stop_when_it_hangs
from core.tests.repository.lab import KIB, MIB, BytesSource, Lab, noise

from penstock.api import (
    Dump,
    Event,
    EventKind,
    Interrupted,
    LeftOut,
    MissingObject,
    NotCopied,
    RoleForbids,
    SinkFull,
    SinkUnreachable,
    StreamSpec,
    UsageError,
)
from penstock.engine import Copying, CopyResult, replicate, tag
from penstock.engine.forget import plan_forget
from penstock.format.manifest import Manifest, StreamRecord
from penstock.repository import Repository, SnapshotEntry
from penstock.repository.pool import Workers
from penstock.repository.read.reader import SnapshotReader
from penstock.repository.snapshots import list_snapshots
from penstock.repository.trust.keyring import add_maintainer, add_writer
from penstock.repository.upkeep.marks import judge, read_marks
from penstock.repository.upkeep.retention import Policy
from penstock.testing import Die, Died, Fail, FaultySink, MemorySink
from penstock.testing.memory import MemorySettings

pytestmark = pytest.mark.slow


@pytest.fixture
def other(tmp_path: Path) -> Lab:
    """The repository of another owner, on a host with a cache of its own."""
    return Lab(tmp_path / "other", Elsewhere())


class Elsewhere(MemorySink):
    """Another place than the original's."""

    location = "elsewhere"


@contextmanager
def copying(lab: Lab, other: Lab, by: Repository | None = None, memory: int = 128 * MIB) -> Iterator[Copying]:
    """From the one into the other; `by` is the other one, opened in another way."""
    with Copying(lab.open(), by or other.open(), cache_dir=other.cache, memory=memory) as ready:
        yield ready


def copied(ready: Copying, lab: Lab, snapshot: str = "latest") -> CopyResult:
    return ready.copy(lab.find(snapshot), listener=lab.events.append)


def copy(lab: Lab, other: Lab, snapshot: str = "latest", by: Repository | None = None) -> CopyResult:
    with copying(lab, other, by) as ready:
        return copied(ready, lab, snapshot)


def manifest_of(entry: SnapshotEntry) -> Manifest:
    with SnapshotReader(entry) as reader:
        return reader.manifest


def without_recipe(record: StreamRecord) -> StreamRecord:
    return replace(record, recipe=())


class Told(BytesSource):
    """Says more of its streams than their bytes."""

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        with super().dump() as whole:
            specs = (
                StreamSpec("b", "pages", 1, None, False, {"page": "4096"}),
                StreamSpec("a", "rows", 0, None, True, {}, b"\n"),
            )
            lost = LeftOut("view", "v", "it does not work")
            seen = replace(whole.plan.inspection, warnings=("a warning",), left_out=(lost,))
            yield Dump(replace(whole.plan, streams=specs, inspection=seen), self.attach)


def test_a_copy_restores_with_the_other_owners_key_alone(lab: Lab, other: Lab) -> None:
    content = {"d": noise(5 * MIB, 1), "e": b"", "f": noise(300 * KIB, 2) * 3}
    made = lab.backup(content)
    result = copy(lab, other)
    assert (result.entry.id, result.there, result.warnings) == (made.snapshot, False, ())
    assert result.copy != made.snapshot
    lab.sink = MemorySink()  # gone
    assert other.restored(result.copy.hex()) == content
    assert not other.check().findings


def test_a_copy_says_what_its_original_says(lab: Lab, other: Lab) -> None:
    lab.backup(Told({"a": b"1\n2\n", "b": noise(KIB)}), name="shop", tags=["monthly"])
    tag(lab.find("latest"), add=["release"], remove=["monthly"])
    copy(lab, other)
    original, found = lab.find("latest"), other.find("latest:shop")
    of_both = ("backup", "source", "host", "started", "finished", "size", "streams")
    assert [getattr(found.head, name) for name in of_both] == [getattr(original.head, name) for name in of_both]
    assert found.head.tags == ("release",)
    before, now = manifest_of(original), manifest_of(found)
    assert list(map(without_recipe, now.streams)) == list(map(without_recipe, before.streams))
    assert [one.separator for one in now.streams] == [b"", b"\n"]
    assert (now.consistency, now.inspection) == (before.consistency, before.inspection)
    assert now.inspection["left_out"]


def test_what_is_there_is_not_copied_again(lab: Lab, other: Lab) -> None:
    lab.backup({"d": noise(MIB)})
    first = copy(lab, other)
    before = other.keys()
    again = copy(lab, other)
    assert (again.copy, again.there, again.dated, again.stored) == (first.copy, True, True, 0)
    assert other.keys() == before
    with copying(lab, other) as ready:
        assert copied(ready, lab).there
        lab.backup({"d": noise(MIB, 1)})
        assert [copied(ready, lab).there for _ in range(2)] == [False, True]


def test_a_copy_that_was_found_bad_is_made_anew(lab: Lab, other: Lab) -> None:
    lab.backup({"d": noise(MIB)})
    first = copy(lab, other)
    judge(other.domain, {first.copy: other.find("latest").digest}, "a check found it damaged")
    again = copy(lab, other)
    assert not again.there
    assert again.copy != first.copy


def test_nights_are_as_small_there_as_they_were(lab: Lab, other: Lab) -> None:
    table = rows(20000)
    sizes = []
    for night in range(3):
        lab.backup(joined(after(table, night)))
        before = set(other.keys(other.at.packs))
        assert copy(lab, other).stored > 0
        sizes.append(sum(info.size for info in other.sink.list(other.at.packs) if info.key not in before))
    assert other.restored() == {"d": b"".join(after(table, 2))}
    assert max(sizes[1:]) < sizes[0] / 20


def test_a_backup_that_goes_on_there_finds_the_rows_of_the_copy(lab: Lab, other: Lab) -> None:
    table = rows(20000)
    lab.backup(joined(table))
    copy(lab, other)
    other.forget_past()
    # Chunks are cut where a backup cuts them: where rows end.
    assert stored_in_segments(other, joined(after(table, 1))) < len(b"".join(table)) / 20
    assert other.find("latest").head.parent is not None


def test_damaged_data_is_never_a_snapshot_there(lab: Lab, other: Lab) -> None:
    good = lab.backup({"a": noise(300 * KIB, 1)})
    before = lab.keys()
    bad = lab.backup({"a": noise(300 * KIB, 2), "b": noise(MIB, 3)})
    (pack,) = (key for key in lab.keys(lab.at.packs) - before)
    lab.flip(pack, 600 * KIB)
    with copying(lab, other) as ready:
        with pytest.raises(NotCopied, match=bad.snapshot.hex()[:8]) as caught:
            copied(ready, lab, bad.snapshot.hex())
        assert pack in str(caught.value)
        assert not other.keys(other.at.snapshots)
        copied(ready, lab, good.snapshot.hex())
    assert other.restored() == {"a": noise(300 * KIB, 1)}
    assert not other.check().findings


def test_what_lacks_a_pack_does_not_even_begin(lab: Lab, other: Lab) -> None:
    lab.backup({"a": noise(300 * KIB)})
    (pack,) = lab.keys(lab.at.packs)
    lab.sink.delete(pack)
    before = other.keys()
    with pytest.raises(NotCopied, match="the pack is gone"):
        copy(lab, other)
    assert other.keys() == before


def test_what_was_stored_is_compared_once_more(lab: Lab, other: Lab) -> None:
    lab.backup({"a": b"what was dumped"})

    def wrong(_: SnapshotReader, record: StreamRecord) -> Iterator[memoryview]:
        yield memoryview(b"something else.")

    with (
        patch.object(SnapshotReader, "blocks", wrong),
        pytest.raises(NotCopied, match="what was stored is not what was dumped"),
    ):
        copy(lab, other)
    assert not other.keys(other.at.snapshots)


def test_what_the_other_repository_lost_meanwhile_is_no_damage_of_the_original(lab: Lab, other: Lab) -> None:
    lab.backup({"a": noise(MIB)})
    copy(lab, other)
    lab.backup({"a": noise(MIB) + b"more"})

    def lose(event: Event) -> None:
        if event.phase == "committing" and event.kind is EventKind.PHASE:
            other.sink.delete(min(other.keys(other.at.packs)))

    with copying(lab, other) as ready, pytest.raises(MissingObject, match="an object that this backup relied on"):
        ready.copy(lab.find("latest"), listener=lose)
    assert len(other.keys(other.at.snapshots)) == 1


def test_a_full_store_leaves_no_copy(lab: Lab, other: Lab) -> None:
    lab.backup({"a": noise(40 * MIB)})
    full = FaultySink(other.sink, Fail("put", nth=2, prefix=other.at.packs, times=None, error=SinkFull))
    with pytest.raises(SinkFull):
        copy(lab, other, by=other.open(sink=full))
    assert not other.keys(other.at.snapshots)
    copy(lab, other)
    assert other.restored() == {"a": noise(40 * MIB)}
    assert not lab.remaining_threads()


@pytest.mark.parametrize("how", ["killed", "failed", "answer lost"])
def test_whenever_it_breaks_off_what_is_there_restores_and_the_next_run_finishes(
    lab: Lab, other: Lab, tmp_path: Path, how: str
) -> None:
    content = {"d": noise(40 * KIB, 1), "e": b"same"}
    lab.backup(content)
    heads = []
    for number in range(1, 100):
        # As on a new host each time, so that the number of puts is the same.
        again = Lab(tmp_path / f"cache-{number}", FaultySink(other.sink), other.owner)
        fault = Die(after_puts=number - 1) if how == "killed" else Fail("put", nth=number, after=how == "answer lost")
        faulty = FaultySink(other.sink, fault)
        try:
            copy(lab, again, by=other.open(sink=faulty))
        except (Died, SinkUnreachable):
            heads.append(len(other.keys(other.at.snapshots)))
            if heads[-1]:
                assert other.restored() == content
                assert copy(lab, again).there
            assert not other.check().findings
        else:
            break
        for key in other.keys(other.at.prefix):
            other.sink.delete(key)
    assert len(heads) > 5
    assert heads == sorted(heads)


def test_one_that_was_killed_before_it_was_dated_is_dated_by_the_next(lab: Lab, other: Lab) -> None:
    lab.backup({"d": b"one"})
    died = FaultySink(
        other.sink,
        Die(after_puts=0),
    )
    copy(lab, other, by=add_writer_to(other))
    assert not marks_of(other)
    with pytest.raises(Died):
        copy(lab, other, by=other.open(sink=died))
    assert copy(lab, other).there
    assert marks_of(other) == 1


def add_writer_to(other: Lab, name: str = "*") -> Repository:
    """The other repository as one of its writers opens it, in the first domain."""
    return other.open(add_writer(other.open(), "copier", domain="main", names=(name,)))


def marks_of(other: Lab) -> int:
    return len(other.keys(other.at.marks))


def days(lab: Lab, *ages: int) -> list[bytes]:
    """A snapshot so many days old each, as the store has it; oldest first."""
    made = []
    for age in ages:
        when = datetime.now(UTC) - timedelta(days=age)
        with patch.object(lab.sink, "_clock", lambda when=when: when), at(when):
            made.append(lab.backup({"d": b"%d days" % age}).snapshot)
    return made


@contextmanager
def at(when: datetime) -> Iterator[None]:
    """What a host says that it is."""
    with patch("penstock.repository.write.session.now", lambda: when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")):
        yield


def forgotten(lab: Lab) -> set[bytes]:
    """What is older than the newest by more than 15 days."""
    policy = Policy(within=timedelta(days=15), at_least=1)
    plan = plan_forget(lab.open(), lambda _: policy, on_damage=lambda _: None)
    return {one.entry.id for one in plan.forgotten}


def test_retention_there_goes_by_the_time_of_the_original(lab: Lab, other: Lab) -> None:
    made = days(lab, 30, 20, 10)
    with copying(lab, other) as ready:
        results = [copied(ready, lab, one.hex()) for one in made]
    assert all(one.dated for one in results)
    assert forgotten(other) == {one.copy for one in results[:1]}


def test_a_writers_key_will_do_and_then_the_copying_counts(lab: Lab, other: Lab) -> None:
    made = days(lab, 30, 20, 10)
    with copying(lab, other, add_writer_to(other)) as ready:
        results = [copied(ready, lab, one.hex()) for one in made]
    assert not any(one.dated for one in results)
    assert not forgotten(other)
    assert other.restored() == {"d": b"10 days"}


def test_an_older_one_that_is_copied_later_is_not_the_latest(lab: Lab, other: Lab) -> None:
    made = days(lab, 30, 20, 10)
    other.backup({"d": b"made there"})
    order = [made[1], made[2], made[0]]
    with copying(lab, other) as ready:
        found = dict(zip(order, (copied(ready, lab, one.hex()).copy for one in order), strict=True))
    listed = list_snapshots(other.open())
    assert [one.id for one in listed[:3]] == [found[one] for one in made]
    assert [one.head.parent for one in listed[:3]] == [None, None, found[made[1]]]
    assert other.restored() == {"d": b"made there"}


def test_what_is_refused(lab: Lab, other: Lab) -> None:
    lab.backup({"d": b"one"})
    replica = Elsewhere()
    replicate(lab.open(), replica, listener=lab.events.append)
    writer, maintainer = add_writer(lab.open(), "host"), add_maintainer(other.open(), "ops")
    narrow = add_writer_to(other, "web*")
    for into in (lab, Lab(other.cache, replica, lab.owner)):
        with pytest.raises(UsageError, match="the same repository"):
            copy(lab, into)
    with pytest.raises(UsageError, match="at least 128 MiB"), copying(lab, other, memory=128 * MIB - 1):
        pass
    with pytest.raises(RoleForbids, match="copying a snapshot needs the owner's key"):
        Copying(lab.open(writer), other.open(), cache_dir=other.cache)
    with pytest.raises(RoleForbids, match="needs a writer key"):
        copy(lab, other, by=other.open(maintainer))
    with pytest.raises(RoleForbids, match="not granted to store a backup named shop"):
        copy(lab, other, by=narrow)
    assert not other.keys(other.at.snapshots)


def test_tags_beyond_those_that_a_snapshot_may_have_are_named(lab: Lab, other: Lab) -> None:
    lab.backup({"d": b"one"})
    tag(lab.find("latest"), add=[f"tag-{number:02}" for number in range(22)])
    result = copy(lab, other)
    assert result.warnings == ("a snapshot is stored with 20 tags at most; not copied: tag-20, tag-21",)
    with Workers(1, "penstock-test", other.sink.stop) as workers:
        found = read_marks(other.domain, workers).tags(other.find("latest"))
    assert found == {f"tag-{number:02}" for number in range(20)}


@pytest.mark.parametrize("hanging", ["get packs/", "list snapshots/", "put packs/", "put parts/"])
def test_a_stop_ends_it_though_a_store_does_not_answer(tmp_path: Path, hanging: str) -> None:
    reads = hanging.startswith("get")
    sink = HangingSink()
    lab = Lab(tmp_path / "lab", sink if reads else None)
    other = Lab(tmp_path / "other", Elsewhere() if reads else sink)
    lab.backup({"d": noise(3 * MIB)})
    sink.call = hanging
    stop_when_it_hangs(sink)
    lab.sink.stop = other.sink.stop = sink.stop
    try:
        with pytest.raises(Interrupted):
            copy(lab, other)
    finally:
        sink.let_go.set()
    assert not lab.remaining_threads(interrupted=True)
    assert not other.keys(other.at.snapshots)


def test_progress_is_that_of_the_bytes(lab: Lab, other: Lab) -> None:
    lab.backup({"a": noise(5 * MIB), "b": noise(MIB)})
    copy(lab, other)
    told = [event for event in lab.events if event.operation == "copy"]
    phases = [event.phase for event in told if event.kind is EventKind.PHASE]
    assert phases == ["preparing", "copying", "committing"]
    done = [(event.done, event.total) for event in told if event.kind is EventKind.PROGRESS]
    assert done == sorted(done)
    assert done[-1] == (6 * MIB, 6 * MIB)


def test_in_a_store_that_locks_a_copy_is_locked_as_a_backup_is(lab: Lab, tmp_path: Path) -> None:
    locking = Lab(tmp_path / "locking", Elsewhere(MemorySettings(object_lock_days=7)))
    lab.backup(Nightly({"d": b"".join(rows(500))}))
    copy(lab, locking)
    locks = locking.sink.locks()  # type: ignore[attr-defined]
    assert locks.keys() >= locking.keys(locking.at.packs) | locking.keys(locking.at.snapshots)
