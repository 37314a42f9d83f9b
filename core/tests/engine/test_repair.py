"""Repair: what a replica has whole comes back as it was; what nobody has is named, marked, and stored anew."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from core.tests.repository.forging import NOW, put_notice
from core.tests.repository.lab import KIB, MIB, BytesSource, Lab, noise

from penstock.api import (
    NEVER,
    DamagedObject,
    EventKind,
    MissingObject,
    OtherRepository,
    RepositoryMissing,
    Sink,
    SinkDenied,
    UsageError,
)
from penstock.engine import RepairReport, hold, repair, replicate, tag
from penstock.format.notice import Action, Deletion, Notice, Things, Tombstone
from penstock.repository import Access, SnapshotEntry, layout
from penstock.repository.pool import Workers
from penstock.repository.read.ends import read_end
from penstock.repository.snapshots import list_snapshots
from penstock.repository.trust.keyring import add_maintainer, add_writer
from penstock.repository.upkeep.marks import judge, read_marks
from penstock.testing import Die, Died, FaultySink, MemorySink
from penstock.testing.memory import MemorySettings

pytestmark = pytest.mark.slow


class Elsewhere(MemorySink):
    """Another place than the original's."""

    location = "elsewhere"


@dataclass
class Scene:
    """A repository with two domains, its replica, and what each snapshot restores."""

    lab: Lab
    replica: MemorySink
    contents: dict[bytes, dict[str, bytes]]
    writer: Access
    maintainer: Access

    def mend(
        self,
        *,
        by: Access | None = None,
        replicas: Sequence[Sink] | None = None,
        sink: Sink | None = None,
        quick: bool = False,
        dry_run: bool = False,
    ) -> RepairReport:
        """Repair it, by default from its replica."""
        return repair(
            sink or self.lab.sink,
            by or self.lab.owner,
            replicas=[self.replica] if replicas is None else replicas,
            quick=quick,
            dry_run=dry_run,
            memory=64 * MIB,
            listener=self.lab.events.append,
        )

    def restores(self, *, without: Iterable[bytes] = ()) -> None:
        """Every snapshot but these comes out byte for byte."""
        there = {entry.id for entry in list_snapshots(self.lab.open(), on_damage=lambda _: None)}
        assert there >= self.contents.keys() - {*without}
        for snapshot, content in self.contents.items():
            if snapshot not in without:
                assert self.lab.restored(snapshot.hex()) == content


def backups(lab: Lab, writer: Access) -> dict[bytes, dict[str, bytes]]:
    contents = {}
    for night in range(3):
        content = {"d": noise(200 * KIB) + noise(60 * KIB, night), "e": noise(30 * KIB, 100 + night), "empty": b""}
        contents[lab.backup(content).snapshot] = content
        other = {"x": noise(150 * KIB, 7) + noise(30 * KIB, 50 + night)}
        cache = lab.cache.parent / "other"
        contents[lab.backup(other, name="web", by=lab.open(writer), cache=cache).snapshot] = other
    return contents


@pytest.fixture
def scene(lab: Lab) -> Scene:
    writer = add_writer(lab.repository, "web")
    maintainer = add_maintainer(lab.repository, "operations")
    contents = backups(lab, writer)
    tag(lab.find("latest"), add=["release"])
    hold(lab.find("latest:web"), "the auditors")
    put_notice(lab.domain, Notice(NOW, void={bytes(16): bytes(32)}))
    replica = Elsewhere()
    replicate(lab.open(), replica, memory=64 * MIB, listener=lab.events.append)
    return Scene(lab, replica, contents, writer, maintainer)


#: All that a repository without a prune has.
KINDS = (
    "grants", "index", "leases", "marks", "notices", "packs", "parts", "penstock.json", "sessions", "slots", "snapshots"
)  # fmt: skip


def kinds_of(keys: Iterable[str]) -> set[str]:
    return {key.split("/")[2 if key.startswith("d/") else 0] for key in keys}


def contents_of(sink: Sink) -> dict[str, bytes]:
    assert isinstance(sink, MemorySink)
    return sink.contents()


def delete(lab: Lab, key: str, chance: random.Random) -> None:
    lab.sink.delete(key)


def flip(lab: Lab, key: str, chance: random.Random) -> None:
    lab.flip(key, chance.randrange(lab.sink.stat(key).size))


def truncate(lab: Lab, key: str, chance: random.Random) -> None:
    data = lab.sink.get(key)
    lab.sink.put(key, data[: chance.randrange(len(data))])


HARMS: list[Callable[[Lab, str, random.Random], None]] = [delete, flip, truncate]


@pytest.mark.parametrize("seed", range(12))
def test_half_of_all_objects_come_back_from_a_replica(scene: Scene, seed: int) -> None:
    lab, chance = scene.lab, random.Random(seed)
    before = contents_of(lab.sink)
    assert kinds_of(before) == {*KINDS}
    harmed = sorted(chance.sample(sorted(before), len(before) // 2))
    for key in harmed:
        chance.choice(HARMS)(lab, key, chance)
    report = scene.mend()
    assert report.whole
    assert not report.distrusted
    scene.restores()
    assert not lab.check().findings
    # Byte for byte, but for what counts for nobody any more.
    gone = before.keys() - lab.keys()
    assert all("/leases/" in key for key in gone)
    assert all(lab.sink.get(key) == data for key, data in before.items() if key not in gone)
    again = scene.mend()
    assert (again.mended_count, again.indexed) == (0, 0)


def pack_of(lab: Lab, snapshot: bytes) -> str:
    """The one pack that this snapshot's run stored."""
    (entry,) = (one for one in list_snapshots(lab.open()) if one.id == snapshot)
    return pack_of_session(lab, entry)


def pack_of_session(lab: Lab, entry: SnapshotEntry) -> str:
    domain = entry.domain
    found = []
    for info in lab.sink.list(domain.at.packs):
        end = read_end(domain, layout.id_of(info.key), info.size, info.size)
        if any(place.session == entry.session for place in end.places.places):
            found.append(info.key)
    (key,) = found
    return key


def lost_streams(report: RepairReport) -> dict[bytes, set[str | None]]:
    return {one.entry.id: {lost.stream for lost in one.streams} for one in report.lost}


def comes_out(lab: Lab, snapshot: bytes, content: dict[str, bytes], streams: list[str] | None = None) -> bool:
    """Whether a restore of these streams, or of all, is what was backed up; else it must say what is wrong."""
    target = BytesSource({})
    try:
        lab.restore(snapshot.hex(), into=target, streams=streams)
    except (DamagedObject, MissingObject):
        return False
    assert target.restored == {name: data for name, data in content.items() if streams is None or name in streams}
    return True


def bad(lab: Lab) -> set[bytes]:
    found = set()
    for domain in lab.open().domains:
        with Workers(2, "test", NEVER) as workers:
            found |= {snapshot for snapshot, _ in read_marks(domain, workers).bad}
    return found


@pytest.mark.parametrize("harm", HARMS)
def test_without_a_replica_exactly_the_streams_that_do_not_restore_are_lost(
    lab: Lab, harm: Callable[..., None]
) -> None:
    same, first, second = noise(300 * KIB), noise(64 * KIB, 1), noise(64 * KIB, 2)
    one = lab.backup({"d": same, "e": first})
    two = lab.backup({"d": same, "e": second})
    scene = Scene(lab, MemorySink(), {}, lab.owner, lab.owner)
    harm(lab, pack_of(lab, two.snapshot), random.Random(1))
    report = scene.mend(replicas=[])
    assert lost_streams(report) == {two.snapshot: {"e"}}
    assert report.lost_count == 1
    assert not report.whole
    assert bad(lab) == {two.snapshot}
    assert lab.restored(one.snapshot.hex()) == {"d": same, "e": first}
    target = BytesSource({})
    lab.restore(two.snapshot.hex(), into=target, streams=["d"])
    assert target.restored == {"d": same}
    # The next night stores anew what is lost, and relies on nothing that is damaged.
    three = lab.backup({"d": same, "e": second})
    assert lab.restored(three.snapshot.hex()) == {"d": same, "e": second}
    assert lost_streams(scene.mend(replicas=[])) == {two.snapshot: {"e"}}
    assert bad(lab) == {two.snapshot}


@pytest.mark.parametrize("seed", range(6))
def test_what_is_said_to_be_lost_is_what_does_not_come_out(scene: Scene, seed: int) -> None:
    lab, chance = scene.lab, random.Random(seed)
    kinds = ("packs", "sessions", "parts", "index")
    keys = [key for kind in kinds for key in sorted(lab.keys()) if f"/{kind}/" in key]
    for key in chance.sample(keys, 3):
        chance.choice(HARMS)(lab, key, chance)
    said = lost_streams(scene.mend(replicas=[]))
    for snapshot, content in scene.contents.items():
        names = said.get(snapshot, set())
        assert comes_out(lab, snapshot, content) == (not names)
        for stream in content if None not in names else ():
            assert comes_out(lab, snapshot, content, [stream]) == (stream not in names)
    assert bad(lab) == said.keys()
    # What a later replica brings back is marked good again.
    assert scene.mend().whole
    assert not bad(lab)
    scene.restores()


def test_killed_anywhere_the_next_run_goes_on(scene: Scene) -> None:
    lab, chance = scene.lab, random.Random(1)
    before = {key: data for key, data in contents_of(lab.sink).items() if "/leases/" not in key}
    for key in chance.sample(sorted(before), len(before) // 2):
        chance.choice(HARMS)(lab, key, chance)
    whole = sum(lab.sink.get(key) == before[key] for key in before.keys() & lab.keys())
    runs = 0
    report: RepairReport | None = None
    while report is None:
        runs += 1
        try:
            report = scene.mend(sink=FaultySink(lab.sink, Die(after_puts=4)))
        except Died:
            found = sum(lab.sink.get(key) == before[key] for key in before.keys() & lab.keys())
            assert found > whole
            whole = found
    assert runs > 4
    assert report.whole
    scene.restores()
    assert {key: lab.sink.get(key) for key in before} == before


def test_a_dry_run_tells_all_of_it_and_writes_nothing(scene: Scene) -> None:
    lab, chance = scene.lab, random.Random(3)
    keys = sorted(key for key in contents_of(lab.sink) if "/leases/" not in key)
    for key in chance.sample(keys, len(keys) // 2):
        chance.choice(HARMS)(lab, key, chance)
    # What nobody has whole, too.
    (lost, *_) = sorted(scene.replica.list(lab.at.packs), key=lambda info: info.key)
    scene.replica.delete(lost.key)
    delete(lab, lost.key, chance)
    before, there = contents_of(lab.sink), scene.replica.contents()
    told = scene.mend(dry_run=True)
    assert contents_of(lab.sink) == before
    assert scene.replica.contents() == there
    done = scene.mend()
    assert told.lost_count > 0
    assert lost_streams(told) == lost_streams(done)
    assert {one.key for one in told.mended} == {one.key for one in done.mended}
    assert (told.mended_count, told.mended_size) == (done.mended_count, done.mended_size)
    assert (told.indexed, told.distrusted) == (done.indexed, done.distrusted)


def test_a_quick_run_finds_what_is_gone_and_takes_back_no_verdict(lab: Lab) -> None:
    one = lab.backup({"d": noise(100 * KIB, 1)})
    two = lab.backup({"d": noise(100 * KIB, 2)})
    scene = Scene(lab, MemorySink(), {}, lab.owner, lab.owner)
    lab.flip(pack_of(lab, one.snapshot), 1000)
    key = pack_of(lab, two.snapshot)
    data = lab.sink.get(key)
    lab.sink.delete(key)
    assert lost_streams(scene.mend(replicas=[], quick=True)) == {two.snapshot: {"d"}}
    assert lost_streams(scene.mend(replicas=[])) == {one.snapshot: {"d"}, two.snapshot: {"d"}}
    lab.flip(pack_of(lab, one.snapshot), 1000)
    lab.sink.put(key, data)
    quick = scene.mend(replicas=[], quick=True)
    assert (quick.lost_count, quick.recovered) == (0, [])
    assert bad(lab) == {one.snapshot, two.snapshot}
    assert sorted(scene.mend(replicas=[]).recovered) == sorted([one.snapshot, two.snapshot])
    assert not bad(lab)


def test_it_takes_back_no_verdict_of_others(lab: Lab) -> None:
    made = lab.backup({"d": b"rows"})
    entry = lab.find("latest")
    judge(entry.domain, {entry.id: entry.digest}, "rows are missing")
    assert not Scene(lab, MemorySink(), {}, lab.owner, lab.owner).mend(replicas=[]).recovered
    assert bad(lab) == {made.snapshot}


def test_a_maintainer_mends_and_marks_and_says_what_takes_another_key(scene: Scene) -> None:
    lab = scene.lab
    latest = max(scene.contents, key=lambda one: lab.find(one.hex()).time)
    pack = pack_of(lab, latest)
    delete(lab, pack, random.Random())
    for info in list(lab.sink.list(lab.at.index)):
        lab.sink.delete(info.key)
        scene.replica.delete(info.key)
    found = scene.mend(by=scene.maintainer, replicas=[])
    assert lost_streams(found)[latest] == {None}
    assert bad(lab) == lost_streams(found).keys()
    assert (found.indexed, found.unindexed) == (0, 3)
    mended = scene.mend(by=scene.maintainer)
    assert [one.key for one in mended.mended] == [pack]
    assert not bad(lab)
    scene.restores()
    # Their heads name the index objects; that these are gone is on record now.
    assert not lab.check().findings
    assert scene.mend().indexed == 3
    assert scene.mend().indexed == 0
    assert not lab.check().findings


def test_a_writer_indexes_its_own_packs_and_marks_nothing(scene: Scene) -> None:
    lab = scene.lab
    (web,) = lab.open(scene.writer).domains
    latest = lab.find("latest:web")
    for info in [*lab.sink.list(web.at.index), *lab.sink.list(lab.at.index)]:
        lab.sink.delete(info.key)
    key = pack_of(lab, latest.id)
    lab.flip(key, 1000)
    report = scene.mend(by=scene.writer, replicas=[])
    assert (report.indexed, report.unindexed, report.distrusted) == (2, 0, 1)
    assert lost_streams(report).keys() == {latest.id}
    assert not bad(lab)
    assert not lab.keys(lab.at.index)


def test_packs_of_a_session_that_lives_wait_for_its_own_index_object(lab: Lab) -> None:
    lab.backup({"d": noise(100 * KIB)})
    for info in [*lab.sink.list(lab.at.index), *lab.sink.list(lab.at.leases), *lab.sink.list(lab.at.snapshots)]:
        lab.sink.delete(info.key)
    scene = Scene(lab, MemorySink(), {}, lab.owner, lab.owner)
    assert scene.mend(replicas=[]).indexed == 0  # the session is some moments old


def test_another_repository_is_no_replica(scene: Scene, lab: Lab) -> None:
    other = Lab(lab.cache.parent / "strange", Elsewhere())
    with pytest.raises(OtherRepository):
        scene.mend(replicas=[other.sink])
    delete(lab, "penstock.json", random.Random())
    with pytest.raises(OtherRepository):
        scene.mend(replicas=[other.sink])
    assert not lab.keys("penstock.json")
    with pytest.raises(UsageError):
        scene.mend(replicas=[lab.sink])


def test_a_place_without_anything_of_it_is_not_filled(scene: Scene) -> None:
    empty = MemorySink()
    with pytest.raises(RepositoryMissing, match="nothing of the repository"):
        scene.mend(sink=empty)
    assert not list(empty.list())


def test_without_a_replica_a_log_with_a_gap_stays_one(scene: Scene) -> None:
    (first,) = (key for key in scene.lab.keys("grants/") if b'"number":1,' in scene.lab.sink.get(key))
    scene.lab.sink.delete(first)
    with pytest.raises(MissingObject):
        scene.mend(replicas=[])


def test_what_was_forgotten_and_deleted_is_not_missing(scene: Scene) -> None:
    lab = scene.lab
    entry = next(one for one in list_snapshots(lab.open()) if one.head.backup == "web")
    domain = entry.domain
    put_notice(domain, Deletion(NOW, Action.FORGET, {entry.id: entry.digest}))
    parts = tuple(ref.part for ref in entry.head.parts)
    put_notice(domain, Deletion(NOW, Action.DELETE, {entry.id: entry.digest}, Things(parts=parts)))
    lab.sink.delete(domain.at.snapshot_key(entry.id))
    lab.sink.delete(domain.at.part_key(parts[0]))
    report = scene.mend()
    assert report.whole
    assert not lab.keys(domain.at.snapshot_key(entry.id))
    assert not any(one.key.startswith(domain.at.snapshots) for one in report.mended)


def test_a_head_waits_while_a_prune_is_about_to_delete_what_it_needs(scene: Scene) -> None:
    lab = scene.lab
    entry = lab.find("latest")
    key = entry.domain.at.snapshot_key(entry.id)
    lab.sink.delete(key)
    named = layout.id_of(pack_of_session(lab, entry))
    tombstone = put_notice(entry.domain, Tombstone(NOW, Things(packs=(named,))))
    report = scene.mend()
    assert report.waiting == [entry.id]
    assert not report.whole
    assert not lab.keys(key)
    lab.sink.delete(tombstone)
    assert scene.mend().whole
    scene.restores()


def test_a_head_that_comes_back_keeps_its_time(scene: Scene) -> None:
    lab = scene.lab
    entry = list_snapshots(lab.open())[-1]
    lab.sink.delete(entry.domain.at.snapshot_key(entry.id))
    report = scene.mend()
    assert report.whole
    assert [one.key for one in report.mended] == [entry.domain.at.snapshot_key(entry.id)]
    with Workers(2, "test", NEVER) as workers:
        found = read_marks(entry.domain, workers)
    again = list_snapshots(lab.open())[-1]
    assert again.modified is not None
    assert entry.modified is not None
    assert found.dated(again).modified == entry.modified < again.modified


def test_what_a_stranger_put_there_stays(scene: Scene) -> None:
    lab = scene.lab
    junk = {
        "junk": b"?",
        lab.at.snapshots + "nothing": b"?",
        lab.at.packs + "nothing": b"?",
        lab.at.marks + "f" * 32: b"?",
        lab.at.index + "f" * 32: b"?",
    }
    for key, data in junk.items():
        lab.sink.put(key, data)
    report = scene.mend()
    assert report.whole
    assert report.mended_count == 0
    assert {key: lab.sink.get(key) for key in junk} == junk


def test_what_is_damaged_in_the_replica_too_is_taken_from_another(scene: Scene) -> None:
    lab = scene.lab
    third = Elsewhere()
    third.location = "third"
    for key, data in scene.replica.contents().items():
        third.put(key, data)
    entry = lab.find("latest")
    key = pack_of(lab, entry.id)
    lab.flip(key, 1000)
    scene.replica.put(key, scene.replica.get(key)[:-1])
    assert scene.mend().distrusted == 1
    both = scene.mend(replicas=[scene.replica, third])
    assert [(one.key, one.source) for one in both.mended] == [(key, "third")]
    assert both.recovered
    scene.restores()


def test_a_head_comes_back_to_the_streams_that_are_left(scene: Scene) -> None:
    lab = scene.lab
    entry = list_snapshots(lab.open())[-2]
    content = scene.contents[entry.id]
    assert content.keys() == {"d", "e", "empty"}
    key = pack_of(lab, entry.id)
    lab.sink.delete(entry.domain.at.snapshot_key(entry.id))
    # One of its segments, in both places: that of the stream that was new.
    for sink in (lab.sink, scene.replica):
        data = bytearray(sink.get(key))
        data[100] ^= 1
        sink.put(key, bytes(data))
    report = scene.mend()
    lost = lost_streams(report)[entry.id]
    assert lost
    assert bad(lab) == {entry.id}
    for name in content:
        assert comes_out(lab, entry.id, content, [name]) == (name not in lost)


class NotDeleting(MemorySink):
    """Its credential may not delete."""

    def delete(self, key: str) -> None:
        raise SinkDenied(key, "not allowed")


def test_a_credential_that_may_not_delete_mends_all_the_same(lab: Lab) -> None:
    sink = NotDeleting()
    lab = Lab(lab.cache.parent / "own", sink)
    lab.backup({"d": b"rows"})
    replica = Elsewhere()
    replicate(lab.open(), replica, memory=64 * MIB, listener=lab.events.append)
    scene = Scene(lab, replica, {}, lab.owner, lab.owner)
    for key in [*lab.keys(lab.at.leases), *lab.keys(lab.at.parts), *lab.keys(lab.at.index)]:
        lab.flip(key, 40)
    for key in replica.contents():
        if key.startswith(lab.at.index):
            replica.delete(key)
    assert scene.mend().whole
    warnings = [event.message for event in lab.events if event.kind is EventKind.WARNING]
    assert len(warnings) == 2
    assert all("not allowed" in message for message in warnings)
    assert lab.restored() == {"d": b"rows"}


class Locking(MemorySink):
    """Locks what is put for ten days."""

    def __init__(self) -> None:
        super().__init__(MemorySettings(object_lock_days=10))

    def age(self) -> None:
        """All locks end now."""
        self._locks = dict.fromkeys(self._locks, datetime.now(UTC))


@pytest.fixture
def locked(lab: Lab) -> tuple[Scene, Locking]:
    sink = Locking()
    lab = Lab(lab.cache.parent / "own", sink)
    content = {"d": noise(100 * KIB)}
    made = lab.backup(content)
    replica = Elsewhere()
    replicate(lab.open(), replica, memory=64 * MIB, listener=lab.events.append)
    sink.age()
    return Scene(lab, replica, {made.snapshot: content}, lab.owner, lab.owner), sink


def test_what_a_head_needs_that_comes_back_is_locked_as_long_as_itself(locked: tuple[Scene, Locking]) -> None:
    scene, sink = locked
    lab = scene.lab
    (entry,) = list_snapshots(lab.open())
    sink.delete(lab.at.snapshot_key(entry.id))
    assert scene.mend().whole
    needed = [key for key in sink.contents() if key.startswith((lab.at.parts, lab.at.packs, lab.at.sessions))]
    assert kinds_of(needed) == {"parts", "packs", "sessions"}
    end = sink.locks()[lab.at.snapshot_key(entry.id)]
    assert all(sink.locks()[key] >= end for key in [*needed, "penstock.json"])


def test_what_is_locked_and_damaged_is_told_and_keeps_nothing_else_back(locked: tuple[Scene, Locking]) -> None:
    scene, sink = locked
    lab = scene.lab
    (entry,) = list_snapshots(lab.open())
    pack = pack_of(lab, entry.id)
    lab.flip(pack, 1000)  # it is put anew, and so it is locked again
    sink.delete(lab.at.session_key(entry.session))
    report = scene.mend()
    assert [one.key for one in report.mended] == [lab.at.session_key(entry.session)]
    assert lost_streams(report) == {entry.id: {"d"}}
    assert any("not replaced" in event.message and pack in event.message for event in lab.events)
    sink.age()
    assert scene.mend().recovered == [entry.id]
    scene.restores()


class NotReplacing(MemorySink):
    """As a bucket whose policy denies every PUT but those of new objects."""

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
        if not if_absent:
            raise SinkDenied(key, "no object may be replaced")
        super().put(key, data, if_absent=True)


def test_a_credential_that_may_not_replace_deletes_first(scene: Scene) -> None:
    lab, chance = scene.lab, random.Random(2)
    before = {key: data for key, data in contents_of(lab.sink).items() if "/leases/" not in key}
    for key in chance.sample(sorted(before), len(before) // 2):
        chance.choice(HARMS)(lab, key, chance)
    strict = NotReplacing()
    for key, data in contents_of(lab.sink).items():
        strict.put(key, data, if_absent=True)
    assert scene.mend(sink=strict).whole
    assert {key: strict.get(key) for key in before} == before
