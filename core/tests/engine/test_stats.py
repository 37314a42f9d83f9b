"""Stats: whose the stored bytes are, since when, and which of them nothing needs."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from core.tests.engine.test_nights import session_of
from core.tests.repository.forging import compacted, end_of, keys
from core.tests.repository.lab import MIB, Lab, noise
from core.tests.repository.virtual import BEGINNING, VirtualStore

from penstock.api import EventKind, ObjectInfo, SinkDenied, SnapshotNotFound
from penstock.api.errors import KeyMissing
from penstock.engine.forget import forget
from penstock.engine.prune import prune
from penstock.engine.stats import OTHERS, StatsReport, stats
from penstock.format.pack import SegmentId
from penstock.format.times import as_text
from penstock.repository import Repository
from penstock.repository.read.content import each_row, parts_of
from penstock.repository.snapshots import list_snapshots
from penstock.repository.trust.keyring import add_maintainer, add_writer, revoke
from penstock.repository.upkeep.accounts import Account

pytestmark = pytest.mark.slow

A, B, C = noise(3 * MIB, 1), noise(3 * MIB, 2), noise(3 * MIB, 3)


@pytest.fixture
def store() -> VirtualStore:
    return VirtualStore()


@pytest.fixture
def lab(tmp_path: Path, store: VirtualStore, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """The clock of its hosts is the store's."""
    monkeypatch.setattr("penstock.repository.write.session.now", lambda: as_text(store.now))
    return Lab(tmp_path / "cache", store)


def counted(
    lab: Lab, by: Repository | None = None, *, backup: str | None = None, domain: str | None = None
) -> StatsReport:
    lab.events.clear()
    return stats(by or lab.open(), backup=backup, domain=domain, listener=lab.events.append)


def of_main(lab: Lab) -> Account:
    """The figures of the first domain, which nothing was wrong with."""
    found = counted(lab).domains[lab.domain.label]
    assert warnings(lab) == []
    return found


def warnings(lab: Lab) -> list[str]:
    return [event.message for event in lab.events if event.kind is EventKind.WARNING]


def night(lab: Lab, store: VirtualStore, *backups: tuple[str, bytes]) -> list[str]:
    """Backups, and the rest of their day."""
    made = [lab.backup({"d": data}, name=name).snapshot.hex() for name, data in backups]
    store.passes(hours=24)
    return made


def later(lab: Lab, store: VirtualStore) -> None:
    """Two hours pass, and a session begins: who writes nothing knows the store's time by that of the newest."""
    store.passes(hours=2)
    lab.backup({"d": b"later"}, name="clock")


def let_go(lab: Lab, *snapshots: str) -> None:
    forget(lab.open(), [lab.find(one) for one in snapshots])


def pieces(lab: Lab, name: str) -> dict[SegmentId | bytes, int]:
    """Segments and parts that the snapshots of a backup need, and its heads, each with what it takes; one by one."""
    found: dict[SegmentId | bytes, int] = {}
    for entry in list_snapshots(lab.open()):
        if entry.head.backup == name:
            found[entry.id] = entry.object_size
            found.update({ref.part: ref.size for ref in parts_of(entry)})
            for row in each_row(entry):
                places = end_of(lab.domain, lab.at.pack_key(row.pack)).places.places
                found.update({places[one].id: places[one].sealed_length for one in row.used})
    return found


def test_what_backups_share_is_counted_for_each_and_what_is_their_own_for_one(lab: Lab, store: VirtualStore) -> None:
    night(lab, store, ("shop", A + B))
    night(lab, store, ("shop", A + B + b"!"), ("blog", B + C))
    shop, blog = pieces(lab, "shop"), pieces(lab, "blog")
    found = of_main(lab)
    assert set(found.backups) == {"shop", "blog"}
    for one, mine, others in ((found.backups["shop"], shop, blog), (found.backups["blog"], blog, shop)):
        assert one.own == sum(mine[piece] for piece in mine.keys() - others.keys()) > 2 * MIB
        assert one.shared == sum(mine[piece] for piece in mine.keys() & others.keys()) > 2 * MIB
    assert (found.backups["shop"].snapshots, found.backups["shop"].size) == (2, 2 * len(A + B) + 1)
    assert sum(night.lasting for night in found.nights.values()) == sum((shop | blog).values())
    # What both need counts for the night of the first of them.
    first, second = (found.nights[day].lasting for day in sorted(found.nights))
    assert first > len(A + B) > second > len(C)
    sealed = sum(size for piece, size in (shop | blog).items() if isinstance(piece, SegmentId))
    assert found.sealed == sealed
    assert found.plain >= len(A + B + C)
    assert (found.dead.count, found.dead_in_packs) == (0, 0)


def test_each_night_has_what_it_stored_and_what_is_needed_since_then(lab: Lab, store: VirtualStore) -> None:
    (first,) = night(lab, store, ("shop", A))
    night(lab, store, ("shop", A + B), ("blog", C))
    stored = [entry.to_json()["stored"] for entry in list_snapshots(lab.open())]
    days = [BEGINNING.date(), BEGINNING.date() + timedelta(days=1)]
    before = counted(lab).nights
    assert list(before) == days
    assert [(one.snapshots, one.size) for one in before.values()] == [(1, len(A)), (2, len(A + B + C))]
    assert [one.stored for one in before.values()] == [stored[0], sum(stored[1:])]
    assert len(A) < before[days[0]].lasting < before[days[0]].stored
    let_go(lab, first)
    (alone,) = counted(lab).nights.values()
    # What the first night stored is needed since the second, now.
    assert alone.stored == sum(stored[1:]) < len(A + B + C) < alone.lasting


def test_what_is_dead_is_what_a_prune_would_name(lab: Lab, store: VirtualStore) -> None:
    one, _ = night(lab, store, ("shop", A), ("blog", B))
    night(lab, store, ("shop", C))
    let_go(lab, one)
    found = of_main(lab)
    (pruned,) = prune(lab.open(), dry_run=True, listener=lab.events.append).domains.values()
    sizes = {info.key: info.size for info in store.list(lab.at.prefix)}
    others = sum(size for key, size in sizes.items() if key.startswith((lab.at.index, lab.at.sessions)))
    head = sizes[lab.at.snapshot_key(bytes.fromhex(one))]
    assert len(A) < found.dead.size <= pruned.doom.doomed_size + head < found.dead.size + others
    assert found.dead_in_packs == 0
    for days in (0, 1):
        store.passes(days=days)
        prune(lab.open(), listener=lab.events.append)
    assert of_main(lab).dead.count == 0


def test_dead_segments_in_packs_that_are_needed_are_told_apart(lab: Lab, store: VirtualStore) -> None:
    (first,) = night(lab, store, ("shop", A + B))
    night(lab, store, ("shop", B))
    whole = pieces(lab, "shop")
    let_go(lab, first)
    found = of_main(lab)
    lost = sum(whole[piece] for piece in whole.keys() - pieces(lab, "shop").keys() if isinstance(piece, SegmentId))
    assert found.dead_in_packs == lost > MIB
    assert found.dead.size < MIB


def test_a_segment_that_was_copied_counts_once_wherever_it_is(lab: Lab, store: VirtualStore) -> None:
    night(lab, store, ("shop", A))
    (pack,) = keys(lab, "packs")
    carrier = compacted(lab.domain, [pack], lab.owner)
    later(lab, store)
    before = of_main(lab)
    store.put(lab.at.pack_key(carrier.pack), carrier.data)
    later(lab, store)
    both = of_main(lab)
    assert (both.sealed, both.plain) == (before.sealed, before.plain)
    assert both.backups["shop"] == before.backups["shop"]
    assert both.dead.count == 1  # one of the two
    assert both.dead.size > len(A)
    store.delete(pack)
    alone = of_main(lab)
    assert (alone.sealed, alone.plain, alone.backups) == (both.sealed, both.plain, both.backups)
    assert (alone.dead.count, alone.dead_in_packs) == (0, 0)


def test_what_a_session_writes_that_is_at_work_is_not_dead(lab: Lab, store: VirtualStore) -> None:
    night(lab, store, ("shop", A))
    with session_of(lab.open(), lab.cache):
        store.put(lab.at.pack_key(bytes(16)), b"on its way")
        store.passes(minutes=30)
        lab.backup({"d": B})
        assert counted(lab).domains["main"].dead.count == 0
    later(lab, store)
    assert counted(lab).domains["main"].dead.count == 1


def test_of_one_backup_only_its_own_figures_are_counted(lab: Lab, store: VirtualStore) -> None:
    night(lab, store, ("shop", A + B), ("blog", B + C))
    whole, found = counted(lab), counted(lab, backup="blog")
    assert list(found.domains["main"].backups) == ["blog"]
    assert found.domains["main"].backups["blog"] == whole.domains["main"].backups["blog"]
    assert found.size == len(B + C)
    assert found.plain < whole.plain
    assert sum(one.lasting for one in found.nights.values()) == sum(pieces(lab, "blog").values())
    assert found.objects == whole.objects
    with pytest.raises(SnapshotNotFound, match="no snapshot of a backup attic"):
        counted(lab, backup="attic")


def test_every_role_counts_alike_as_far_as_it_reaches(lab: Lab, store: VirtualStore) -> None:
    writer = lab.open(add_writer(lab.open(), "host"))
    maintainer = lab.open(add_maintainer(lab.open(), "ops"))
    night(lab, store, ("shop", A))
    lab.backup({"d": B}, by=writer, cache=lab.cache / "other")
    store.passes(hours=24)
    owners = counted(lab)
    assert counted(lab, maintainer).to_json() == owners.to_json()
    label = writer.domains[0].label
    assert set(owners.domains) == {"main", label}
    assert counted(lab, writer).domains == {label: owners.domains[label]}
    assert counted(lab, domain=label).to_json()["size"] == len(B)
    assert owners.size == len(A + B)
    assert {kind: one.count for kind, one in owners.objects.items() if kind in ("grants", "slots", "packs")} == {
        "grants": len(lab.keys("grants/")),
        "slots": 1,
        "packs": 2,
    }
    assert owners.stored.size == sum(info.size for info in store.list())
    with pytest.raises(KeyMissing, match="no domain attic"):
        counted(lab, domain="attic")


def test_a_credential_that_may_not_list_slots_counts_the_rest(
    lab: Lab, store: VirtualStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = lab.open(add_writer(lab.open(), "host", domain="main"))
    night(lab, store, ("shop", A))
    whole = counted(lab, writer)
    every = store.list

    def confined(prefix: str = "") -> Iterator[ObjectInfo]:
        if "slots/".startswith(prefix) or not prefix:
            raise SinkDenied(prefix, "not yours")
        return every(prefix)

    monkeypatch.setattr(store, "list", confined)
    found = counted(lab, writer)
    assert set(whole.objects) - set(found.objects) == {"slots"}
    assert found.domains == whole.domains


def test_what_cannot_be_read_is_told_and_nothing_is_called_dead_then(lab: Lab, store: VirtualStore) -> None:
    (one,), (two,) = night(lab, store, ("shop", A)), night(lab, store, ("shop", B))
    let_go(lab, one)
    assert counted(lab).to_json()["domains"]["main"]["dead"]["size"] > len(A)
    lab.flip(lab.at.snapshot_key(bytes.fromhex(two)), 100)
    report = counted(lab)
    assert len(warnings(lab)) == 1
    assert "left out: " in warnings(lab)[0]
    document = report.to_json()
    assert document["domains"]["main"] == {"dead": None, "dead_in_packs": None, "unreadable": 1, "lacking": 0}
    assert (document["backups"], document["deduplication"], document["compression"]) == ([], None, None)


def test_what_is_needed_and_gone_is_told(lab: Lab, store: VirtualStore) -> None:
    night(lab, store, ("shop", A), ("blog", B))
    first, second = keys(lab, "packs")
    store.delete(first)
    lab.flip(second, -200)  # which puts it anew, as of now
    later(lab, store)
    found = counted(lab).domains["main"]
    assert found.lacking == 2
    assert found.sealed < 100
    assert found.dead.count == 0  # the damaged one may be repaired
    assert any("penstock check names them" in one for one in warnings(lab))
    assert any(second in one for one in warnings(lab))


def test_what_a_revoked_writer_left_is_dead_and_no_damage(lab: Lab, store: VirtualStore) -> None:
    writer = add_writer(lab.open(), "host", domain="main")
    night(lab, store, ("shop", A))
    made = lab.backup({"d": B}, by=lab.open(writer), cache=lab.cache / "other", name="blog").snapshot
    store.passes(hours=24)
    assert set(of_main(lab).backups) == {"shop", "blog"}
    revoke(lab.open(), writer.key, without=[made])
    later(lab, store)
    found = of_main(lab)
    assert set(found.backups) == {"shop", "clock"}
    assert found.dead.size > len(B)


def test_what_strangers_put_there_is_counted_and_is_nobodys(lab: Lab, store: VirtualStore) -> None:
    night(lab, store, ("shop", A))
    before = of_main(lab)
    for name in ("readme.txt", "packs/me", "parts/x", "nonsense/" + bytes(16).hex()):
        store.put(lab.at.prefix + name, b"hello")
    found = of_main(lab)
    assert found.kinds[OTHERS].count == 4
    assert found.kinds[OTHERS].size == 20
    assert found.backups == before.backups
    assert found.dead == before.dead


def test_an_empty_repository_has_figures_too(lab: Lab) -> None:
    document = counted(lab).to_json()
    assert document["backups"] == document["nights"] == []
    assert document["deduplication"] is None
    assert document["stored"]["count"] == len(lab.keys())


def test_a_snapshot_that_tells_no_time_is_of_the_stores_day(
    lab: Lab, store: VirtualStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.repository.write.session.now", lambda: "long ago")
    night(lab, store, ("shop", A))
    by_day: defaultdict[str, int] = defaultdict(int)
    for one in counted(lab).to_json()["nights"]:
        by_day[one["day"]] += one["snapshots"]
    assert by_day == {BEGINNING.date().isoformat(): 1}
