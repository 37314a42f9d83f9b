"""Maintenance goes on where a check finds only what a prune is to delete, and where somebody gave up what is lost."""

from datetime import timedelta
from pathlib import Path

import pytest
from core.tests.repository.lab import Lab, noise
from core.tests.repository.virtual import VirtualStore

from penstock.api import DamagedObject, EventKind, MissingObject, RoleForbids, UsageError
from penstock.engine.dropping import drop, find_unreadable_sayings
from penstock.engine.forget import forget
from penstock.engine.giving_up import find_gone, find_unreadable, forget_gone, forget_unreadable, gone_with
from penstock.engine.maintain import MaintainReport, maintain
from penstock.engine.prune import prune
from penstock.engine.vanished import explain, find_vanished
from penstock.format import times
from penstock.format.notice import Action, Deletion, Mark, Marking, Notice, Things, Tombstone
from penstock.repository.said import put_said
from penstock.repository.trust.keyring import add_writer, revoke
from penstock.repository.upkeep.retention import Policy

pytestmark = pytest.mark.slow


def maintained(lab: Lab, cache: Path) -> MaintainReport:
    return maintain(
        lab.open(),
        lambda _: Policy(last=9),
        within=timedelta(days=30),
        cache_dir=cache,
        on_damage=lambda _: None,
        listener=lab.events.append,
    )


def nights(lab: Lab, store: VirtualStore, count: int) -> list[bytes]:
    """One backup a day, of other bytes each time."""
    made = []
    for _ in range(count):
        store.passes(days=1)
        made.append(lab.backup({"d": noise(9999, seed=len(lab.keys()))}).snapshot)
    return made


def three_days(lab: Lab, store: VirtualStore, cache: Path) -> list[int]:
    """How many findings each day has; none of them keeps anything from being deleted."""
    found = []
    for _ in range(3):
        store.passes(days=1)
        report = maintained(lab, cache)
        assert report.pruned is not None
        found.append(report.checked.finding_count)
    return found


def test_the_heads_that_the_owner_left_out_are_swept(tmp_path: Path) -> None:
    store = VirtualStore()
    lab = Lab(tmp_path / "cache", store)
    writer = add_writer(lab.open(), "host", domain="main")
    stolen = lab.backup({"d": b"one" * 999}, by=lab.open(writer)).snapshot
    store.passes(days=1)
    kept = lab.backup({"d": b"two" * 999}).snapshot
    revoke(lab.open(), writer.key, without={stolen})
    assert three_days(lab, store, tmp_path / "host") == [1, 1, 0]
    assert list(lab.keys(lab.at.snapshots)) == [lab.at.snapshot_key(kept)]


def test_an_index_object_that_cannot_be_read_is_swept(tmp_path: Path) -> None:
    store = VirtualStore()
    lab = Lab(tmp_path / "cache", store)
    nights(lab, store, 2)
    damaged = min(lab.keys(lab.at.index))
    lab.flip(damaged, 60)
    assert three_days(lab, store, tmp_path / "host") == [1, 1, 0]
    assert damaged not in lab.keys(lab.at.index)


@pytest.mark.parametrize("size", [0, 3000, 21 * 1024 * 1024], ids=["empty", "noise", "too large"])
@pytest.mark.parametrize("kind", ["sessions", "packs", "index", "parts", "leases"])
def test_what_a_stranger_puts_stops_nothing_and_is_swept(tmp_path: Path, kind: str, size: int) -> None:
    store = VirtualStore()
    lab = Lab(tmp_path / "cache", store)
    nights(lab, store, 2)
    name = bytes(range(16))
    key = {
        "packs": lab.at.pack_key(name),
        "leases": lab.at.lease_key(name, 1),
    }.get(kind, f"{getattr(lab.at, kind)}{name.hex()}")
    store.put(key, noise(size, seed=1))
    found = three_days(lab, store, tmp_path / "host")
    assert (found[0], found[-1]) == (1, 0)
    assert key not in set(lab.keys())


@pytest.mark.parametrize(
    "folder",
    [
        "sessions",
        "packs",
        "index",
        "parts",
        "snapshots",
        "leases",
        "notices",
        "tombstones",
        "deletions",
        "marks",
        "new",
    ],
)
def test_what_no_penstock_can_have_written_stops_nothing_and_stays(tmp_path: Path, folder: str) -> None:
    store = VirtualStore()
    lab = Lab(tmp_path / "cache", store)
    nights(lab, store, 2)
    junk = {f"{lab.at.prefix}{folder}/notes.txt", f"{lab.at.prefix}{folder}/{'ab' * 17}", f"{folder}.txt"}
    for key in junk:
        store.put(key, b"milk, eggs")
    for _ in range(2):
        store.passes(days=1)
        report = maintained(lab, tmp_path / "host")
        assert report.pruned is not None
        assert {one.key for one in report.checked.findings} == junk
        assert report.checked.harmless == len(junk)
    assert junk <= lab.keys()


@pytest.mark.parametrize("kind", ["sessions", "packs", "parts", "snapshots"])
def test_what_a_snapshot_needs_and_is_damaged_stops_it(tmp_path: Path, kind: str) -> None:
    store = VirtualStore()
    lab = Lab(tmp_path / "cache", store)
    nights(lab, store, 2)
    # Not in the middle of a pack: which of them are read tonight, chance says.
    lab.flip(min(lab.keys(getattr(lab.at, kind))), -20 if kind == "packs" else 60)
    report = maintained(lab, tmp_path / "host")
    assert report.pruned is None
    assert report.checked.harmless < report.checked.finding_count


@pytest.mark.parametrize("kind", ["marks", "notices", "deletions", "tombstones"])
def test_what_was_said_and_cannot_be_read_stops_it_until_it_is_dropped(tmp_path: Path, kind: str) -> None:
    store = VirtualStore()
    lab = Lab(tmp_path / "cache", store)
    nights(lab, store, 1)
    content: dict[str, Notice | Tombstone | Deletion | Mark] = {
        "marks": Mark(times.now(), Marking.HOLD, {bytes(16): bytes(32)}, "the auditors"),
        "notices": Notice(times.now(), {bytes(16): "damaged"}),
        "deletions": Deletion(times.now(), Action.FORGET, {bytes(16): bytes(32)}),
        "tombstones": Tombstone(times.now(), Things(), grace=86400),
    }
    name = put_said(lab.domain, content[kind])
    assert maintained(lab, tmp_path / "host").pruned is not None
    key = f"{getattr(lab.at, kind)}{name.hex()}"
    lab.flip(key, 60)
    assert maintained(lab, tmp_path / "host").pruned is None
    found = find_unreadable_sayings(lab.open(), [name.hex(), "ab" * 16])
    assert [one.key for one in found] == [key]
    writer = lab.open(add_writer(lab.open(), "host", domain="main"))
    with pytest.raises(RoleForbids):
        drop(writer, found)
    drop(lab.open(), found)
    assert key not in set(lab.keys())
    report = maintained(lab, tmp_path / "host")
    assert report.checked.findings == ()
    assert report.pruned is not None


def test_other_findings_stop_it(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "cache", VirtualStore())
    lab.backup({"d": b"one" * 999})
    lab.flip(next(iter(lab.keys(lab.at.packs))), -20)
    assert maintained(lab, tmp_path / "host").pruned is None


def test_a_head_that_was_given_up_stops_nothing_any_more(tmp_path: Path) -> None:
    store = VirtualStore()
    lab = Lab(tmp_path / "cache", store)
    lost, kept = nights(lab, store, 2)
    lab.flip(lab.at.snapshot_key(lost), 100)
    assert maintained(lab, tmp_path / "host").pruned is None
    heads = [find_unreadable(lab.open(), lost.hex())]
    forget_unreadable(lab.open(), heads, gone_with(lab.open(), heads))
    found = []
    for _ in range(3):
        nights(lab, store, 1)
        report = maintained(lab, tmp_path / "host")
        assert report.pruned is not None
        found.append(report.checked.finding_count)
    assert found == [0, 0, 0]
    there = lab.keys()
    assert lab.at.snapshot_key(lost) not in there
    assert lab.at.snapshot_key(kept) in there


def test_the_newest_head_is_named_by_nobody_once_it_was_given_up(tmp_path: Path) -> None:
    store = VirtualStore()
    lab = Lab(tmp_path / "cache", store)
    kept, lost = nights(lab, store, 2)
    lab.flip(lab.at.snapshot_key(lost), 100)
    heads = [find_unreadable(lab.open(), lost.hex())]
    assert not gone_with(lab.open(), heads)
    forget_unreadable(lab.open(), heads)
    lab.events.clear()
    for _ in range(3):
        nights(lab, store, 1)
        assert maintained(lab, tmp_path / "host").pruned is not None
    assert lab.at.snapshot_key(lost) not in set(lab.keys())
    assert lab.at.snapshot_key(kept) in set(lab.keys())
    assert not [event for event in lab.events if event.kind is EventKind.WARNING]
    assert lab.find("latest").head.parent != lost


def test_a_head_that_is_gone_stops_it_until_it_is_given_up(tmp_path: Path) -> None:
    store = VirtualStore()
    lab = Lab(tmp_path / "cache", store)
    lost, _ = nights(lab, store, 2)
    assert maintained(lab, tmp_path / "host").pruned is not None
    lab.sink.delete(lab.at.snapshot_key(lost))
    assert maintained(lab, tmp_path / "host").pruned is None
    gone = find_gone(lab.open())
    assert {one.id for one in gone} == {None, lost}
    forget_gone(lab.open(), gone)
    assert not find_gone(lab.open())
    report = maintained(lab, tmp_path / "host")
    assert report.checked.findings == ()
    assert report.pruned is not None


def test_where_more_heads_are_gone_than_are_given_up_none_is_settled(tmp_path: Path) -> None:
    store = VirtualStore()
    lab = Lab(tmp_path / "cache", store)
    damaged = nights(lab, store, 3)[1]
    lab.flip(lab.at.snapshot_key(damaged), 100)
    heads = [find_unreadable(lab.open(), damaged.hex())]
    assert len(gone_with(lab.open(), heads)) == 1
    third = nights(lab, store, 2)[0]
    lab.sink.delete(lab.at.snapshot_key(third))
    assert gone_with(lab.open(), heads) == []
    with pytest.raises(DamagedObject, match=damaged.hex()):
        find_gone(lab.open())
    forget_unreadable(lab.open(), heads, gone_with(lab.open(), heads))
    assert {one.id for one in find_gone(lab.open())} == {None, third}


@pytest.mark.parametrize("kind", ["packs", "parts", "sessions", "index"])
def test_what_a_host_has_seen_and_nobody_needs_is_given_up_by_its_key(tmp_path: Path, kind: str) -> None:
    store = VirtualStore()
    lab = Lab(tmp_path / "cache", store)
    (first,) = nights(lab, store, 1)
    lost = list(lab.keys(getattr(lab.at, kind)))
    nights(lab, store, 1)
    assert maintained(lab, tmp_path / "host").pruned is not None
    for key in lost:
        lab.sink.delete(key)
    assert maintained(lab, tmp_path / "host").pruned is None
    if kind != "index":
        with pytest.raises((UsageError, MissingObject), match=r"a snapshot needs|needs it"):
            find_vanished(lab.open(), lost)
    forget(lab.open(), [lab.find(first.hex())])
    for _ in range(2):
        store.passes(days=1)
        prune(lab.open(), listener=lab.events.append)
    assert maintained(lab, tmp_path / "host").pruned is None, "this host has seen it"
    explain(lab.open(), find_vanished(lab.open(), lost))
    report = maintained(lab, tmp_path / "host")
    assert report.checked.findings == ()
    assert report.pruned is not None


def test_only_what_is_gone_is_explained(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "cache", VirtualStore())
    lab.backup({"d": b"one" * 999})
    (pack,) = lab.keys(lab.at.packs)
    with pytest.raises(UsageError, match="is there"):
        find_vanished(lab.open(), [pack])
    elsewhere = "d/nowhere/packs/ab/" + "ab" * 16
    for wrong in (elsewhere, f"{lab.at.packs}{'ab' * 16}", f"{lab.at.leases}x", "penstock.json"):
        with pytest.raises(UsageError, match="not the key"):
            find_vanished(lab.open(), [wrong])
    writer = lab.open(add_writer(lab.open(), "host", domain="main"))
    with pytest.raises(RoleForbids):
        explain(writer, find_vanished(writer, [lab.at.pack_key(b"\xab" * 16)]))


def test_only_what_is_not_there_is_given_up_as_gone(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "cache", VirtualStore())
    there = lab.backup({"d": b"one" * 999}).snapshot
    with pytest.raises(UsageError, match="is there"):
        find_gone(lab.open(), [there.hex()])
    with pytest.raises(UsageError, match="whole id"):
        find_gone(lab.open(), [there.hex()[:8]])
    assert [one.id for one in find_gone(lab.open(), ["ab" * 16])] == [b"\xab" * 16]
    writer = lab.open(add_writer(lab.open(), "host", domain="main"))
    with pytest.raises(RoleForbids):
        forget_gone(writer, find_gone(writer))
