"""Notices, tombstones and deletion records: who may say so, and what follows from it for everybody else."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from core.tests.repository.forging import Hand, put_head, put_notice
from core.tests.repository.lab import MIB, BytesSource, Lab, noise
from core.tests.repository.test_index import CACHES, cache_of

from penstock.api import DamagedObject, MissingObject, SinkDenied, SnapshotNotFound, UsageError
from penstock.format.documents import encode_document
from penstock.format.encoding import new_id
from penstock.format.notice import Action, Deletion, Notice, Things, Tombstone
from penstock.format.session import LeaseDocument
from penstock.format.times import now
from penstock.repository import Access, SnapshotEntry, layout
from penstock.repository.known.cache import Cache
from penstock.repository.layout import id_of
from penstock.repository.notices import Notices, distrust, read_doomed, read_notices
from penstock.repository.pool import Workers
from penstock.repository.read.content import each_row, parts_of, sessions_of
from penstock.repository.snapshots import find_snapshot, list_snapshots
from penstock.repository.trust.keyring import add_maintainer, add_writer, keep, left_out, revoke
from penstock.testing import Fail, FaultySink

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow

CONTENT = noise(2 * MIB, 21)
TIMES = [f"2026-01-31T12:00:0{second}.000000Z" for second in range(10)]


@dataclass
class Staff:
    """The keys of one domain, and some that have no say in it."""

    lab: Lab
    writer: Access
    colleague: Access
    maintainer: Access
    foreign: Access
    revoked_writer: Access
    revoked_maintainer: Access

    def by_name(self, name: str) -> Hand:
        return {
            "the owner": Hand.of(self.lab.owner),
            "the writer": Hand.of(self.writer),
            "another writer": Hand.of(self.colleague),
            "a maintainer": Hand.of(self.maintainer),
            "a writer of another domain": Hand.of(self.foreign),
            "a revoked writer": Hand.of(self.revoked_writer),
            "a revoked maintainer": Hand.of(self.revoked_maintainer),
            "a writer as the owner": Hand.of(self.colleague).as_if(self.lab.owner),
            "a writer as a maintainer": Hand.of(self.colleague).as_if(self.maintainer),
            "another writer as the writer": Hand.of(self.colleague).as_if(self.writer),
        }[name]

    def notices(self) -> tuple[Notices, set[str]]:
        """What is in force, and what is a stranger's."""
        strangers: set[str] = set()
        domain = self.lab.open().domain
        with Workers(2, "penstock-test", domain.sink.stop) as workers:
            return read_notices(domain, workers, lambda error: strangers.add(error.key)), strangers

    def backup(self, content: bytes = CONTENT) -> SnapshotEntry:
        """By the writer."""
        made = self.lab.backup({"d": content}, by=self.lab.open(self.writer))
        return find_snapshot(self.lab.open(), made.snapshot.hex())

    def listed(self) -> list[bytes]:
        return [entry.id for entry in list_snapshots(self.lab.open())]


@pytest.fixture
def staff(lab: Lab) -> Staff:
    def writer(label: str, domain: str | None = "main") -> Access:
        return add_writer(lab.repository, label, domain=domain)

    made = Staff(
        lab,
        writer("host"),
        writer("colleague"),
        add_maintainer(lab.repository, "operations"),
        writer("web", None),
        writer("stolen"),
        add_maintainer(lab.repository, "left"),
    )
    for access in (made.revoked_writer, made.revoked_maintainer):
        revoke(lab.repository, access.key)
    return made


EVERYBODY = [
    "the owner", "the writer", "another writer", "a maintainer", "a writer of another domain", "a revoked writer",
    "a revoked maintainer", "a writer as the owner", "a writer as a maintainer", "another writer as the writer",
]  # fmt: skip


#: What they said has no effect any more, and was right when they said it, as far as anybody knows.
FORMER = ["a revoked writer", "a revoked maintainer"]


# who may say what


@pytest.mark.parametrize("who", EVERYBODY)
def test_packs_are_distrusted_by_the_word_of_whoever_has_a_valid_key_of_the_domain(staff: Staff, who: str) -> None:
    pack = new_id()
    key = put_notice(staff.lab.domain, Notice(TIMES[0], {pack: "a segment is damaged"}), staff.by_name(who))
    may = who in ("the owner", "the writer", "another writer", "a maintainer")
    notices, strangers = staff.notices()
    assert notices.distrusted == ({pack: "a segment is damaged"} if may else {})
    assert strangers == (set() if may or who in FORMER else {key})
    assert {finding.key for finding in staff.lab.check().findings} == strangers


@pytest.mark.parametrize("who", EVERYBODY)
def test_only_maintainers_and_the_owner_forget(staff: Staff, who: str) -> None:
    entry = staff.backup()
    forget = Deletion(TIMES[0], Action.FORGET, {entry.id: entry.digest})
    key = put_notice(staff.lab.domain, forget, staff.by_name(who))
    may = who in ("the owner", "a maintainer")
    assert staff.listed() == ([] if may else [entry.id])
    strange = not may and (who not in FORMER or who == "a revoked writer")
    assert {finding.key for finding in staff.lab.check().findings} == ({key} if strange else set())


@pytest.mark.parametrize("who", EVERYBODY)
def test_only_maintainers_and_the_owner_put_tombstones(staff: Staff, who: str) -> None:
    pack = new_id()
    put_notice(staff.lab.domain, Tombstone(TIMES[0], Things(packs=(pack,))), staff.by_name(who))
    domain = staff.lab.open().domain
    with Workers(2, "penstock-test", domain.sink.stop) as workers:
        assert read_doomed(domain, workers).packs == ({pack} if who in ("the owner", "a maintainer") else set())


@pytest.mark.parametrize("who", EVERYBODY)
def test_a_snapshot_is_void_by_the_word_of_its_writer_or_the_owner(staff: Staff, who: str) -> None:
    entry = staff.backup()
    put_notice(staff.lab.domain, Notice(TIMES[0], {}, {entry.id: entry.digest}), staff.by_name(who))
    assert staff.listed() == ([] if who in ("the owner", "the writer") else [entry.id])


@pytest.mark.parametrize("kind", ["notices", "tombstones", "deletions"])
def test_what_was_said_in_one_place_is_not_said_in_another(staff: Staff, kind: str) -> None:
    """The same bytes under another prefix, or another name, have no valid signature."""
    domain = staff.lab.domain
    pack, entry = new_id(), staff.backup()
    things: list[Notice | Tombstone | Deletion] = [
        Notice(TIMES[0], {pack: "damaged"}, {entry.id: entry.digest}),
        Tombstone(TIMES[0], Things(packs=(pack,))),
        Deletion(TIMES[0], Action.DELETE, {entry.id: entry.digest}, Things(packs=(pack,))),
    ]
    copies = set()
    for thing in things:
        key = put_notice(domain, thing, Hand.of(staff.lab.owner))
        data = staff.lab.sink.get(key)
        staff.lab.sink.delete(key)
        copy = getattr(domain.at, kind) + new_id().hex()
        staff.lab.sink.put(copy, data)
        copies.add(copy)
    assert staff.notices()[0] == Notices()
    assert staff.listed() == [entry.id]
    assert {finding.key for finding in staff.lab.check().findings} == copies


# void


def test_a_void_snapshot_is_as_if_it_had_never_been(staff: Staff) -> None:
    first = staff.backup(b"first")
    second = staff.backup(b"second")
    put_notice(staff.lab.domain, Notice(TIMES[0], {}, {second.id: second.digest}), Hand.of(staff.writer))
    lab = staff.lab
    assert staff.listed() == [first.id]
    assert lab.restored() == {"d": b"first"}
    assert lab.warnings == []
    with pytest.raises(DamagedObject, match="voided it"):
        lab.restore(second.id.hex())
    report = lab.check()
    assert (report.findings, report.snapshots) == ((), 1)
    third = staff.backup(b"third")
    assert third.head.parent == first.id


def test_a_void_snapshot_still_counts_in_the_sequence_and_was_seen_by_others(staff: Staff) -> None:
    lab = staff.lab
    staff.backup(b"first")
    second = staff.backup(b"second")
    seen_by = lab.backup({"d": b"1"}, by=lab.open(staff.colleague)).head
    assert seen_by.seen[staff.writer.key].digest == second.digest
    put_notice(lab.domain, Notice(TIMES[0], {}, {second.id: second.digest}), Hand.of(staff.writer))
    third = staff.backup(b"third").head
    assert (third.sequence, third.previous) == (3, second.digest)
    assert lab.check().findings == ()


@pytest.mark.parametrize("order", range(4))
def test_nobodys_word_takes_back_that_a_snapshot_is_void(staff: Staff, order: int) -> None:
    """Whatever the order in which notices are read."""
    entry = staff.backup()
    hands = [staff.writer, staff.colleague, staff.maintainer, staff.lab.owner]
    for access in (*hands[order:], *hands[:order]):
        if access is not staff.lab.owner:
            put_notice(staff.lab.domain, Notice(TIMES[0], {}, {entry.id: entry.digest}), Hand.of(access))
    assert staff.listed() == []


def test_a_snapshot_is_void_by_the_digest_of_its_head(staff: Staff) -> None:
    entry = staff.backup()
    put_notice(staff.lab.domain, Notice(TIMES[0], {}, {entry.id: bytes(32)}), Hand.of(staff.writer))
    assert staff.listed() == [entry.id]


def test_a_writer_that_was_revoked_cannot_void_what_is_kept_of_it(staff: Staff) -> None:
    entry = staff.backup()
    revoke(staff.lab.repository, staff.writer.key)
    put_notice(staff.lab.domain, Notice(TIMES[0], {}, {entry.id: entry.digest}), Hand.of(staff.writer))
    assert staff.listed() == [entry.id]


def test_what_was_void_is_not_kept_when_its_writer_is_revoked(staff: Staff) -> None:
    first, second = staff.backup(b"first"), staff.backup(b"second")
    put_notice(staff.lab.domain, Notice(TIMES[0], {}, {second.id: second.digest}), Hand.of(staff.writer))
    assert [entry.id for entry in revoke(staff.lab.open(), staff.writer.key)] == [first.id]
    # Its notice counts no longer; nor does its snapshot.
    assert [entry.id for entry in list_snapshots(staff.lab.open(), lambda _: None)] == [first.id]


# forgotten


def forget(staff: Staff, *entries: SnapshotEntry, made: str = TIMES[0]) -> bytes:
    """Returns the id of the record."""
    record = Deletion(made, Action.FORGET, {entry.id: entry.digest for entry in entries})
    return id_of(put_notice(staff.lab.domain, record, Hand.of(staff.maintainer)))


def take_back(staff: Staff, entry: SnapshotEntry, *lifts: bytes, made: str = TIMES[1]) -> None:
    record = Deletion(made, Action.UNDELETE, {entry.id: entry.digest}, lifts=lifts)
    put_notice(staff.lab.domain, record, Hand.of(staff.maintainer))


def test_a_forgotten_snapshot_is_not_listed_until_it_is_taken_back(staff: Staff) -> None:
    first, second = staff.backup(b"first"), staff.backup(b"second")
    record = forget(staff, second)
    lab = staff.lab
    assert staff.listed() == [first.id]
    assert lab.restored() == {"d": b"first"}
    with pytest.raises(SnapshotNotFound, match="was forgotten"):
        lab.find(second.id.hex())
    assert lab.check().findings == ()
    take_back(staff, second, record)
    assert staff.listed() == [first.id, second.id]
    assert lab.restored() == {"d": b"second"}
    forget(staff, second, made=TIMES[2])
    assert staff.listed() == [first.id]


@pytest.mark.parametrize("made", [TIMES[0], "9999-12-31T23:59:59.999999Z"])
def test_what_is_taken_back_is_back_whatever_the_clocks_say(staff: Staff, made: str) -> None:
    entry = staff.backup()
    record = forget(staff, entry, made=made)
    assert staff.listed() == []
    take_back(staff, entry, record, made=TIMES[0])
    assert staff.listed() == [entry.id]


def test_who_takes_back_lifts_no_record_that_it_did_not_see(staff: Staff) -> None:
    entry, other = staff.backup(), staff.backup(b"other")
    seen, unseen = forget(staff, entry), forget(staff, entry)
    take_back(staff, entry, seen)
    take_back(staff, other, unseen)  # a record of another snapshot
    assert staff.listed() == [other.id]
    take_back(staff, entry, unseen)
    assert staff.listed() == [entry.id, other.id]


def test_what_was_deleted_is_never_taken_back(staff: Staff) -> None:
    entry = staff.backup()
    deleted = put_notice(
        staff.lab.domain, Deletion(TIMES[0], Action.DELETE, {entry.id: entry.digest}), Hand.of(staff.maintainer)
    )
    take_back(staff, entry, id_of(deleted))
    assert staff.listed() == []


@pytest.mark.parametrize("since", [None, "then"])
def test_what_a_maintainer_said_stays_said_when_its_key_is_revoked(staff: Staff, since: str | None) -> None:
    lab = staff.lab
    forgotten, other = staff.backup(b"forgotten"), staff.backup(b"other")
    damaged, meant = new_id(), new_id()
    forget(staff, forgotten)
    put_notice(lab.domain, Notice(TIMES[0], {damaged: "a segment is damaged"}), Hand.of(staff.maintainer))
    put_notice(lab.domain, Notice(TIMES[0], {meant: "as another says"}), Hand.of(staff.colleague))
    then = now()
    forget(staff, other)  # dated back, but the store knows when it was written
    revoke(lab.open(), staff.maintainer.key, since=then if since else None)
    assert staff.listed() == ([other.id] if since else [])
    assert staff.notices()[0].distrusted.keys() == {damaged, meant}
    assert len(lab.keys(lab.at.deletions)) == (3 if since else 4)
    assert lab.check().findings == ()
    revoke(lab.open(), staff.colleague.key)
    assert staff.notices()[0].distrusted.keys() == {damaged, meant}


def test_what_a_thief_voids_is_kept_when_the_owner_says_since_when_it_was_one(staff: Staff) -> None:
    lab = staff.lab
    first, second = staff.backup(b"first"), staff.backup(b"second")
    since = now()
    thiefs = staff.backup(b"a thief's")
    notice = Notice(TIMES[0], {}, {one.id: one.digest for one in (first, second)})  # dated back
    put_notice(lab.domain, notice, Hand.of(staff.writer))
    assert staff.listed() == [thiefs.id]
    repository = lab.open()
    assert [entry.id for entry in revoke(repository, staff.writer.key, since=since)] == [first.id, second.id]
    assert [entry.id for entry in list_snapshots(lab.open(), lambda _: None)] == [first.id, second.id]
    assert [entry.id for entry in left_out(lab.open(), staff.writer.key)] == [thiefs.id]


def test_what_is_left_out_is_named_and_can_be_kept(staff: Staff) -> None:
    """A thief voided them, and the owner does not know since when it was one."""
    entry = staff.backup()
    put_notice(staff.lab.domain, Notice(TIMES[0], {}, {entry.id: entry.digest}), Hand.of(staff.writer))
    assert revoke(staff.lab.open(), staff.writer.key) == []
    (out,) = left_out(staff.lab.open(), staff.writer.key)
    assert out.id == entry.id
    keep(staff.lab.open(), [out])
    assert staff.listed() == [entry.id]
    assert left_out(staff.lab.open(), staff.writer.key) == []


def test_the_owner_takes_back_what_a_stolen_maintainers_key_forgot(staff: Staff) -> None:
    entry = staff.backup()
    forget(staff, entry)
    revoke(staff.lab.open(), staff.maintainer.key)
    assert staff.listed() == []
    hidden = find_snapshot(staff.lab.open(), entry.id.hex(), hidden=True)
    keep(staff.lab.open(), [hidden])
    assert staff.listed() == [entry.id]
    with pytest.raises(UsageError, match="valid already"):
        keep(staff.lab.open(), [hidden])


def test_what_its_own_writer_voided_is_not_kept(staff: Staff) -> None:
    entry = staff.backup()
    put_notice(staff.lab.domain, Notice(TIMES[0], {}, {entry.id: entry.digest}), Hand.of(staff.writer))
    with pytest.raises(UsageError, match="voided"):
        keep(staff.lab.open(), [entry])


def test_a_deletion_is_still_explained_when_the_maintainers_key_is_revoked(staff: Staff) -> None:
    staff.backup(b"first")
    entry = staff.backup(noise(2 * MIB, 3))
    delete(staff, entry, recorded=True)
    assert staff.lab.check(cache=staff.lab.cache).findings == ()
    revoke(staff.lab.open(), staff.maintainer.key)
    assert staff.lab.check(cache=staff.lab.cache).findings == ()


def test_a_snapshot_is_forgotten_by_the_digest_of_its_head(staff: Staff) -> None:
    entry = staff.backup()
    record = Deletion(TIMES[0], Action.FORGET, {entry.id: bytes(32)})
    put_notice(staff.lab.domain, record, Hand.of(staff.lab.owner))
    assert staff.listed() == [entry.id]


@pytest.mark.parametrize("cache", ["kept", "lost"])
def test_a_forgotten_snapshot_is_nobodys_parent_and_still_counts_in_the_sequence(
    staff: Staff, tmp_path: Path, cache: str
) -> None:
    first, second = staff.backup(b"first"), staff.backup(b"second")
    forget(staff, second)
    folder = staff.lab.cache if cache == "kept" else tmp_path / "new"
    head = staff.lab.backup({"d": b"third"}, by=staff.lab.open(staff.writer), cache=folder).head
    assert head.parent == first.id
    # It may be taken back, and then no two heads of one writer have one number.
    assert (head.sequence, head.previous) == (3, second.digest)
    assert staff.lab.check().findings == ()


def test_a_writer_whose_snapshots_were_all_forgotten_goes_on(staff: Staff) -> None:
    forget(staff, staff.backup(b"first"))
    with pytest.raises(SnapshotNotFound, match="there is no snapshot"):
        staff.lab.restore()
    assert staff.backup(b"second").head.parent is None
    assert staff.lab.restored() == {"d": b"second"}
    assert staff.lab.check().findings == ()


# deleted


def delete(staff: Staff, entry: SnapshotEntry, *, recorded: bool) -> set[str]:
    """As a prune does: say so, then delete the head, and all that it alone needs. Returns the keys."""
    lab, at = staff.lab, staff.lab.at
    things = Things(
        packs=tuple(row.pack for row in each_row(entry)),
        parts=tuple(ref.part for ref in parts_of(entry)),
        index=entry.head.index,
        sessions=tuple(sessions_of(entry)),
    )
    if recorded:
        record = Deletion(TIMES[0], Action.DELETE, {entry.id: entry.digest}, things)
        put_notice(lab.domain, record, Hand.of(staff.maintainer))
    keys = {
        at.snapshot_key(entry.id),
        *map(at.pack_key, things.packs),
        *map(at.part_key, things.parts),
        *map(at.index_key, things.index),
        *map(at.session_key, things.sessions),
    }
    assert keys <= lab.keys()
    for key in keys:
        lab.sink.delete(key)
    return keys


def test_a_deletion_record_explains_what_is_gone(staff: Staff) -> None:
    lab = staff.lab
    first = staff.backup(noise(MIB, 1))
    staff.backup(noise(MIB, 2))
    assert lab.check(cache=lab.cache).findings == ()
    delete(staff, first, recorded=True)
    assert lab.check(cache=lab.cache).findings == ()
    assert lab.check().findings == ()
    for _ in range(2):
        assert lab.backup({"d": noise(MIB, 1)}, by=lab.open(staff.writer)).warnings == ()
    lab.find("latest")
    assert lab.warnings == []


def test_what_is_gone_without_a_record_is_told_of(staff: Staff) -> None:
    lab = staff.lab
    first = staff.backup(noise(MIB, 1))
    staff.backup(noise(MIB, 2))
    keys = delete(staff, first, recorded=False)
    gone = {finding.key for finding in lab.check(cache=lab.cache).findings if finding.gone}
    assert gone >= {key for key in keys if not key.startswith(lab.at.parts)}, "parts are known by their heads"
    warnings = lab.backup({"d": noise(MIB, 1)}, by=lab.open(staff.writer)).warnings
    for key in (lab.at.snapshot_key(first.id), *(key for key in keys if key.startswith(lab.at.packs))):
        assert any(key in warning for warning in warnings)


def test_vanished_packs_are_told_of_once_with_their_number(staff: Staff) -> None:
    lab = staff.lab
    for seed in range(8):
        staff.backup(noise(MIB, seed))
    packs = sorted(lab.keys(lab.at.packs))
    assert len(packs) == 8
    for pack in packs:
        lab.sink.delete(pack)
    by = lab.open(staff.writer)
    (warning,) = lab.backup({"d": noise(MIB, 0)}, by=by).warnings
    assert packs[0] in warning
    assert "7 more" in warning
    result = lab.backup({"d": noise(MIB, 0)}, by=by)
    assert result.warnings == ()
    assert result.packs == 0
    assert lab.restored() == {"d": noise(MIB, 0)}


def test_one_vanished_pack_is_told_of_by_its_name(staff: Staff) -> None:
    staff.backup()
    (pack,) = staff.lab.keys(staff.lab.at.packs)
    staff.lab.sink.delete(pack)
    (warning,) = staff.lab.backup({"d": b"1"}, by=staff.lab.open(staff.writer)).warnings
    assert pack in warning
    assert "others" not in warning


def test_some_of_the_vanished_packs_may_be_explained(staff: Staff) -> None:
    lab = staff.lab
    for seed in range(3):
        staff.backup(noise(MIB, seed))
    packs = sorted(lab.keys(lab.at.packs))
    record = Deletion(TIMES[0], Action.DELETE, {}, Things(packs=tuple(map(layout.id_of, packs[:2]))))
    put_notice(lab.domain, record, Hand.of(staff.maintainer))
    for pack in packs:
        lab.sink.delete(pack)
    (warning,) = lab.backup({"d": b"1"}, by=lab.open(staff.writer)).warnings
    assert packs[2] in warning
    assert "others" not in warning


def test_nobody_misses_leases_and_tombstones(staff: Staff) -> None:
    lab = staff.lab
    staff.backup()
    tombstone = put_notice(lab.domain, Tombstone(TIMES[0], Things(packs=(new_id(),))), Hand.of(staff.maintainer))
    lease = lab.at.lease_key(lab.sessions()[0], 1)
    document = LeaseDocument(lab.sessions()[0], 1).to_json()
    lab.sink.put(lease, encode_document(lease, document, staff.writer.signing))
    assert lab.check(cache=lab.cache).findings == ()
    for key in (tombstone, lease):
        lab.sink.delete(key)
    assert lab.check(cache=lab.cache).findings == ()


def test_a_record_of_a_writer_explains_nothing(staff: Staff) -> None:
    lab = staff.lab
    entry = staff.backup()
    (pack,) = lab.keys(lab.at.packs)
    things = Things(packs=(layout.id_of(pack),))
    forged = put_notice(
        lab.domain, Deletion(TIMES[0], Action.DELETE, {entry.id: entry.digest}, things), Hand.of(staff.colleague)
    )
    lab.sink.delete(pack)
    assert {finding.key for finding in lab.check().findings} == {pack, forged}
    assert any(pack in warning for warning in lab.backup({"d": b"1"}, by=lab.open(staff.writer)).warnings)


# damaged packs


def damage_a_segment(lab: Lab) -> str:
    """So that no end tells of it."""
    (pack,) = lab.keys(lab.at.packs)
    lab.flip(pack, MIB)
    return pack


def damage_an_end(lab: Lab) -> str:
    (pack,) = lab.keys(lab.at.packs)
    lab.flip(pack, -100)
    return pack


def used(lab: Lab) -> set[str]:
    entry = find_snapshot(lab.open(), "latest")
    return {lab.at.pack_key(row.pack) for row in each_row(entry) if row.used}


@pytest.mark.parametrize("role", ["owner", "writer", "maintainer"])
@pytest.mark.parametrize("damage", [damage_a_segment, damage_an_end])
def test_what_a_check_finds_damaged_is_stored_anew_by_the_next_backup_of_every_host(
    staff: Staff, tmp_path: Path, damage: Callable[[Lab], str], role: str
) -> None:
    lab = staff.lab
    first = staff.backup()
    pack = damage(lab)
    access = {"owner": lab.owner, "writer": staff.colleague, "maintainer": staff.maintainer}[role]
    report = lab.check(by=lab.open(access))
    assert report.distrusted == 1
    assert pack in {finding.key for finding in report.findings}
    (notice,) = lab.keys(lab.at.notices)
    notices, strangers = staff.notices()
    assert list(notices.distrusted) == [layout.id_of(pack)]
    assert strangers == set()

    for cache, packs in ((lab.cache, 1), (tmp_path / "another host", 0)):
        result = lab.backup({"d": CONTENT}, by=lab.open(staff.writer), cache=cache)
        assert result.packs == packs, "the second host finds what the first stored anew"
        assert pack not in used(lab)
        assert lab.restored() == {"d": CONTENT}
    with pytest.raises(DamagedObject, match=pack):
        lab.restore(first.id.hex())
    # It is said once: the next check finds the notice.
    assert lab.check(by=lab.open(access)).distrusted == 1
    assert lab.keys(lab.at.notices) == {notice}


def test_a_check_that_does_not_read_data_finds_no_damaged_segment(staff: Staff) -> None:
    staff.backup()
    damage_a_segment(staff.lab)
    report = staff.lab.check(read_data=False)
    assert (report.findings, report.distrusted) == ((), 0)
    assert staff.lab.keys(staff.lab.at.notices) == set()


@pytest.mark.parametrize("cache", CACHES)
def test_what_a_backup_finds_damaged_is_said_to_all_others(staff: Staff, tmp_path: Path, cache: str) -> None:
    lab = staff.lab
    staff.backup()
    pack = damage_an_end(lab)
    folder = cache_of(lab, tmp_path, cache)
    (warning,) = lab.backup({"d": CONTENT}, by=lab.open(staff.writer), cache=folder).warnings
    assert pack in warning
    assert list(staff.notices()[0].distrusted) == [layout.id_of(pack)]
    with Cache(folder, lab.domain.scope, lab.sink.location, on_trouble=pytest.fail) as kept:
        assert list(kept.distrusted()) == [layout.id_of(pack)]
    # Nobody reads it again: there is nothing more to be told of.
    for host in (folder, tmp_path / "third"):
        result = lab.backup({"d": CONTENT}, by=lab.open(staff.writer), cache=host)
        assert result.packs == 0
    assert len(lab.keys(lab.at.notices)) == 1


def test_a_check_that_may_not_write_tells_its_own_host_alone(staff: Staff, tmp_path: Path) -> None:
    lab = staff.lab
    staff.backup()
    pack = damage_a_segment(lab)
    read_only = FaultySink(lab.sink, Fail("put", times=None, error=SinkDenied))
    report = lab.check(by=lab.open(staff.maintainer, sink=read_only), cache=lab.cache)
    assert (report.distrusted, {finding.key for finding in report.findings} >= {pack}) == (0, True)
    assert any("other hosts are not told" in event.message for event in lab.events)
    assert lab.keys(lab.at.notices) == set()
    lab.backup({"d": CONTENT}, by=lab.open(staff.writer))
    assert pack not in used(lab)
    assert lab.restored() == {"d": CONTENT}


def test_a_check_on_one_host_is_of_use_to_its_own_backups_at_once(staff: Staff) -> None:
    lab = staff.lab
    staff.backup()
    pack = damage_a_segment(lab)
    lab.check(cache=lab.cache)
    for key in lab.keys(lab.at.notices):
        lab.sink.delete(key)
    assert lab.backup({"d": CONTENT}, by=lab.open(staff.writer)).stored > 2 * MIB
    assert pack not in used(lab)


def test_a_pack_that_is_replaced_by_what_it_was_stays_distrusted(staff: Staff) -> None:
    """Until somebody repairs it for good: nobody knows how often its disk will do that."""
    lab = staff.lab
    first = staff.backup()
    (pack,) = lab.keys(lab.at.packs)
    whole = lab.sink.get(pack)
    damage_a_segment(lab)
    lab.check()
    lab.sink.put(pack, whole)
    assert lab.backup({"d": CONTENT}, by=lab.open(staff.writer)).stored > 2 * MIB
    target = BytesSource({})
    lab.restore(first.id.hex(), into=target)
    assert target.restored == {"d": CONTENT}


def test_a_pack_that_is_gone_is_not_called_damaged(staff: Staff) -> None:
    staff.backup()
    (pack,) = staff.lab.keys(staff.lab.at.packs)
    staff.lab.sink.delete(pack)
    report = staff.lab.check()
    assert [(finding.key, finding.gone) for finding in report.findings] == [(pack, True)]
    assert report.distrusted == 0
    with pytest.raises(MissingObject, match=pack):
        staff.lab.restore()


def test_many_packs_are_distrusted_in_several_notices(staff: Staff) -> None:
    # Reasons that do not compress, and ids never do.
    packs = {new_id(): secrets.token_hex(100) for _ in range(9000)}
    distrust(staff.lab.domain, packs)
    keys = staff.lab.keys(staff.lab.at.notices)
    assert 1 < len(keys) < 10
    assert staff.notices() == (Notices(distrusted=packs), set())
    assert staff.lab.check().findings == ()


def test_a_head_that_is_hidden_hides_no_other_of_its_writer(staff: Staff) -> None:
    first = staff.backup(b"first")
    twin = put_head(first, Hand.of(staff.writer), source="twin").snapshot
    forget(staff, first)
    assert staff.listed() == [twin]
