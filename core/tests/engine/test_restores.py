"""What a restore looks at before it touches the target, what it does without, and when it counts as done."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from core.tests.repository.lab import KIB, MIB, BytesSource, Lab, noise

from penstock.api import (
    DamagedObject,
    EventKind,
    MissingObject,
    Restore,
    RestoreFailed,
    RestorePlan,
    SnapshotNotFound,
    StreamSpec,
)
from penstock.engine import cat
from penstock.repository.read.content import Content, each_row, parts_of, sessions_of
from penstock.repository.sessions import data_sealer
from penstock.testing import FaultySink, MemorySink


def keys(lab: Lab, kind: str) -> set[str]:
    return {info.key for info in lab.sink.list(f"{lab.at.prefix}{kind}/")}


def damage(lab: Lab, key: str) -> None:
    data = bytearray(lab.sink.get(key))
    data[len(data) // 2] ^= 1
    lab.sink.put(key, bytes(data))


@pytest.fixture
def two(lab: Lab) -> Lab:
    """A repository with the backups `wiki`, then `shop`, which share nothing."""
    lab.backup({"d": noise(300 * KIB, 1)}, name="wiki")
    lab.backup({"d": noise(300 * KIB, 2)}, name="shop")
    return lab


# before the target is touched


@pytest.mark.parametrize("verify_first", [True, False])
@pytest.mark.parametrize("kind", ["packs", "sessions", "parts"])
def test_what_is_gone_is_noticed_before_the_target_is_touched(lab: Lab, kind: str, verify_first: bool) -> None:
    lab.backup({"d": noise(MIB)})
    for key in keys(lab, kind):
        kept = lab.sink.get(key)
        lab.sink.delete(key)
        target = BytesSource({})
        with pytest.raises(MissingObject, match=key) as raised:
            lab.restore(into=target, verify_first=verify_first)
        assert raised.value.exit_code == 14
        assert target.touched == []
        lab.sink.put(key, kept)
    assert lab.restored() == {"d": noise(MIB)}


@pytest.mark.slow
def test_all_packs_that_are_gone_are_named(lab: Lab) -> None:
    lab.backup({"d": noise(40 * MIB)})
    gone = sorted(keys(lab, "packs"))[:2]
    for key in gone:
        lab.sink.delete(key)
    with pytest.raises(MissingObject) as raised:
        lab.restore(verify_first=False)
    assert (raised.value.key, raised.value.details) == (gone[0], (f"{gone[1]}: the pack is gone",))


@pytest.mark.slow
@pytest.mark.parametrize("nights", [1, 12])
def test_packs_are_looked_for_in_few_requests(lab: Lab, nights: int) -> None:
    assert isinstance(lab.sink, MemorySink)
    content = b""
    for night in range(nights):
        content += noise(100 * KIB, night)
        lab.backup({"d": content})
    sink = FaultySink(lab.sink)
    repository = lab.open(sink=sink)
    entry = lab.find("latest", by=repository)
    packs = {row.pack for row in each_row(entry)}
    assert len(packs) == nights
    sink.calls.clear()
    lab.restore(entry, verify_first=False)
    calls = [call for call in sink.calls if call[0] in ("stat", "list")]
    looks = [call for call in calls if call[1].startswith(lab.at.packs)]
    assert looks == ([("list", lab.at.packs)] if nights > sink.connections else [("stat", lab.at.pack_key(*packs))])
    # Besides, each part that recipes are in: those of the nights that this one goes back to.
    assert len(calls) - len(looks) <= len({ref.part for ref in parts_of(entry)})
    # Each pack's places and its only range.
    assert sum(call[1].startswith(lab.at.packs) for call in sink.calls if call[0] == "get") == 2 * nights


# what it does without


@pytest.mark.parametrize("harm", ["gone", "damaged"])
@pytest.mark.parametrize("kind", ["packs", "sessions", "index", "parts", "snapshots"])
def test_what_another_backup_needs_is_no_obstacle(lab: Lab, kind: str, harm: str) -> None:
    lab.backup({"d": noise(300 * KIB, 1)}, name="wiki")
    others = keys(lab, kind)
    lab.backup({"d": noise(300 * KIB, 2)}, name="shop")
    for key in others:
        if harm == "gone":
            lab.sink.delete(key)
        else:
            damage(lab, key)
    for name in ("latest", "latest:shop"):
        assert lab.restored(name) == {"d": noise(300 * KIB, 2)}


def test_a_pack_that_the_next_backup_has_healed_is_no_obstacle(lab: Lab) -> None:
    lab.backup({"d": noise(300 * KIB)})
    (pack,) = keys(lab, "packs")
    lab.sink.delete(pack)
    lab.backup({"d": noise(300 * KIB)})
    assert lab.restored() == {"d": noise(300 * KIB)}


def test_a_restore_reads_nothing_of_other_backups(two: Lab) -> None:
    assert isinstance(two.sink, MemorySink)
    sink = FaultySink(two.sink)
    entry = two.find("latest:shop")
    needed = {
        two.at.snapshot_key(entry.id),
        *(two.at.session_key(session) for session in sessions_of(entry)),
        *(two.at.part_key(ref.part) for ref in entry.head.parts),
        *(two.at.pack_key(row.pack) for row in each_row(entry)),
    }
    assert len(needed) == 1 + 1 + 3 + 1
    repository = two.open(sink=sink)
    sink.calls.clear()
    two.restore(entry.id.hex(), by=repository)
    assert {key for method, key in sink.calls if method in ("get", "stat")} == needed


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["gone", "damaged"])
def test_the_streams_that_a_lost_session_takes_along_are_named_and_the_others_restored(lab: Lab, harm: str) -> None:
    a, b, c = noise(MIB, 1), noise(MIB, 2), noise(MIB, 3)
    lab.backup({"a": a, "b": b})
    (session,) = keys(lab, "sessions")
    lab.backup({"a": a, "b": b, "c": c})
    if harm == "gone":
        lab.sink.delete(session)
    else:
        damage(lab, session)
    target = BytesSource({})
    with pytest.raises(MissingObject if harm == "gone" else DamagedObject, match=session) as raised:
        lab.restore(into=target, verify_first=False)
    assert "of 3 streams that are wanted, 2 need what is lost" in str(raised.value)
    assert [one.partition(":")[0] for one in raised.value.details] == ["a", "b"]
    assert target.touched == []
    lab.restore(into=target, streams=["c"])
    assert target.restored == {"c": c}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["packs", "sessions"])
@pytest.mark.parametrize("verify_first", [True, False])
def test_a_loss_that_only_another_stream_suffers_is_no_obstacle(lab: Lab, kind: str, verify_first: bool) -> None:
    a, b = noise(2 * MIB, 1), noise(2 * MIB, 2)
    lab.backup({"a": a})
    lost = keys(lab, kind)
    lab.backup({"a": a, "b": b})
    for key in lost:
        lab.sink.delete(key)
    target = BytesSource({})
    lab.restore(into=target, streams=["b"], verify_first=verify_first)
    assert target.restored == {"b": b}
    other = BytesSource({})
    with pytest.raises(MissingObject):
        lab.restore(into=other, streams=["a"], verify_first=verify_first)
    assert other.touched == []


@pytest.mark.parametrize("verify_first", [True, False])
def test_a_lost_piece_of_the_recipe_of_another_stream_is_no_obstacle(
    lab: Lab, verify_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.repository.write.stream.ENOUGH", 0)
    streams = {"a": noise(MIB, 1), "b": noise(MIB, 2)}
    lab.backup(streams)
    entry = lab.find("latest")
    content = Content(entry, partial(data_sealer, entry.domain))
    of_a, of_b = ({entry.head.parts[number].part for number in one.recipe[0]} for one in content.manifest.streams)
    assert len(of_a) == len(of_b) == 1 < len(of_a | of_b)
    lab.sink.delete(lab.at.part_key(*of_a))
    target = BytesSource({})
    lab.restore(into=target, streams=["b"], verify_first=verify_first)
    assert target.restored == {"b": streams["b"]}
    other = BytesSource({})
    with pytest.raises(MissingObject, match=lab.at.part_key(*of_a)):
        lab.restore(into=other, verify_first=verify_first)
    assert other.touched == []


def test_a_restore_leaves_the_cache_as_it_is(lab: Lab, tmp_path: Path) -> None:
    lab.backup({"d": b"1"})
    lab.restore(cache=tmp_path / "none")
    assert not (tmp_path / "none").exists()
    files = {path: path.read_bytes() for path in lab.cache.rglob("*") if path.is_file()}
    lab.restore(cache=lab.cache)
    assert files == {path: path.read_bytes() for path in lab.cache.rglob("*") if path.is_file()}
    for path in files:
        path.write_bytes(b"no database")
    lab.restore(cache=lab.cache)
    assert lab.warnings == []


# latest


def garbage(lab: Lab, key: str) -> None:
    lab.sink.put(key, b"something else")


def unsigned(lab: Lab, key: str) -> None:
    data = lab.sink.get(key)
    lab.sink.put(key, data[:-64] + bytes(64))


@pytest.mark.parametrize("harm", [damage, garbage, unsigned])
@pytest.mark.parametrize("name", ["latest", "latest:shop"])
def test_latest_passes_over_damaged_snapshots_and_names_them(lab: Lab, harm: object, name: str) -> None:
    lab.backup({"d": b"1"})
    made = [lab.at.snapshot_key(lab.backup({"d": b"%d" % night}).snapshot) for night in (2, 3)]
    assert callable(harm)
    for key in made:
        harm(lab, key)
    garbage(lab, f"{lab.at.snapshots}no-id")
    assert lab.restored(name) == {"d": b"1"}
    assert len(lab.warnings) == 3
    assert all(any(key in warning for warning in lab.warnings) for key in (*made, f"{lab.at.snapshots}no-id"))


def test_without_an_undamaged_snapshot_there_is_no_latest(lab: Lab) -> None:
    key = lab.at.snapshot_key(lab.backup({"d": b"1"}).snapshot)
    damage(lab, key)
    with pytest.raises(SnapshotNotFound, match="no undamaged snapshot of this repository"):
        lab.restore()
    assert key in lab.warnings[0]
    with pytest.raises(DamagedObject, match=key):
        lab.restore(key.removeprefix(lab.at.snapshots))


@pytest.mark.slow
def test_a_snapshot_that_this_host_has_seen_and_that_is_gone_is_named_by_latest(lab: Lab) -> None:
    made = [lab.backup({"d": b"%d" % night}).snapshot for night in range(4)]
    # The second is older than the third, which names it; the last may be a later one.
    for gone in (made[1], made[3]):
        lab.sink.delete(lab.at.snapshot_key(gone))
    target = BytesSource({})
    lab.restore(into=target, cache=lab.cache)
    assert target.restored == {"d": b"2"}
    (warning,) = lab.warnings
    assert lab.at.snapshot_key(made[3]) in warning
    lab.restore(made[0].hex(), cache=lab.cache)
    assert lab.warnings == []


def test_a_host_that_has_seen_the_only_snapshot_says_so_when_there_is_none(lab: Lab) -> None:
    key = lab.at.snapshot_key(lab.backup({"d": b"1"}).snapshot)
    lab.sink.delete(key)
    with pytest.raises(SnapshotNotFound):
        lab.find("latest", cache=lab.cache)
    assert key in lab.warnings[0]


# when it is done


class Careless(BytesSource):
    """Stops reading after the first block; `finished` says whether it was told that all is well."""

    finished = False

    def finish(self) -> None:
        self.finished = True

    @contextmanager
    def restore(self, plan: RestorePlan) -> Iterator[Restore]:
        yield Restore(self.take_back, self.finish)

    def take_back(self, spec: StreamSpec, blocks: Iterable[memoryview]) -> None:
        self.touched.append(spec.name)
        next(iter(blocks))


class Deaf(Careless):
    """Takes an error of the blocks for their end."""

    def take_back(self, spec: StreamSpec, blocks: Iterable[memoryview]) -> None:
        try:
            super(Careless, self).take_back(spec, blocks)
        except DamagedObject:
            self.touched.append("went on")


@pytest.mark.parametrize("verify_first", [True, False])
def test_a_source_that_stops_reading_early_has_not_restored(lab: Lab, verify_first: bool) -> None:
    lab.backup({"d": noise(3 * MIB)})
    target = Careless({})
    with pytest.raises(RestoreFailed, match="d was not restored") as raised:
        lab.restore(into=target, verify_first=verify_first)
    assert raised.value.exit_code == 49
    assert not target.finished
    assert lab.events[-1].kind is EventKind.FAILED


def test_a_source_that_reads_all_but_the_end_has_restored(lab: Lab) -> None:
    """A stream of one block: nothing is left when the source stops."""
    lab.backup({"d": b"little"})
    target = Careless({})
    lab.restore(into=target)
    assert target.finished


def test_a_source_that_goes_on_after_a_stream_broke_off_has_not_restored(lab: Lab) -> None:
    lab.backup({"d": noise(3 * MIB)})
    (pack,) = keys(lab, "packs")
    damage(lab, pack)
    target = Deaf({})
    with pytest.raises(DamagedObject, match=pack):
        lab.restore(into=target, verify_first=False)
    assert target.touched == ["d", "went on"]
    assert not target.finished


def test_a_stream_that_is_named_twice_is_restored_once(lab: Lab) -> None:
    lab.backup({"a": b"1", "b": b"2"})
    target = BytesSource({})
    result = lab.restore(into=target, streams=["b", "a", "b"])
    assert sorted(target.touched) == sorted(result.streams) == ["a", "b"]
    assert result.written == 2


# what it tells


def test_verifying_and_restoring_are_phases_from_nothing_to_their_size(lab: Lab) -> None:
    streams = {"a": noise(5 * MIB, 1), "b": noise(MIB, 2)}
    size = sum(map(len, streams.values()))
    lab.backup(streams)
    lab.events.clear()
    lab.restore()
    phases = [event.phase for event in lab.events if event.kind is EventKind.PHASE]
    assert phases == ["preparing", "verifying", "restoring", "finishing"]
    for phase in ("verifying", "restoring"):
        done = [event.done for event in lab.events if event.phase == phase]
        assert done[0] == 0
        assert done == sorted(done)
        assert done[-1] == size
        assert {event.total for event in lab.events if event.phase == phase} == {size}


def test_results_are_documents(lab: Lab) -> None:
    lab.backup({"a": b"1", "b": b"22"})
    result = lab.restore(streams=["b"])
    document = result.to_json()
    assert json.loads(json.dumps(document)) == document
    assert set(document) == {
        "snapshot", "backup", "finished", "signer", "target", "streams", "written", "verified_first", "seconds",
        "warnings", "left_out", "left_out_count"
    }  # fmt: skip
    assert (document["backup"], document["streams"], document["written"]) == ("shop", ["b"], 2)
    assert (document["finished"], document["signer"]) == (lab.find("latest").head.finished, "owner")
    out = bytearray()
    given = cat(lab.find("latest"), "b", out=out.extend, listener=lab.events.append)
    assert given.to_json() | {"seconds": 0} == {
        "snapshot": result.snapshot.hex(), "stream": "b", "written": 2, "seconds": 0
    }  # fmt: skip
