"""Prune: what is dead goes, at its time, and nothing else does."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from core.tests.engine.test_nights import session_of
from core.tests.repository.forging import compacted, end_of, put_index
from core.tests.repository.lab import MIB, Lab, noise
from core.tests.repository.virtual import VirtualStore

from penstock.api import EventKind, RoleForbids, SnapshotNotFound, UsageError
from penstock.api.errors import DamagedObject, PruneRunning, SessionLost
from penstock.engine.dropping import drop, find_unreadable_sayings
from penstock.engine.forget import forget, undelete
from penstock.engine.giving_up import find_unreadable, forget_unreadable, gone_with
from penstock.engine.prune import Limits, prune
from penstock.format.notice import Things
from penstock.repository import Repository
from penstock.repository.layout import id_of
from penstock.repository.notices import delete
from penstock.repository.pool import Workers
from penstock.repository.read.content import each_row
from penstock.repository.trust.keyring import add_maintainer, add_writer, keep, revoke
from penstock.repository.upkeep import presence
from penstock.repository.upkeep.presence import Presence
from penstock.repository.upkeep.pruning import Pruned
from penstock.testing.memory import MemorySettings

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("store")]


def pruned(lab: Lab, by: Repository | None = None, **options: object) -> Pruned:
    report = prune(by or lab.open(), listener=lab.events.append, **options)  # type: ignore[arg-type]
    (one,) = report.domains.values()
    return one


def let_go(lab: Lab, *snapshots: str) -> None:
    forget(lab.open(), [lab.find(one) for one in snapshots])


def night(lab: Lab, store: VirtualStore, data: bytes, name: str = "shop") -> str:
    """A backup, and the rest of its day."""
    made = lab.backup({"d": data}, name=name).snapshot.hex()
    store.passes(hours=24)
    return made


def needed(lab: Lab) -> dict[str, int]:
    """How many objects there are of each kind."""
    found: dict[str, int] = {}
    for key in lab.keys(lab.at.prefix):
        kind = key.removeprefix(lab.at.prefix).partition("/")[0]
        found[kind] = found.get(kind, 0) + 1
    return found


def test_what_nobody_needs_goes_a_day_after_it_was_named(lab: Lab, store: VirtualStore) -> None:
    one, two = night(lab, store, b"one" * 999), night(lab, store, b"two" * 999)
    alone = lab.restored(two)
    assert pruned(lab).doom.doomed == 0
    let_go(lab, one)
    found = pruned(lab)
    assert found.doom.kept == 1
    assert found.doom.doomed > 3
    assert found.deleted == 0
    before = lab.keys()
    store.passes(hours=23)
    assert pruned(lab).waiting
    assert before <= lab.keys()
    store.passes(hours=1)
    assert pruned(lab).deleted == found.doom.doomed + 1  # and its head
    assert not lab.check().findings
    assert lab.restored(two) == alone
    kinds = needed(lab)
    assert (kinds["packs"], kinds["sessions"], kinds["snapshots"], kinds["index"]) == (1, 1, 1, 1)
    assert "tombstones" not in kinds
    assert "leases" not in kinds
    with pytest.raises(SnapshotNotFound):
        lab.find(one)


def test_a_host_that_has_seen_it_misses_nothing(lab: Lab, store: VirtualStore) -> None:
    one = night(lab, store, b"one" * 999)
    night(lab, store, b"two" * 999)
    assert not lab.check(cache=lab.cache).findings
    let_go(lab, one)
    pruned(lab)
    store.passes(days=1)
    assert pruned(lab).deleted
    assert not lab.check(cache=lab.cache).findings
    lab.events.clear()
    three = night(lab, store, b"three" * 999)
    assert not [event for event in lab.events if event.kind is EventKind.WARNING]
    assert lab.restored(three) == {"d": b"three" * 999}
    assert not lab.check(cache=lab.cache).findings


def test_it_is_taken_back_until_shortly_before_the_sweep(lab: Lab, store: VirtualStore) -> None:
    one, two = night(lab, store, b"one" * 999), night(lab, store, b"two" * 999)
    night(lab, store, b"three" * 999)
    let_go(lab, one, two)
    pruned(lab)
    store.passes(hours=23, minutes=54)
    undelete(lab.open(), [one])
    store.passes(minutes=2)
    with pytest.raises(SnapshotNotFound, match="cannot be taken back"):
        undelete(lab.open(), [two])
    # Nobody lists it, or takes what the first one wrote for a success.
    assert lab.find("latest").id.hex() not in (one, two)
    with pytest.raises(SnapshotNotFound, match="was forgotten"):
        lab.find(two)
    with pytest.raises(SnapshotNotFound, match="cannot be taken back"):
        undelete(lab.open(), [two])
    store.passes(minutes=4)
    assert pruned(lab).deleted
    assert lab.restored(one) == {"d": b"one" * 999}
    with pytest.raises(SnapshotNotFound):
        lab.find(two)
    assert not lab.check().findings
    with pytest.raises(SnapshotNotFound):
        undelete(lab.open(), [two])


def test_a_record_that_nobody_can_read_may_have_taken_a_snapshot_back(lab: Lab, store: VirtualStore) -> None:
    one, _ = night(lab, store, noise(9999, 1)), night(lab, store, noise(9999, 2))
    let_go(lab, one)
    before = lab.keys(lab.at.deletions)
    undelete(lab.open(), [one])
    (taken_back,) = set(lab.keys(lab.at.deletions)) - set(before)
    lab.flip(taken_back, 60)
    store.put(f"{lab.at.deletions}notes.txt", b"a stranger's")
    heads = lab.keys(lab.at.snapshots)
    for dry_run in (True, False):
        with pytest.raises(DamagedObject) as caught:
            pruned(lab, dry_run=dry_run)
        assert caught.value.key == taken_back
        assert "--unreadable" in (caught.value.hint or "")
    assert set(lab.keys(lab.at.snapshots)) == set(heads)
    # Nobody can bring the record back: that it is given up lets the snapshot go, unless somebody takes it back again.
    drop(lab.open(), find_unreadable_sayings(lab.open(), [taken_back.rpartition("/")[2]]))
    undelete(lab.open(), [one])
    for _ in range(3):
        pruned(lab)
        store.passes(hours=25)
    assert lab.restored(one)


def test_what_is_taken_back_too_late_is_not_listed_even_if_nobody_looks_again(
    lab: Lab, store: VirtualStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = night(lab, store, b"one" * 999), night(lab, store, b"two" * 999)
    night(lab, store, b"three" * 999)
    let_go(lab, one, two)
    pruned(lab)
    store.passes(hours=23, minutes=54)
    with killed_before_its_second_look(monkeypatch), pytest.raises(KeyboardInterrupt):
        undelete(lab.open(), [one])
    assert lab.find(one).id.hex() == one
    store.passes(minutes=2)
    with killed_before_its_second_look(monkeypatch), pytest.raises(KeyboardInterrupt):
        undelete(lab.open(), [two])
    with pytest.raises(SnapshotNotFound, match="was forgotten"):
        lab.find(two)
    store.passes(minutes=4)
    assert pruned(lab).deleted
    assert lab.restored(one) == {"d": b"one" * 999}
    assert not lab.check().findings


@contextmanager
def killed_before_its_second_look(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is run is killed when its record is there."""
    with monkeypatch.context() as patch:
        patch.setattr("penstock.engine.forget._refuse_too_late", _killed)
        yield


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_what_was_forgotten_after_the_tombstone_was_put_waits_for_the_next(lab: Lab, store: VirtualStore) -> None:
    one, two = night(lab, store, b"one" * 999), night(lab, store, b"two" * 999)
    night(lab, store, b"three" * 999)
    let_go(lab, one)
    pruned(lab)
    let_go(lab, two)
    store.passes(days=1)
    pruned(lab)
    assert needed(lab)["snapshots"] == 2
    store.passes(days=1)
    pruned(lab)
    assert needed(lab)["snapshots"] == 1


def test_a_session_that_began_before_is_waited_for_and_what_it_needs_stays(
    lab: Lab, store: VirtualStore, tmp_path: Path
) -> None:
    data = b"one" * 99999
    one = night(lab, store, data)
    night(lab, store, b"two" * 999)
    let_go(lab, one)
    with session_of(lab.open(), tmp_path / "other") as session, session.writer() as writer:
        pruned(lab)
        store.passes(days=1)
        # It has been silent for a day by the store's clock, but for this:
        assert session._lease is not None
        store.now -= timedelta(days=1)
        for _ in range(48):
            store.passes(minutes=30)
            session._lease.renew()
        found = pruned(lab)
        assert found.deleted == 0
        assert "sessions that began before" in found.waiting[0].reason
        del writer
    # It has ended without a commit: nobody knows before its lease runs out.
    assert pruned(lab).deleted == 0
    store.passes(minutes=66)
    assert pruned(lab).deleted


def test_a_session_that_was_silent_for_an_hour_commits_nothing(lab: Lab, store: VirtualStore, tmp_path: Path) -> None:
    with ExitStack() as stack:
        session = stack.enter_context(session_of(lab.open(), tmp_path / "other"))
        assert session._lease is not None
        store.passes(minutes=59)
        session._lease.renew()
        store.passes(minutes=60)
        with pytest.raises(SessionLost):
            session._lease.renew()


def test_two_at_once_are_refused(lab: Lab, store: VirtualStore) -> None:
    with Workers(1, "penstock-test", lab.sink.stop) as workers, Presence(lab.domain, workers):
        store.passes(minutes=1)
        with pytest.raises(PruneRunning, match="another prune of main is running, by owner"):
            pruned(lab)
        pruned(lab, dry_run=True)
        pruned(lab, take_over=True)
        store.passes(minutes=9)
        pruned(lab)


def test_who_may(lab: Lab, store: VirtualStore) -> None:
    maintainer = add_maintainer(lab.open(), "carol")
    writer = add_writer(lab.open(), "host", domain="main")
    one = night(lab, store, b"one" * 999)
    two = night(lab, store, b"two" * 999)
    let_go(lab, one)
    with pytest.raises(RoleForbids):
        pruned(lab, lab.open(writer))
    assert pruned(lab, lab.open(writer), dry_run=True).doom.doomed
    pruned(lab, lab.open(maintainer))
    store.passes(days=1)
    assert pruned(lab, lab.open(maintainer)).deleted
    assert lab.restored(two) == {"d": b"two" * 999}
    assert not lab.check().findings


def test_a_head_that_cannot_be_read_ends_it_until_it_is_let_go_of(lab: Lab, store: VirtualStore) -> None:
    one, two = night(lab, store, b"one" * 999), night(lab, store, b"two" * 999)
    let_go(lab, one)
    key = lab.at.snapshot_key(bytes.fromhex(two))
    lab.flip(key, 100)
    before = lab.keys(lab.at.packs)
    with pytest.raises(DamagedObject, match=two):
        pruned(lab)
    store.passes(days=1)
    with pytest.raises(DamagedObject):
        pruned(lab)
    assert lab.keys(lab.at.packs) == before
    with pytest.raises(UsageError, match="can be read"):
        find_unreadable(lab.open(), one)
    with pytest.raises(SnapshotNotFound):
        find_unreadable(lab.open(), "00" * 16)
    with pytest.raises(UsageError, match="whole id"):
        find_unreadable(lab.open(), two[:8])
    night(lab, store, b"three" * 999)
    heads = [find_unreadable(lab.open(), two)]
    # The next head names the one that is lost: the record says so.
    gone = gone_with(lab.open(), heads)
    assert ["it follows snapshot 2 of its writer" in one.problem for one in gone] == [True]
    forget_unreadable(lab.open(), heads, gone)
    assert not lab.check().findings
    assert pruned(lab).doom.doomed
    store.passes(days=1)
    assert pruned(lab).deleted
    there = lab.keys()
    assert key not in there
    assert not lab.check().findings
    assert lab.restored() == {"d": b"three" * 999}


def test_limits_end_it_and_the_next_run_goes_on(lab: Lab, store: VirtualStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "_now", lambda: store.now)
    one, two = night(lab, store, b"one" * 999), night(lab, store, b"two" * 999)
    let_go(lab, one)
    assert pruned(lab, dry_run=True).doom.doomed == pruned(lab, dry_run=True).doom.doomed > 0
    pruned(lab)
    store.passes(days=1)
    plan = pruned(lab, dry_run=True)
    assert plan.deleted
    found = pruned(lab, limits=Limits(seconds=0))
    assert found.left == plan.deleted - 1
    assert found.left_size == plan.deleted_size
    assert pruned(lab).deleted == plan.deleted
    assert pruned(lab, dry_run=True).deleted == 0
    assert lab.restored(two) == {"d": b"two" * 999}
    assert not lab.check().findings


def test_what_is_locked_waits_for_the_end_of_its_lock(tmp_path: Path) -> None:
    store = VirtualStore(MemorySettings(object_lock_days=30))
    lab = Lab(tmp_path / "cache", store)
    one = night(lab, store, b"one" * 999)
    store.passes(days=20)
    two = night(lab, store, b"two" * 999)
    let_go(lab, one)
    head = lab.at.snapshot_key(bytes.fromhex(one))
    store.hold(head)
    assert pruned(lab).doom.doomed == 0  # all of it is locked for twelve days, as far as its age tells
    store.passes(days=13)
    found = pruned(lab)
    assert (found.deleted, found.locked) == (0, 1)  # of the head, nobody knows until when
    assert found.doom.doomed
    # Somebody lengthened the lock of the pack.
    (pack,) = [key for key in lab.keys(lab.at.packs) if key not in needs(lab, two)]
    store.retain(pack, store.now + timedelta(days=10))
    store.passes(days=1)
    swept = pruned(lab)
    assert swept.locked == 2  # the pack, and the head again
    assert swept.locked_until is not None
    assert swept.locked_until >= store.now + timedelta(days=9)
    assert swept.deleted == found.doom.doomed - 1
    assert {pack, head} <= lab.keys()
    assert not lab.check().findings
    store.passes(days=8)
    store.release(head)
    assert pruned(lab).deleted == 1
    there = lab.keys()
    assert head not in there
    store.passes(days=3)
    assert pruned(lab).deleted == 1
    there = lab.keys()
    assert pack not in there
    assert not lab.check().findings
    assert lab.restored(two) == {"d": b"two" * 999}
    # Tombstones are locked as well, and go when they can.
    assert lab.keys(lab.at.tombstones)
    store.passes(days=40)
    pruned(lab)
    assert not lab.keys(lab.at.tombstones)
    assert not lab.check().findings


def needs(lab: Lab, snapshot: str) -> set[str]:
    """The packs of a snapshot."""
    return {lab.at.pack_key(row.pack) for row in each_row(lab.find(snapshot)) if row.used}


def test_what_the_owner_keeps_of_a_revoked_writer_is_not_swept(lab: Lab, store: VirtualStore) -> None:
    writer = add_writer(lab.open(), "host", domain="main")
    made = lab.backup({"d": b"one" * 999}, by=lab.open(writer)).snapshot
    store.passes(hours=24)
    two = night(lab, store, b"two" * 999)
    entry = lab.find(made.hex())
    revoke(lab.open(), writer.key, without=[made])
    assert pruned(lab).doom.doomed
    keep(lab.open(), [entry])
    store.passes(days=1)
    pruned(lab)
    assert lab.restored(made.hex()) == {"d": b"one" * 999}
    assert lab.restored(two) == {"d": b"two" * 999}
    assert not lab.check().findings


def test_a_pack_with_copies_stays_as_long_as_a_snapshot_needs_what_was_copied(lab: Lab, store: VirtualStore) -> None:
    one, two = night(lab, store, noise(MIB, 1)), night(lab, store, noise(MIB, 2))
    packs = {snapshot: used(lab, snapshot) for snapshot in (one, two)}
    copies = {}
    for snapshot, (pack,) in packs.items():
        made = compacted(lab.domain, [lab.at.pack_key(pack)], lab.owner)
        copies[snapshot] = lab.at.pack_key(made.pack)
        store.put(copies[snapshot], made.data)
        put_index(lab.domain, [made.summary], lab.owner)
        delete(lab.domain, {}, Things(packs=(pack,)))
        store.delete(lab.at.pack_key(pack))
    store.passes(days=1)
    pruned(lab)
    store.passes(days=1)
    pruned(lab)
    assert set(lab.keys(lab.at.packs)) == set(copies.values())
    assert lab.restored(one) == {"d": noise(MIB, 1)}
    let_go(lab, one)
    for _ in range(2):
        pruned(lab)
        store.passes(days=1)
    pruned(lab)
    assert set(lab.keys(lab.at.packs)) == {copies[two]}
    assert lab.restored(two) == {"d": noise(MIB, 2)}
    assert not lab.check().findings


def used(lab: Lab, snapshot: str) -> set[bytes]:
    """The packs that a snapshot needs."""
    return {row.pack for row in each_row(lab.find(snapshot)) if row.used}


@pytest.mark.parametrize("by", ["the owner", "a writer", "a revoked writer"])
def test_an_index_object_goes_once_another_that_counts_says_the_same(lab: Lab, store: VirtualStore, by: str) -> None:
    access = lab.owner if by == "the owner" else add_writer(lab.open(), "host", domain="main")
    night(lab, store, b"one" * 999)
    (old,) = lab.keys(lab.at.index)
    (pack,) = lab.keys(lab.at.packs)
    new = put_index(lab.domain, [end_of(lab.domain, pack).summary()], access, replaces=[id_of(old)])
    if by == "a revoked writer":
        revoke(lab.open(), access.key)
    store.passes(days=1)
    for _ in range(2):
        pruned(lab)
        store.passes(days=1)
    pruned(lab)
    assert set(lab.keys(lab.at.index)) == ({old, new} if by == "a revoked writer" else {new})
    assert not lab.check().findings


def test_index_objects_that_nobody_can_read_go_after_the_grace(lab: Lab, store: VirtualStore) -> None:
    one, two = night(lab, store, b"one" * 999), night(lab, store, b"two" * 999)
    damaged, whole = sorted(lab.keys(lab.at.index))
    store.put(stray := lab.at.index_key(b"\xab" * 16), b"left by a run that failed")
    lab.flip(damaged, 60)
    store.passes(days=1)
    assert pruned(lab).doom.doomed == 2
    store.passes(days=1)
    assert pruned(lab).deleted == 2
    assert not {damaged, stray} & set(lab.keys(lab.at.index))
    assert whole in lab.keys(lab.at.index)
    assert not lab.check().findings
    assert (lab.restored(one), lab.restored(two)) == ({"d": b"one" * 999}, {"d": b"two" * 999})


def test_an_index_object_that_was_mended_meanwhile_stays(lab: Lab, store: VirtualStore) -> None:
    night(lab, store, b"one" * 999)
    (index,) = lab.keys(lab.at.index)
    kept = store.get(index)
    lab.flip(index, 60)
    store.passes(days=1)
    assert pruned(lab).doom.doomed == 1
    store.passes(hours=1)
    store.delete(index)
    store.put(index, kept)
    store.passes(days=1)
    assert pruned(lab).deleted == 0
    assert store.get(index) == kept
    assert not lab.check().findings


def test_an_index_object_that_says_more_than_the_one_in_its_place_stays(lab: Lab, store: VirtualStore) -> None:
    night(lab, store, b"one" * 999)
    night(lab, store, b"two" * 999)
    old = lab.keys(lab.at.index)
    pack = min(lab.keys(lab.at.packs))
    new = put_index(lab.domain, [end_of(lab.domain, pack).summary()], lab.owner, replaces=list(map(id_of, old)))
    store.passes(days=1)
    for _ in range(3):
        pruned(lab)
        store.passes(days=1)
    left = set(lab.keys(lab.at.index))
    assert new in left
    assert len(left) == 2
