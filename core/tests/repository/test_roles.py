import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from core.tests.repository.lab import KIB, MIB, BytesSource, Lab, noise

from penstock.api import DamagedObject, MissingObject, RoleForbids, WrongKey
from penstock.engine import cat, show
from penstock.format.documents import decode_document, encode_document
from penstock.format.encoding import Malformed, new_id
from penstock.format.keys import DecapsulationKey, SigningKey
from penstock.format.pack import open_segment
from penstock.format.sealing import Sealer, binding
from penstock.format.trust import OWNER_ID, Role, SessionDocument
from penstock.repository import Access, Repository, layout
from penstock.repository.read.directories import read_pack_end
from penstock.repository.sessions import data_sealer
from penstock.repository.snapshots import find_snapshot, list_snapshots
from penstock.repository.trust.keyring import add_key, entries, revoke
from penstock.testing import MemorySink


@dataclass
class Staff:
    """A repository with a key for each role, as read from its key file, and one backup."""

    lab: Lab
    writer: Access
    maintainer: Access
    content: bytes


def from_file(access: Access) -> Access:
    return Access.from_key_file(access.to_key_file(), "host.key")


@pytest.fixture
def staff(lab: Lab) -> Staff:
    writer = from_file(add_key(lab.repository, Role.WRITER, "database host"))
    maintainer = from_file(add_key(lab.repository, Role.MAINTAINER, "operations host"))
    content = noise(2 * MIB)
    lab.backup({"d": content}, by=lab.open(writer))
    return Staff(lab, writer, maintainer, content)


# what a writer key can open


def texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from itertools.chain.from_iterable(texts(one) for one in value.values())


def material(access: Access) -> list[bytes]:
    """Everything in a key file or derived from it, in pieces that could be AES or X25519 keys."""
    pieces = {access.index.index_key, access.index.id_key, access.index.secret}
    pieces.add(access.index.chunker_seed.to_bytes(32, "little"))
    for text in texts(json.loads(access.to_key_file())):
        try:
            raw = bytes.fromhex(text)
        except ValueError:
            raw = text.encode()
        pieces.update(raw[start : start + 32].ljust(32, b"\0") for start in range(0, len(raw), 32))
    return sorted(pieces)


def test_a_writer_key_opens_no_part_of_a_backup(staff: Staff) -> None:
    lab = staff.lab
    repository = lab.open()
    (entry,) = list_snapshots(repository)
    keys = material(staff.writer)
    assert staff.writer.index.index_key in keys
    segment = entry.catalogue.segments[0]
    directory, _ = read_pack_end(repository, segment.pack)
    place = directory.segments[0]
    sealed = lab.sink.get(layout.pack_key(segment.pack), start=place.offset, length=place.sealed_length)
    (slot,) = (info.key for info in lab.sink.list(layout.SLOTS))
    slot_sealed = bytes.fromhex(decode_document(slot, lab.sink.get(slot)).claimed["sealed"])
    for key in keys:
        sealer = Sealer(key)
        with pytest.raises(Malformed):
            open_segment(sealed, sealer, repository.id, place.id)
        with pytest.raises(Malformed):
            entry.sealed.open_manifest(sealer, repository.id)
        with pytest.raises(Malformed):
            sealer.open(slot_sealed, binding("slot", repository.id, layout.id_of(slot)))
    # The same calls succeed with the owner's key: the calls themselves are not at fault.
    owners = data_sealer(repository, entry.sealed.session)
    assert staff.content.startswith(open_segment(sealed, owners, repository.id, place.id))
    assert entry.sealed.open_manifest(owners, repository.id).streams[0].name == "d"


def test_a_writer_key_opens_no_data_key(staff: Staff) -> None:
    repository = staff.lab.open()
    (entry,) = list_snapshots(repository)
    key = layout.session_key(entry.sealed.session)
    session = SessionDocument.from_json(decode_document(key, staff.lab.sink.get(key)).claimed)
    assert set(session.wrapped) == {OWNER_ID}
    secrets = [staff.writer.index.secret, staff.writer.index.index_key, staff.writer.index.id_key]
    assert staff.writer.signing is not None
    secrets.append(staff.writer.signing.seed)
    for first, second, scalar in itertools.product(secrets, repeat=3):
        with pytest.raises(Malformed):
            session.unwrap(DecapsulationKey(first + second, scalar), OWNER_ID, repository.id)
    _, private = repository.access.require_owner("this")
    assert len(session.unwrap(private, OWNER_ID, repository.id)) == 32


@pytest.mark.parametrize("role", ["writer", "maintainer"])
def test_only_the_owner_reads(staff: Staff, role: str) -> None:
    lab = staff.lab
    repository = lab.open(staff.writer if role == "writer" else staff.maintainer)
    entry = find_snapshot(repository, "latest")
    target = BytesSource({})
    with pytest.raises(RoleForbids, match=f"a {role} key") as raised:
        lab.restore(into=target, by=repository)
    assert raised.value.exit_code == 23
    with pytest.raises(RoleForbids):
        cat(repository, entry, "d", out=lambda _: pytest.fail("a byte came out"), listener=lab.events.append)
    assert show(repository, entry).manifest is None
    assert target.touched == []


def test_a_writer_can_list_check_and_find_duplicates(staff: Staff, tmp_path: Path) -> None:
    lab = staff.lab
    repository = lab.open(staff.writer)
    result = lab.backup({"d": staff.content + b"more"}, by=repository, cache=tmp_path / "new host")
    assert result.stored < 32 * KIB
    assert [entry.sealed.writer for entry in list_snapshots(repository)] == [staff.writer.key] * 2
    assert lab.check(by=repository).findings == ()
    assert lab.restored() == {"d": staff.content + b"more"}


def test_a_maintainer_can_list_and_check_but_not_back_up(staff: Staff) -> None:
    lab = staff.lab
    repository = lab.open(staff.maintainer)
    assert len(list_snapshots(repository)) == 1
    report = lab.check(by=repository)
    assert (report.findings, report.snapshots, report.packs) == ((), 1, 1)
    before = {info.key for info in lab.sink.list()}
    source = BytesSource({"d": b"1"})
    with pytest.raises(RoleForbids, match="a maintainer key"):
        lab.backup(source, by=repository)
    assert {info.key for info in lab.sink.list()} == before


def test_a_role_without_write_access_starts_no_dump(staff: Staff, monkeypatch: pytest.MonkeyPatch) -> None:
    source = BytesSource({"d": b"1"})
    monkeypatch.setattr(source, "dump", lambda: pytest.fail("the dump was started"))
    with pytest.raises(RoleForbids):
        staff.lab.backup(source, by=staff.lab.open(staff.maintainer))


@pytest.mark.parametrize("role", ["writer", "maintainer"])
def test_only_the_owner_changes_keys(staff: Staff, role: str) -> None:
    lab = staff.lab
    repository = lab.open(staff.writer if role == "writer" else staff.maintainer)
    before = {info.key for info in lab.sink.list()}
    with pytest.raises(RoleForbids):
        add_key(repository, Role.WRITER, "friend")
    with pytest.raises(RoleForbids):
        revoke(repository, staff.maintainer.key)
    with pytest.raises(RoleForbids):
        _ = repository.access.owner_secret
    assert {info.key for info in lab.sink.list()} == before


def test_a_grant_forged_by_a_writer_is_refused(staff: Staff) -> None:
    lab = staff.lab
    writer = lab.open(staff.writer)
    assert staff.writer.signing is not None
    forger = Repository(lab.sink, writer.config, replace(staff.writer, role=Role.OWNER), writer.grants)
    grant = next(iter(writer.grants)).grant
    forged = replace(grant, number=4, previous=writer.grants.head, key=new_id(), role=Role.WRITER, revoked=False)
    key = layout.grant_key(4)
    lab.sink.put(key, encode_document(key, forged.to_json(), staff.writer.signing))
    with pytest.raises(DamagedObject, match=key):
        lab.open()
    assert forger.access.recipient is None


# keys that are invalid or no longer valid


def test_the_key_of_another_repository_is_refused(staff: Staff, tmp_path: Path) -> None:
    other = Lab(tmp_path / "other")
    for key in (other.owner, from_file(add_key(other.repository, Role.WRITER, "x"))):
        with pytest.raises(WrongKey, match="another repository") as raised:
            staff.lab.open(key)
        assert raised.value.exit_code == 21


def test_a_key_that_was_never_granted_is_refused(staff: Staff) -> None:
    for key in (
        replace(staff.writer, key=new_id()),
        replace(staff.maintainer, role=Role.WRITER, signing=SigningKey.generate()),
        replace(staff.writer, role=Role.MAINTAINER),
    ):
        with pytest.raises(WrongKey, match="never granted"):
            staff.lab.open(key)


def test_a_key_file_with_another_signing_key_is_refused_before_anything_is_written(staff: Staff) -> None:
    before = {info.key for info in staff.lab.sink.list()}
    with pytest.raises(WrongKey, match="damaged"):
        staff.lab.open(replace(staff.writer, signing=SigningKey.generate()))
    with pytest.raises(WrongKey, match="damaged"):
        staff.lab.open(replace(staff.lab.owner, signing=SigningKey.generate()))
    with pytest.raises(WrongKey, match="damaged"):
        staff.lab.open(replace(staff.lab.owner, recipient=DecapsulationKey.generate()))
    assert {info.key for info in staff.lab.sink.list()} == before


def test_a_revoked_key_opens_nothing(staff: Staff) -> None:
    lab = staff.lab
    for key, label in ((staff.writer, "database host"), (staff.maintainer, "operations host")):
        lab.open(key)
        revoke(lab.repository, key.key)
        with pytest.raises(WrongKey, match=label):
            lab.open(key)
    assert [(entry.role, entry.revoked_at is None) for entry in entries(lab.open())] == [
        (Role.SLOT, True),
        (Role.WRITER, False),
        (Role.MAINTAINER, False),
    ]


def test_backups_of_a_revoked_writer_stay_readable(staff: Staff) -> None:
    revoke(staff.lab.repository, staff.writer.key)
    assert staff.lab.restored() == {"d": staff.content}
    assert staff.lab.check().findings == ()


def test_new_snapshots_of_a_revoked_writer_are_refused(staff: Staff) -> None:
    lab = staff.lab
    opened_before = lab.open(staff.writer)
    revoke(lab.repository, staff.writer.key)
    forged = layout.snapshot_key(lab.backup({"d": b"forged"}, by=opened_before).snapshot)
    with pytest.raises(DamagedObject, match=forged):
        list_snapshots(lab.open())
    assert [finding.key for finding in lab.check().findings] == [forged]
    assert lab.restored() == {"d": staff.content}
    (warning,) = lab.warnings
    assert forged in warning
    with pytest.raises(DamagedObject, match=forged):
        lab.restore(forged.removeprefix(layout.SNAPSHOTS))


def test_a_revoked_writer_cannot_back_date_a_snapshot(staff: Staff, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = staff.lab
    opened_before = lab.open(staff.writer)
    revoke(lab.repository, staff.writer.key)
    monkeypatch.setattr("penstock.repository.write.session.now", lambda: "2001-01-01T00:00:00Z")
    forged = layout.snapshot_key(lab.backup({"d": b"forged"}, by=opened_before).snapshot)
    with pytest.raises(DamagedObject, match=forged):
        list_snapshots(lab.open())


def test_a_revoked_writer_cannot_replace_its_own_old_snapshot(staff: Staff, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = staff.lab
    opened_before = lab.open(staff.writer)
    (entry,) = list_snapshots(opened_before)
    revoke(lab.repository, staff.writer.key)
    ids = [entry.id]
    monkeypatch.setattr("penstock.repository.write.session.new_id", lambda: ids.pop() if len(ids) > 1 else new_id())
    lab.sink.delete(layout.snapshot_key(entry.id))
    forged = lab.backup({"d": b"forged"}, by=opened_before).snapshot
    data = lab.sink.get(layout.snapshot_key(forged))
    lab.sink.put(layout.snapshot_key(entry.id), data)
    lab.sink.delete(layout.snapshot_key(forged))
    with pytest.raises(DamagedObject, match=layout.snapshot_key(entry.id)):
        list_snapshots(lab.open())


def test_nobody_deduplicates_against_packs_of_a_revoked_writer(staff: Staff) -> None:
    lab = staff.lab
    opened_before = lab.open(staff.writer)
    revoke(lab.repository, staff.writer.key)
    lab.backup({"d": noise(MIB, 7)}, by=opened_before)
    assert lab.backup({"d": noise(MIB, 7)}).stored > MIB


def test_a_truncated_log_of_grants_is_noticed_once_a_session_has_seen_its_end(staff: Staff, tmp_path: Path) -> None:
    lab = staff.lab
    revoke(lab.repository, staff.writer.key)
    latest = lab.backup({"d": b"after the revocation"})
    lab.sink.delete("grants/00000004")
    # The revoked key opens the repository again: that alone is indistinguishable from the past. But ...
    lab.open(staff.writer)
    (finding,) = lab.check().findings
    assert (finding.key, finding.gone) == ("grants/00000004", True)
    target = BytesSource({})
    with pytest.raises(MissingObject, match="grants/00000004"):
        lab.restore(latest.snapshot.hex(), into=target)
    assert target.touched == []
    warnings = lab.backup({"d": b"again"}, cache=tmp_path / "another host").warnings
    assert any("grants/00000004" in warning for warning in warnings)


def test_of_two_concurrent_key_changes_only_one_succeeds(staff: Staff) -> None:
    lab = staff.lab
    one, other = lab.open(), lab.open()
    add_key(one, Role.WRITER, "first")
    with pytest.raises(Exception, match="at the same time"):
        add_key(other, Role.WRITER, "second")
    assert isinstance(lab.sink, MemorySink)
    assert [entry.label for entry in entries(lab.open())][-1] == "first"
