"""Revoking a writer: what it signed stays valid as far as the owner keeps it, whatever it signs from then on."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from core.tests.repository.forging import Hand, put_head, resign
from core.tests.repository.lab import MIB, BytesSource, Lab, noise

from penstock.api import DamagedObject, KeyMissing, SnapshotNotFound, UsageError, WrongKey
from penstock.engine import BackupResult
from penstock.format.encoding import new_id
from penstock.repository import Access, Repository, SnapshotEntry
from penstock.repository.read.content import each_row
from penstock.repository.snapshots import find_snapshot, list_snapshots
from penstock.repository.trust.keyring import add_maintainer, add_writer, entries, keep, revoke

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow

CONTENT = noise(2 * MIB)


@dataclass
class Stolen:
    """A writer's key of the owner's domain, which somebody else has too: he opened the repository with it before."""

    lab: Lab
    access: Access
    opened_before: Repository
    first: bytes

    def revoke(self, **wishes: object) -> list[bytes]:
        """The ids of what is kept."""
        kept = revoke(self.lab.open(), self.access.key, **wishes)  # type: ignore[arg-type]
        return [entry.id for entry in kept]

    def backup(self, content: bytes) -> BackupResult:
        return self.lab.backup({"d": content}, by=self.opened_before)

    def key(self, snapshot: bytes) -> str:
        return self.lab.at.snapshot_key(snapshot)

    def entry(self, snapshot: bytes) -> SnapshotEntry:
        """Also one that is not valid any more."""
        return find_snapshot(self.lab.open(), snapshot.hex(), hidden=True)

    def valid(self) -> list[bytes]:
        return [entry.id for entry in list_snapshots(self.lab.open(), lambda _: None)]


@pytest.fixture
def stolen(lab: Lab) -> Stolen:
    access = add_writer(lab.repository, "database host", domain="main")
    first = lab.backup({"d": CONTENT}, by=lab.open(access)).snapshot
    return Stolen(lab, access, lab.open(access), first)


def test_backups_of_a_revoked_writer_stay_readable(stolen: Stolen) -> None:
    assert stolen.revoke() == [stolen.first]
    assert stolen.lab.restored() == {"d": CONTENT}
    assert stolen.lab.check().findings == ()


def test_the_domain_of_a_revoked_writer_stays_readable_and_is_never_written_again(lab: Lab) -> None:
    writer = add_writer(lab.repository, "web host")
    opened_before = lab.open(writer)
    lab.backup({"d": CONTENT}, by=opened_before)
    revoke(lab.repository, writer.key)
    with pytest.raises(WrongKey, match="web host"):
        lab.open(writer)
    for by in (lab.open(), lab.open(add_maintainer(lab.repository, "operations"))):
        assert [entry.domain.label for entry in list_snapshots(by)] == ["web host"]
        assert lab.check(by=by).findings == ()
    assert lab.restored() == {"d": CONTENT}
    assert {entry.domain for entry in entries(lab.open())} >= {"web host"}


def test_new_snapshots_of_a_revoked_writer_are_refused(stolen: Stolen) -> None:
    lab = stolen.lab
    stolen.revoke()
    snapshot = stolen.backup(b"forged").snapshot
    forged = stolen.key(snapshot)
    with pytest.raises(DamagedObject, match=forged):
        list_snapshots(lab.open())
    assert [finding.key for finding in lab.check().findings] == [forged]
    assert lab.restored() == {"d": CONTENT}
    (warning,) = lab.warnings
    assert forged in warning
    target = BytesSource({})
    with pytest.raises(DamagedObject, match=forged):
        lab.restore(snapshot.hex(), into=target)
    assert target.touched == []


@pytest.mark.parametrize("time", ["2001-01-01T00:00:00.000000Z", "9999-01-01T00:00:00.000000Z"])
def test_a_revoked_writer_cannot_back_date_a_snapshot(
    stolen: Stolen, monkeypatch: pytest.MonkeyPatch, time: str
) -> None:
    stolen.revoke()
    with monkeypatch.context() as patched:
        patched.setattr("penstock.repository.write.session.now", lambda: time)
        forged = stolen.key(stolen.backup(b"forged").snapshot)
    with pytest.raises(DamagedObject, match=forged):
        list_snapshots(stolen.lab.open())


def test_a_revoked_writer_cannot_replace_its_own_old_snapshot(stolen: Stolen) -> None:
    lab = stolen.lab
    stolen.revoke()
    put_head(stolen.entry(stolen.first), Hand.of(stolen.access), snapshot=stolen.first, source="forged")
    with pytest.raises(DamagedObject, match=stolen.key(stolen.first)):
        list_snapshots(lab.open())
    assert [finding.key for finding in lab.check().findings] == [stolen.key(stolen.first)]
    with pytest.raises(SnapshotNotFound):
        lab.restore()


def test_nobody_signs_for_a_revoked_writer_what_is_kept_of_it(stolen: Stolen) -> None:
    """What is kept is pinned by its digest; the signature is still asked for."""
    stolen.revoke()
    data = bytearray(stolen.lab.sink.get(stolen.key(stolen.first)))
    data[-1] ^= 1
    stolen.lab.sink.put(stolen.key(stolen.first), bytes(data))
    assert stolen.valid() == []


@pytest.mark.parametrize("cache", ["kept", "lost"])
@pytest.mark.parametrize("when", ["before the revocation", "after it"])
def test_nobody_deduplicates_against_packs_of_a_revoked_writer(
    stolen: Stolen, tmp_path: Path, when: str, cache: str
) -> None:
    lab = stolen.lab
    content = noise(2 * MIB, 7)
    if when == "before the revocation":
        stolen.backup(content)
        assert lab.backup({"d": content}).packs == 0, "until then, it is used"
    stolen.revoke()
    if when == "after it":
        stolen.backup(content)
    theirs = lab.keys(lab.at.packs)
    result = lab.backup({"d": content}, cache=lab.cache if cache == "kept" else tmp_path / "new")
    assert result.stored > 2 * MIB
    entry = find_snapshot(lab.open(), result.snapshot.hex())
    assert {lab.at.pack_key(row.pack) for row in each_row(entry) if row.used}.isdisjoint(theirs)
    assert not any("packs/" in warning for warning in result.warnings), "its packs are sound, and not to be relied on"
    assert lab.restored() == {"d": content}


@pytest.fixture
def nights(stolen: Stolen) -> list[bytes]:
    """Three more snapshots of the stolen key, after the first."""
    return [stolen.first, *(stolen.backup(b"night %d" % night).snapshot for night in range(3))]


def test_all_that_is_there_is_kept_unless_the_owner_says_otherwise(stolen: Stolen, nights: list[bytes]) -> None:
    assert stolen.revoke() == nights
    assert stolen.valid() == nights
    assert stolen.lab.check().findings == ()


def test_what_the_store_wrote_since_a_time_is_not_kept(stolen: Stolen, nights: list[bytes]) -> None:
    since = stolen.entry(nights[2]).time
    assert stolen.revoke(since=since) == nights[:2]
    assert stolen.valid() == nights[:2]
    grantee = stolen.lab.open().log.find(stolen.access.key)
    assert grantee is not None
    assert grantee.since == since
    assert {finding.key for finding in stolen.lab.check().findings} >= set(map(stolen.key, nights[2:]))


def test_a_thief_who_back_dated_before_the_revocation_is_caught_by_the_stores_time(stolen: Stolen) -> None:
    entry = stolen.entry(stolen.first)
    assert entry.modified is not None
    since = entry.modified.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    early = "2001-01-01T00:00:00.000000Z"
    forged = put_head(entry, Hand.of(stolen.access), started=early, finished=early).snapshot
    kept = stolen.revoke(since=since)
    assert forged not in kept
    assert forged not in stolen.valid()


def test_exceptions_are_kept_or_left_out_by_name(stolen: Stolen, nights: list[bytes]) -> None:
    since = stolen.entry(nights[1]).time
    assert stolen.revoke(since=since, keep=[nights[3]], without=[nights[0]]) == [nights[3]]
    assert stolen.valid() == [nights[3]]


def test_what_claims_to_be_from_the_future_is_kept_only_by_name(stolen: Stolen) -> None:
    future = "9999-01-01T00:00:00.000000Z"
    forged = put_head(stolen.entry(stolen.first), Hand.of(stolen.access), finished=future).snapshot
    assert stolen.revoke() == [stolen.first]
    assert stolen.valid() == [stolen.first]
    keep(stolen.lab.open(), [stolen.entry(forged)])
    assert set(stolen.valid()) == {stolen.first, forged}


@pytest.mark.parametrize("more", [1, 3])
def test_what_was_left_out_is_kept_later(stolen: Stolen, nights: list[bytes], more: int) -> None:
    stolen.revoke(since="2001-01-01T00:00:00.000000Z")
    assert stolen.valid() == []
    keep(stolen.lab.open(), [stolen.entry(night) for night in nights[:more]])
    assert stolen.valid() == nights[:more]
    keep(stolen.lab.open(), [stolen.entry(nights[3])])
    assert stolen.valid() == [*nights[:more], nights[3]]


def test_what_a_bucket_hid_while_the_owner_revoked_is_kept_later(stolen: Stolen, nights: list[bytes]) -> None:
    sink = stolen.lab.sink
    hidden = {night: sink.get(stolen.key(night)) for night in nights[1:3]}
    for night in hidden:
        sink.delete(stolen.key(night))
    assert stolen.revoke() == [nights[0], nights[3]]
    for night, data in hidden.items():
        sink.put(stolen.key(night), data)
    assert stolen.valid() == [nights[0], nights[3]]
    keep(stolen.lab.open(), [stolen.entry(night) for night in hidden])
    assert stolen.valid() == nights
    assert stolen.lab.check().findings == ()


def test_only_snapshots_of_revoked_writers_are_kept(stolen: Stolen) -> None:
    with pytest.raises(UsageError, match="valid already"):
        keep(stolen.lab.open(), list_snapshots(stolen.lab.open()))
    before = stolen.lab.keys()
    mine = stolen.lab.backup({"d": b"mine"}).snapshot
    stolen.revoke(without=[stolen.first])
    with pytest.raises(UsageError, match="valid already"):
        keep(stolen.lab.open(), [stolen.entry(stolen.first), stolen.entry(mine)])
    assert stolen.valid() == [mine]
    assert len(stolen.lab.keys("grants/") - before) == 1


def test_a_key_is_revoked_once(stolen: Stolen) -> None:
    stolen.revoke()
    for key in (stolen.access.key, new_id(), bytes(16)):
        with pytest.raises(KeyMissing):
            revoke(stolen.lab.open(), key)


def test_strangers_objects_do_not_stop_a_revocation(stolen: Stolen) -> None:
    lab = stolen.lab
    for snapshot in (new_id(), bytes(16)):
        lab.sink.put(stolen.key(snapshot), b"a stranger's")
    assert stolen.revoke() == [stolen.first]


@pytest.mark.parametrize("cache", ["kept", "lost"])
def test_a_snapshot_that_was_not_kept_is_nobodys_parent_and_seen_by_nobody(
    stolen: Stolen, tmp_path: Path, cache: str
) -> None:
    lab = stolen.lab
    honest = lab.backup({"d": b"honest"})
    forged = stolen.backup(b"forged").snapshot
    # This host takes note of it while it is still valid.
    lab.backup({"d": b"another"}, name="another")
    stolen.revoke(without=[forged])
    head = lab.backup({"d": b"honest"}, cache=lab.cache if cache == "kept" else tmp_path / "new").head
    assert head.parent == honest.snapshot
    assert head.seen[stolen.access.key].digest == stolen.entry(stolen.first).digest


def test_a_check_complains_of_what_is_not_kept_and_not_of_those_who_saw_it(stolen: Stolen) -> None:
    lab = stolen.lab
    forged = stolen.backup(b"forged").snapshot
    seen_by = lab.backup({"d": b"honest"}).head
    assert seen_by.seen[stolen.access.key].digest == stolen.entry(forged).digest
    stolen.revoke(without=[forged])
    assert [finding.key for finding in lab.check().findings] == [stolen.key(forged)]


def test_a_revoked_writers_session_over_that_of_another_is_not_relied_on(stolen: Stolen, tmp_path: Path) -> None:
    """It is validly signed, and would hold another data key than the segments were sealed with."""
    lab = stolen.lab
    content = noise(2 * MIB, 8)
    lab.backup({"d": content})
    (session,) = lab.sessions()
    stolen.revoke()
    resign(lab.domain, lab.at.session_key(session), Hand.of(stolen.access), writer=stolen.access.key.hex())
    for cache in (lab.cache, tmp_path / "new"):
        result = lab.backup({"d": content}, cache=cache)
        assert session not in lab.sessions(result.snapshot.hex())
        assert lab.restored() == {"d": content}
