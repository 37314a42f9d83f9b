"""Replicas: copied in an order that can be restored at every moment, verified, and never further than they may go."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from core.tests.repository.forging import compacted, end_of, put_index
from core.tests.repository.hanging_sink import HangingSink, stop_when_it_hangs
from core.tests.repository.lab import KIB, MIB, PASSPHRASE, Lab, noise

from penstock.api import (
    NEVER,
    DamagedObject,
    Interrupted,
    ObjectInfo,
    OtherHistory,
    OtherRepository,
    RepositoryExists,
    RepositoryMissing,
    RoleForbids,
    Secret,
    Sink,
    SinkDenied,
    SinkError,
    SinkFull,
    SinkUnreachable,
    UsageError,
    WrongKey,
    WrongPassphrase,
)
from penstock.engine import ReplicaReport, hold, release, replicate, tag
from penstock.engine.forget import forget, plan_forget, undelete
from penstock.engine.giving_up import find_gone, find_unreadable, forget_gone, forget_unreadable
from penstock.format.notice import Action, Deletion, Notice, Things, Tombstone
from penstock.format.pack import SegmentId
from penstock.format.part import Key
from penstock.format.times import now
from penstock.repository import Access, SnapshotEntry, layout
from penstock.repository.pool import Workers
from penstock.repository.read.content import each_row, parts_of
from penstock.repository.said import put_said
from penstock.repository.snapshots import list_snapshots
from penstock.repository.trust.keyring import add_maintainer, add_slot, add_writer, revoke
from penstock.repository.upkeep.marks import Marks, read_marks
from penstock.repository.upkeep.retention import Policy
from penstock.testing import Die, Died, Fail, FaultySink, MemorySink
from penstock.testing.memory import MemorySettings

pytestmark = pytest.mark.slow


class Elsewhere(MemorySink):
    """Another place than the original's."""

    location = "elsewhere"


class HangingElsewhere(HangingSink):
    """Another place, which does not answer."""

    location = "elsewhere"


def copy(
    lab: Lab, target: Sink, by: Access | None = None, sink: Sink | None = None, cache: Path | None = None
) -> ReplicaReport:
    return replicate(lab.open(by, sink), target, cache_dir=cache, memory=64 * MIB, listener=lab.events.append)


def replica(lab: Lab, target: Sink, folder: Path | None = None) -> Lab:
    """The replica as a repository, on a host with this cache."""
    return Lab(folder or lab.cache.parent / "another", target, lab.owner)


def test_a_replica_restores_as_the_original_does(lab: Lab) -> None:
    a, b = noise(3 * MIB, 1), noise(300 * KIB, 2)
    first = lab.backup({"d": a})
    second = lab.backup({"d": a + b, "e": b})
    maintainer = add_maintainer(lab.open(), "ops")
    target = Elsewhere()
    report = copy(lab, target, maintainer)
    assert report.whole
    assert report.copied == (first.snapshot, second.snapshot)
    other = replica(lab, target)
    assert other.restored(first.snapshot.hex()) == {"d": a}
    assert other.restored() == {"d": a + b, "e": b}
    assert not other.check().findings
    assert other.keys() - other.keys(other.at.marks) <= lab.keys()
    assert all(target.get(key) == lab.sink.get(key) for key in other.keys() & lab.keys())

    again = copy(lab, target, maintainer)
    assert (again.copied, again.there, again.objects, again.bytes) == ((), 2, 0, 0)

    backed = lab.backup({"d": a + b + b"more"})
    later = copy(lab, target, maintainer)
    assert (later.copied, later.there) == ((backed.snapshot,), 2)
    assert other.restored() == {"d": a + b + b"more"}


def test_a_host_that_knows_the_original_finds_nothing_amiss_in_the_replica(lab: Lab) -> None:
    lab.backup({"d": b"one"})
    lab.backup({"d": b"two"})
    assert not lab.check(cache=lab.cache).findings
    target = Elsewhere()
    copy(lab, target)
    other = replica(lab, target, lab.cache)
    assert not other.check(cache=lab.cache).findings
    other.find("latest", cache=lab.cache)
    assert not other.warnings
    assert not lab.check(cache=lab.cache).findings


def every_head_restores(lab: Lab, target: Sink, expected: dict[bytes, dict[str, bytes]]) -> int:
    """How many there are; none where the target is no repository yet."""
    try:
        other = replica(lab, target)
    except RepositoryMissing:
        return 0
    found = list_snapshots(other.open())
    for entry in found:
        assert other.restored(entry.id.hex()) == expected[entry.id]
    assert len(found) == len(other.keys(other.at.snapshots))
    assert not other.check().findings
    return len(found)


@pytest.mark.parametrize("how", ["killed", "failed", "answer lost"])
def test_whenever_it_breaks_off_what_is_there_restores_and_the_next_run_finishes(lab: Lab, how: str) -> None:
    expected = {}
    for night in range(2):
        content = {"d": noise(40 * KIB, night) + noise(40 * KIB, 9), "e": b"same"}
        expected[lab.backup(content).snapshot] = content
    tag(lab.find("latest"), add=["release"])
    heads = []
    for number in range(1, 100):
        inner = Elsewhere()
        fault = Die(after_puts=number - 1) if how == "killed" else Fail("put", nth=number, after=how == "answer lost")
        faulty = FaultySink(inner, fault)
        try:
            copy(lab, faulty)
        except (Died, SinkUnreachable):
            heads.append(every_head_restores(lab, inner, expected))
            assert copy(lab, inner).whole
            assert every_head_restores(lab, inner, expected) == 2
            assert copy(lab, inner).objects == 0
        else:
            break
    assert len(heads) > 15
    assert heads == sorted(heads)


def flip_all(lab: Lab, prefix: str) -> None:
    for key in lab.keys(prefix):
        lab.flip(key, len(lab.sink.get(key)) // 2)


@pytest.mark.parametrize("folder", ["sessions", "packs", "parts", "snapshots"])
@pytest.mark.parametrize("gone", [False, True])
def test_damage_is_named_and_not_copied(lab: Lab, folder: str, gone: bool) -> None:
    first = lab.backup({"d": noise(50 * KIB, 1)}, name="a")
    before = lab.keys()
    second = lab.backup({"d": noise(50 * KIB, 2)}, name="b")
    (key, *_) = sorted(lab.keys(f"{lab.at.prefix}{folder}/") - before)
    if gone:
        lab.sink.delete(key)
    else:
        lab.flip(key, len(lab.sink.get(key)) // 2)
    target = Elsewhere()
    report = copy(lab, target)
    other = replica(lab, target)
    assert report.copied == (first.snapshot,)
    assert not other.keys(key)
    assert other.restored(first.snapshot.hex()) == {"d": noise(50 * KIB, 1)}
    if folder == "snapshots":  # nobody can say which it was
        assert [one.key for one in report.damaged] == ([] if gone else [key])
        return
    assert not report.whole
    assert [one.key for one in report.damaged] == [key]
    assert [one.snapshot for one in report.left_out] == [second.snapshot]
    assert key in report.left_out[0].reason
    assert not copy(lab, target).whole  # nor is it forgotten


def test_a_damaged_index_object_keeps_no_snapshot_back(lab: Lab) -> None:
    made = lab.backup({"d": noise(50 * KIB, 1)})
    (key,) = lab.keys(lab.at.index)
    lab.flip(key, 60)
    target = Elsewhere()
    report = copy(lab, target)
    assert (report.copied, [one.key for one in report.damaged]) == ((made.snapshot,), [key])
    assert replica(lab, target).restored() == {"d": noise(50 * KIB, 1)}


def test_what_was_mended_is_copied_then(lab: Lab) -> None:
    lab.backup({"d": noise(50 * KIB, 1)})
    (key,) = lab.keys(lab.at.packs)
    good = lab.sink.get(key)
    lab.flip(key, 1000)
    target = Elsewhere()
    assert copy(lab, target).copied == ()
    lab.sink.put(key, good)
    assert copy(lab, target).whole
    assert replica(lab, target).restored() == {"d": noise(50 * KIB, 1)}


def test_an_object_of_another_size_at_the_target_is_replaced(lab: Lab) -> None:
    lab.backup({"d": noise(50 * KIB, 1)})
    target = Elsewhere()
    copy(lab, target)
    (pack,) = lab.keys(lab.at.packs)
    (head,) = lab.keys(lab.at.snapshots)
    target.put(pack, target.get(pack)[:-9])
    target.delete(head)
    assert copy(lab, target).whole
    assert replica(lab, target).restored() == {"d": noise(50 * KIB, 1)}


def plan_all_but_the_last(other: Lab) -> list[SnapshotEntry]:
    plan = plan_forget(other.open(), lambda _: Policy(last=1, at_least=1), on_damage=lambda _: None)
    return [one.entry for one in plan.forgotten]


def test_what_the_replica_forgot_stays_forgotten(lab: Lab) -> None:
    for night in range(3):
        lab.backup({"d": noise(30 * KIB, night)})
    target = Elsewhere()
    copy(lab, target)
    other = replica(lab, target)
    let_go = plan_all_but_the_last(other)
    forget(other.open(), let_go)
    report = copy(lab, target)
    assert (report.copied, report.objects, report.there, report.forgotten) == ((), 0, 3, 0)
    # Its prune deletes them.
    named = {entry.id: entry.digest for entry in let_go}
    needed = {row.pack for entry in let_go for row in each_row(entry)}
    put_said(other.domain, Deletion(now(), Action.DELETE, named, Things(packs=tuple(needed))))
    for entry in let_go:
        target.delete(lab.at.snapshot_key(entry.id))
    for pack in needed:
        target.delete(lab.at.pack_key(pack))
    report = copy(lab, target)
    assert (report.copied, report.objects, report.there, report.forgotten) == ((), 0, 1, 2)
    assert report.whole
    assert other.restored() == {"d": noise(30 * KIB, 2)}


def test_what_the_original_forgets_stays_in_the_replica(lab: Lab) -> None:
    first = lab.backup({"d": b"one"})
    lab.backup({"d": b"two"})
    target = Elsewhere()
    copy(lab, target)
    forget(lab.open(), [lab.find(first.snapshot.hex())])
    assert copy(lab, target).whole
    lab.sink.delete(lab.at.snapshot_key(first.snapshot))
    assert copy(lab, target).whole
    assert replica(lab, target).restored(first.snapshot.hex()) == {"d": b"one"}


def test_nobody_misses_what_the_original_had_forgotten_before(lab: Lab) -> None:
    first = lab.backup({"d": b"one"})
    lab.backup({"d": b"two"})
    forget(lab.open(), [lab.find(first.snapshot.hex())])
    target = Elsewhere()
    assert len(copy(lab, target).copied) == 1
    other = replica(lab, target)
    assert not other.check().findings
    assert copy(lab, target).objects == 0
    # It is taken back, there: then it comes.
    undelete(lab.open(), [first.snapshot.hex()])
    report = copy(lab, target)
    assert report.copied == (first.snapshot,)
    assert other.restored(first.snapshot.hex()) == {"d": b"one"}
    assert not other.check().findings


def test_nobody_misses_what_was_given_up_in_the_original(lab: Lab) -> None:
    damaged, lost, _ = (lab.backup({"d": noise(KIB, night)}).snapshot for night in range(3))
    lab.flip(lab.at.snapshot_key(damaged), 100)
    lab.sink.delete(lab.at.snapshot_key(lost))
    target = Elsewhere(MemorySettings())
    copy(lab, target)
    assert replica(lab, target).check().findings
    heads = [find_unreadable(lab.open(), damaged.hex())]
    forget_unreadable(lab.open(), heads)
    forget_gone(lab.open(), find_gone(lab.open()))
    assert not lab.check().findings
    copy(lab, target)
    assert not replica(lab, target).check().findings
    before = set(target.contents())
    copy(lab, target)
    assert set(target.contents()) == before, "said once"


def test_the_owners_log_grows(lab: Lab) -> None:
    lab.backup({"d": b"one"})
    target = Elsewhere()
    copy(lab, target)
    maintainer = add_maintainer(lab.open(), "ops")
    with pytest.raises(WrongKey):
        lab.open(maintainer, target)
    copy(lab, target, maintainer)
    assert lab.open(maintainer, target).log.digests == lab.open().log.digests


def test_a_passphrase_that_was_revoked_opens_no_replica(lab: Lab) -> None:
    target = Elsewhere()
    copy(lab, target)
    assert lab.open(PASSPHRASE, target).id == lab.repository.id
    (old,) = (one.removeprefix(layout.SLOTS) for one in lab.keys(layout.SLOTS))
    second = Secret("another horse")
    add_slot(lab.open(), second, "second")
    revoke(lab.open(), bytes.fromhex(old))
    copy(lab, target)
    assert layout.SLOTS + old not in {info.key for info in target.list()}
    with pytest.raises(WrongPassphrase):
        lab.open(PASSPHRASE, target)
    assert lab.open(second, target).id == lab.repository.id


def test_of_a_revoked_writer_what_is_kept_is_copied(lab: Lab) -> None:
    writer = add_writer(lab.open(), "host", domain="main")
    kept = lab.backup({"d": b"good"}, by=lab.open(writer))
    lost = lab.backup({"d": b"forged"}, by=lab.open(writer))
    target = Elsewhere()
    revoke(lab.open(), writer.key, without=[lost.snapshot])
    report = copy(lab, target)
    assert report.whole
    assert report.copied == (kept.snapshot,)
    other = replica(lab, target)
    assert other.restored() == {"d": b"good"}
    assert not other.check().findings


def test_all_domains_are_copied(lab: Lab) -> None:
    lab.backup({"d": b"main"})
    writer = add_writer(lab.open(), "other")
    made = lab.backup({"d": b"other"}, by=lab.open(writer), cache=lab.cache.parent / "theirs")
    target = Elsewhere()
    assert len(copy(lab, target).copied) == 2
    other = replica(lab, target)
    assert other.restored(made.snapshot.hex()) == {"d": b"other"}
    assert not other.check().findings


def test_tags_holds_and_times_go_with_it(lab: Lab) -> None:
    first = lab.backup({"d": b"one"})
    second = lab.backup({"d": b"two"})
    tag(lab.find(first.snapshot.hex()), add=["release"])
    hold(lab.find(second.snapshot.hex()), "audit")
    target = Elsewhere()
    copy(lab, target)
    other = replica(lab, target)
    one, two = (other.find(made.snapshot.hex()) for made in (first, second))
    found = marks_of(other)
    assert found.tags(one) == {"release"}
    assert [held.reason for held in found.holds(two)] == ["audit"]
    for entry in (one, two):
        assert found.dated(entry).modified == lab.find(entry.id.hex()).modified != entry.modified
    release(lab.find(second.snapshot.hex()), "done")
    tag(lab.find(first.snapshot.hex()), remove=["release"])
    copy(lab, target)
    found = marks_of(other)
    assert not found.tags(one)
    assert not found.holds(two)


def marks_of(lab: Lab) -> Marks:
    with Workers(2, "test", lab.sink.stop) as workers:
        return read_marks(lab.domain, workers)


def test_times_are_said_again_when_the_key_that_said_them_is_revoked(lab: Lab) -> None:
    maintainer = add_maintainer(lab.open(), "ops")
    lab.backup({"d": b"one"})
    target = Elsewhere()
    copy(lab, target, maintainer)
    revoke(lab.open(), maintainer.key)
    report = copy(lab, target)
    assert (report.copied, report.there) == ((), 1)
    assert len(marks_of(replica(lab, target)).written) == 1
    assert copy(lab, target).objects == 0


def test_a_replica_of_a_replica_keeps_the_first_times(lab: Lab) -> None:
    made = lab.backup({"d": b"one"})
    target, third = Elsewhere(), MemorySink()
    copy(lab, target)
    other = replica(lab, target)
    assert copy(other, third).whole
    last = replica(lab, third)
    assert last.restored() == {"d": b"one"}
    assert marks_of(last).written == marks_of(other).written
    assert marks_of(last).dated(last.find("latest")).modified == lab.find(made.snapshot.hex()).modified


def test_a_void_snapshot_is_void_there_too(lab: Lab) -> None:
    made = lab.find(lab.backup({"d": b"one"}).snapshot.hex())
    lab.backup({"d": b"two"})
    target = Elsewhere()
    copy(lab, target)
    put_said(lab.domain, Notice(now(), {}, {made.id: made.digest}))
    put_said(lab.domain, Notice(now(), {bytes(16): "damaged"}, {}))
    assert copy(lab, target).objects == 1
    assert len(list_snapshots(replica(lab, target).open())) == 1


def test_what_the_replica_is_about_to_delete_is_not_relied_on(lab: Lab) -> None:
    lab.backup({"d": noise(50 * KIB, 1)})
    target = Elsewhere()
    copy(lab, target)
    other = replica(lab, target)
    (pack,) = (layout.id_of(key) for key in other.keys(other.at.packs))
    tombstone = put_said(other.domain, Tombstone(now(), Things(packs=(pack,))))
    made = lab.backup({"d": noise(50 * KIB, 1)})
    report = copy(lab, target)
    assert [one.snapshot for one in report.left_out] == [made.snapshot]
    assert "about to delete" in report.left_out[0].reason
    target.delete(lab.at.tombstone_key(tombstone))
    target.delete(lab.at.pack_key(pack))
    assert copy(lab, target).copied == (made.snapshot,)
    assert other.restored() == {"d": noise(50 * KIB, 1)}


def test_a_writers_key_replicates_nothing(lab: Lab) -> None:
    with pytest.raises(RoleForbids):
        copy(lab, Elsewhere(), add_writer(lab.open(), "host"))


def test_another_repository_is_no_target(lab: Lab) -> None:
    target = Elsewhere()
    Lab(lab.cache.parent / "another", target)
    before = target.contents()
    with pytest.raises(OtherRepository):
        copy(lab, target)
    assert target.contents() == before


def test_a_place_with_other_objects_is_no_target(lab: Lab) -> None:
    target = Elsewhere()
    target.put("holiday.jpg", b"x")
    with pytest.raises(RepositoryExists):
        copy(lab, target)
    with pytest.raises(UsageError):
        copy(lab, lab.sink)


def test_a_forged_config_is_damage(lab: Lab) -> None:
    target = Elsewhere()
    copy(lab, target)
    target.put(layout.CONFIG, target.get(layout.CONFIG) + b"x")
    with pytest.raises(DamagedObject):
        copy(lab, target)


def test_a_log_that_went_on_there_is_another_history(lab: Lab) -> None:
    target = Elsewhere()
    copy(lab, target)
    add_maintainer(lab.open(sink=target), "elsewhere")
    before = target.contents()
    with pytest.raises(OtherHistory):
        copy(lab, target)
    assert target.contents() == before


def test_backups_into_the_replica_are_another_history(lab: Lab) -> None:
    target = Elsewhere()
    copy(lab, target)
    other = replica(lab, target)
    other.backup({"d": b"there"})
    before = target.contents()
    with pytest.raises(OtherHistory):
        copy(lab, target)
    assert target.contents() == before


def test_what_a_stranger_put_there_is_nobodys_history(lab: Lab) -> None:
    lab.backup({"d": b"one"})
    target = Elsewhere()
    copy(lab, target)
    target.put(lab.at.snapshot_key(bytes(16)), b"junk")
    target.put(layout.grant_key(bytes(16)), b"junk")
    assert copy(lab, target).whole


def test_what_is_pruned_meanwhile_is_not_missed(lab: Lab) -> None:
    going = lab.find(lab.backup({"d": noise(50 * KIB, 1)}, name="a").snapshot.hex())
    staying = lab.backup({"d": noise(50 * KIB, 2)}, name="b")
    packs = {lab.at.pack_key(row.pack) for row in each_row(going)}

    class Pruned(FaultySink):
        """Deletes a snapshot and its packs as the first of them is read."""

        def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
            if key in packs:
                put_said(lab.domain, Deletion(now(), Action.DELETE, {going.id: going.digest}))
                for one in [lab.at.snapshot_key(going.id), *packs]:
                    self.inner.delete(one)
                packs.clear()
            return super().get(key, start=start, length=length)

    target = Elsewhere()
    report = copy(lab, target, sink=Pruned(lab.sink))
    assert report.whole
    assert report.copied == (staying.snapshot,)
    other = replica(lab, target)
    assert other.restored() == {"d": noise(50 * KIB, 2)}
    assert copy(lab, target).whole
    assert not other.check().findings


def compact(lab: Lab, pack: str, *, index: bool, without: tuple[SegmentId, ...] = ()) -> str:
    """Put a pack with copies of another's segments, as compaction does; its key."""
    made = compacted(lab.domain, [pack], lab.owner, without=without)
    lab.sink.put(lab.at.pack_key(made.pack), made.data)
    if index:
        put_index(lab.domain, [made.summary], lab.owner)
    return lab.at.pack_key(made.pack)


@pytest.mark.parametrize("index", [True, False], ids=["with an index", "without an index"])
@pytest.mark.parametrize("how", ["gone", "damaged"])
def test_where_a_pack_is_gone_those_with_copies_are_copied(lab: Lab, index: bool, how: str) -> None:
    content = noise(5 * MIB, 1)
    lab.backup({"d": content})
    (pack,) = lab.keys(lab.at.packs)
    one, *others = [place.id for place in end_of(lab.domain, pack).places.places]
    halves = {
        compact(lab, pack, index=index, without=(one,)),
        compact(lab, pack, index=index, without=tuple(others)),
    }
    if how == "gone":
        put_said(lab.domain, Deletion(now(), Action.DELETE, {}, Things(packs=(layout.id_of(pack),))))
        lab.sink.delete(pack)
    else:
        lab.flip(pack, 5000)
    target = Elsewhere()
    report = copy(lab, target)
    other = replica(lab, target)
    assert len(report.copied) == 1
    assert other.keys(other.at.packs) == halves
    assert other.restored() == {"d": content}
    if how == "gone":
        assert report.whole
        assert not other.check().findings
    else:
        assert [finding.key for finding in report.damaged] == [pack]
    assert copy(lab, target).objects == 0


def test_where_copies_do_not_hold_all_that_is_needed_a_snapshot_is_left_out(lab: Lab) -> None:
    lab.backup({"d": noise(5 * MIB, 1)})
    (pack,) = lab.keys(lab.at.packs)
    one, *_ = [place.id for place in end_of(lab.domain, pack).places.places]
    half = compact(lab, pack, index=True, without=(one,))
    lab.sink.delete(pack)
    target = Elsewhere()
    report = copy(lab, target)
    assert (len(report.copied), len(report.left_out)) == (0, 1)
    assert pack in report.left_out[0].reason
    lab.sink.delete(half)
    assert len(copy(lab, target).left_out) == 1


def test_a_damaged_pack_with_copies_is_not_copied(lab: Lab) -> None:
    lab.backup({"d": noise(5 * MIB, 1)})
    (pack,) = lab.keys(lab.at.packs)
    half = compact(lab, pack, index=True)
    lab.sink.delete(pack)
    lab.flip(half, 5000)
    target = Elsewhere()
    report = copy(lab, target)
    assert (len(report.copied), len(report.left_out)) == (0, 1)
    assert not replica(lab, target).keys(lab.at.packs)


def test_two_runs_at_once_copy_into_one_place(lab: Lab) -> None:
    """The second begins when the first has listed everything, and ends before the first copies its first pack."""
    content = {"d": noise(50 * KIB, 1)}
    lab.backup(content)
    target = Elsewhere()

    class Overtaken(FaultySink):
        def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
            if key.startswith(lab.at.packs):
                copy(lab, target)
            super().put(key, data, if_absent=if_absent)

    assert copy(lab, Overtaken(target)).whole
    assert replica(lab, target).restored() == content
    assert copy(lab, target).objects == 0


def test_a_sink_that_cannot_put_conditionally_will_do(lab: Lab) -> None:
    class Simple(Elsewhere):
        possible_capabilities = frozenset()

    lab.backup({"d": b"one"})
    target = Simple()
    assert copy(lab, target).whole
    assert replica(lab, target).restored() == {"d": b"one"}


def test_nothing_is_read_twice(lab: Lab) -> None:
    lab.backup({"d": noise(50 * KIB, 1)})
    target = Elsewhere()
    copy(lab, target)
    lab.backup({"d": noise(50 * KIB, 1) + b"more"})
    seen = FaultySink(lab.sink)
    old = {key for key in target.contents() if not key.startswith((layout.GRANTS, layout.CONFIG, lab.at.marks))}
    assert copy(lab, target, sink=seen).whole
    assert not old & {key for method, key in seen.calls if method == "get"} - lab.keys(lab.at.parts)


@pytest.mark.parametrize(
    "call", ["list", "put grants/", "put packs/", "put snapshots/", "get tombstones/", "get marks/"]
)
def test_a_stop_ends_every_wait(lab: Lab, call: str) -> None:
    lab.backup({"d": b"one"})
    target = HangingElsewhere()
    if call.startswith("get"):
        copy(lab, target)
        put_said(replica(lab, target).domain, Tombstone(now(), Things(packs=(bytes(16),))))
        lab.backup({"d": b"two"})
    target.call = call
    stop_when_it_hangs(target)
    repository = lab.open()
    repository.sink.stop = target.stop
    try:
        with pytest.raises(Interrupted):
            replicate(repository, target, memory=64 * MIB, listener=lab.events.append)
    finally:
        target.let_go.set()
        repository.sink.stop = NEVER
    assert not lab.remaining_threads(interrupted=True)


def test_who_is_granted_a_key_during_a_run_is_known(lab: Lab) -> None:
    lab.backup({"d": b"one"})

    class Granting(FaultySink):
        granted = False

        def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
            if prefix == lab.at.snapshots and not self.granted:
                self.granted = True
                writer = add_writer(lab.open(), "host", domain="main")
                lab.backup({"d": b"two"}, by=lab.open(writer), cache=lab.cache.parent / "theirs")
                add_writer(lab.open(), "a domain of its own")
            return super().list(prefix)

    target = Elsewhere()
    report = copy(lab, target, sink=Granting(lab.sink))
    assert report.whole
    assert len(report.copied) == 2
    other = replica(lab, target)
    assert other.restored() == {"d": b"two"}
    assert not other.check().findings


class Locking(Elsewhere):
    """Locks what is put for ten days."""

    def __init__(self) -> None:
        super().__init__(MemorySettings(object_lock_days=10))
        self.lengthened: list[str] = []

    def retain(self, key: str, until: datetime) -> None:
        self.lengthened.append(key)
        super().retain(key, until)

    def age(self) -> None:
        """All locks end now."""
        self._locks = dict.fromkeys(self._locks, datetime.now(UTC))


@pytest.mark.parametrize("remembers", [True, False])
def test_locks_last_as_long_as_the_newest_snapshot_that_needs_what_is_locked(lab: Lab, remembers: bool) -> None:
    cache = lab.cache if remembers else None
    lab.backup({"d": noise(50 * KIB, 1)})
    target = Locking()
    copy(lab, target, cache=cache)
    first = {key for key in target.contents() if key.startswith((lab.at.packs, lab.at.parts, lab.at.sessions))}
    assert not first & set(target.lengthened)
    target.age()
    lab.backup({"d": noise(50 * KIB, 1) + b"more"})
    copy(lab, target, cache=cache)
    needed = {ref.part for entry in [lab.find("latest")] for ref in parts_of(entry)}
    packs = {row.pack for row in each_row(lab.find("latest"))}
    keys = {*map(lab.at.part_key, needed), *map(lab.at.pack_key, packs)}
    assert packs
    assert all(target.locks()[key] > datetime.now(UTC) + timedelta(days=9) for key in keys)
    target.lengthened.clear()
    lab.backup({"d": noise(50 * KIB, 1) + b"more and more"})
    copy(lab, target, cache=cache)
    assert (layout.CONFIG in target.lengthened) is not remembers


def test_what_the_replica_lost_since_it_was_listed_is_noticed_where_it_locks(lab: Lab) -> None:
    lab.backup({"d": noise(50 * KIB, 1)})
    target = Locking()
    copy(lab, target)
    target.age()
    made = lab.backup({"d": noise(50 * KIB, 1) + b"more"})
    (old,) = (key for key in target.contents() if key.startswith(lab.at.packs))

    class Losing(FaultySink):
        def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
            self.inner.delete(old)
            super().put(key, data, if_absent=if_absent)

    assert [one.snapshot for one in copy(lab, Losing(target)).left_out] == [made.snapshot]
    assert copy(lab, target).copied == (made.snapshot,)
    assert replica(lab, target).restored() == {"d": noise(50 * KIB, 1) + b"more"}


@pytest.mark.parametrize("folder", ["packs", "parts", "sessions"])
def test_one_object_that_the_store_refuses_keeps_no_other_back(lab: Lab, folder: str) -> None:
    lab.backup({"d": noise(50 * KIB, 1)}, name="a")
    key = min(lab.keys(f"{lab.at.prefix}{folder}/"))
    second = lab.backup({"d": noise(50 * KIB, 2)}, name="b")
    refusing = FaultySink(lab.sink, Fail("get", times=None, prefix=key, error=SinkDenied))
    report = copy(lab, Elsewhere(), sink=refusing)
    assert report.copied == (second.snapshot,)
    assert [one.key for one in report.damaged] == [key]
    assert "cannot be read" in report.damaged[0].problem


@pytest.mark.parametrize("error", [SinkDenied, SinkFull, SinkUnreachable])
def test_a_replica_that_takes_nothing_ends_the_run(lab: Lab, error: type[SinkError]) -> None:
    lab.backup({"d": noise(50 * KIB, 1)})
    with pytest.raises(error):
        copy(lab, FaultySink(Elsewhere(), Fail("put", times=None, prefix=lab.at.packs, error=error)))


def test_an_original_that_does_not_answer_ends_the_run(lab: Lab) -> None:
    lab.backup({"d": noise(50 * KIB, 1)})
    with pytest.raises(SinkUnreachable):
        copy(lab, Elsewhere(), sink=FaultySink(lab.sink, Fail("get", times=None, prefix=lab.at.packs)))


@pytest.mark.parametrize("doomed", [False, True])
def test_a_snapshot_of_many_parts_is_copied(lab: Lab, monkeypatch: pytest.MonkeyPatch, doomed: bool) -> None:
    monkeypatch.setattr("penstock.repository.write.stream.ENOUGH", 0)
    for module in ("parts", "session"):
        monkeypatch.setattr(f"penstock.repository.write.{module}.MAX_PLAIN", 300)
    monkeypatch.setattr("penstock.repository.write.recipes.EXTENTS_A_BLOCK", 1)
    chance = random.Random(5)
    before = noise(6 * MIB, 3)
    after = bytearray(before)
    for _ in range(200):
        at = chance.randrange(len(before) - 8)
        after[at : at + 8] = chance.randbytes(8)
    lab.backup({"d": before})
    lab.backup({"d": bytes(after)})
    entry = lab.find("latest")
    assert any(ref.key is Key.REFS for ref in entry.head.parts)
    assert entry.head.bases
    target = Elsewhere()
    if doomed:  # of parts behind references, too
        copy(lab, target)
        *_, last = parts_of(entry)
        other = replica(lab, target)
        target.delete(lab.at.snapshot_key(entry.id))
        put_said(other.domain, Tombstone(now(), Things(parts=(last.part,))))
        assert [one.snapshot for one in copy(lab, target).left_out] == [entry.id]
        return
    assert copy(lab, target).whole
    other = replica(lab, target)
    assert other.restored() == {"d": bytes(after)}
    assert not other.check().findings
    assert copy(lab, target).objects == 0
