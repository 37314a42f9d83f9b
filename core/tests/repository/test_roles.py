"""What each role can open and do: its branch of the tree of secrets, and nothing beside it."""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from core.tests.repository.forging import Hand, put_notice
from core.tests.repository.lab import KIB, PASSPHRASE, BytesSource, Lab, noise

from penstock.api import RoleForbids, SnapshotNotFound, WrongKey
from penstock.engine import cat, show
from penstock.format.chunks import open_chunks
from penstock.format.documents import decode_document, encode_document
from penstock.format.encoding import Malformed, new_id
from penstock.format.grants import Granted
from penstock.format.head import decode_head
from penstock.format.index import decode_index
from penstock.format.keys import DecapsulationKey, SigningKey, _derive
from penstock.format.notice import Notice, decode_notice
from penstock.format.pack import open_places, open_segment
from penstock.format.part import Key, open_part
from penstock.format.sealing import Sealer, message
from penstock.format.trust import Role
from penstock.repository import Access, layout
from penstock.repository.domain import Domain
from penstock.repository.read.content import each_row, parts_of
from penstock.repository.read.ends import TAIL, read_end
from penstock.repository.sessions import data_sealer, read_session
from penstock.repository.snapshots import list_snapshots
from penstock.repository.trust.keyring import add_maintainer, add_writer, entries, keep, revoke

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow


@dataclass
class Staff:
    """A repository with a key of each kind, as read from its key file, and one backup in each of two domains."""

    lab: Lab
    writer: Access
    other: Access
    maintainer: Access
    content: bytes

    def by_name(self, name: str) -> Access:
        accesses = {
            "owner": self.lab.owner,
            "writer": self.writer,
            "writer of another domain": self.other,
            "maintainer": self.maintainer,
        }
        return accesses[name]


def from_file(access: Access) -> Access:
    return Access.from_key_file(access.to_key_file(), "host.key")


@pytest.fixture
def staff(lab: Lab) -> Staff:
    """The writer's domain is the owner's, `main`; the other writer has one of its own."""
    writer = from_file(add_writer(lab.repository, "database host", domain="main"))
    other = from_file(add_writer(lab.repository, "web host"))
    maintainer = from_file(add_maintainer(lab.repository, "operations host"))
    content = noise(30 * KIB)
    lab.backup({"d": content}, by=lab.open(writer))
    lab.backup({"w": noise(30 * KIB, 1)}, name="site", by=lab.open(other))
    return Staff(lab, writer, other, maintainer, content)


# what keys open

PURPOSES = [
    "maintenance secret", "layout key", "domain secret", "chunk id key", "id key", "chunker seed", "layout proof",
    "domain proof", "local tags",
]  # fmt: skip


def texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from itertools.chain.from_iterable(texts(one) for one in value.values())


def material(access: Access, domains: Iterable[bytes]) -> set[bytes]:
    """Everything in a key file, and all that derives from it on two levels, in pieces that could be AES keys."""
    pieces: set[bytes] = set()
    for text in texts(json.loads(access.to_key_file())):
        try:
            raw = bytes.fromhex(text)
        except ValueError:
            raw = text.encode()
        pieces.update(raw[start : start + 32].ljust(32, b"\0") for start in range(0, len(raw), 32))
    content = json.loads(access.to_key_file())
    level = {bytes.fromhex(text)[:32] for text in (content["ed25519"], *texts(content["secrets"]))}
    for _ in range(2):
        level = {
            _derive(secret, access.repository, purpose, domain)
            for secret, purpose, domain in itertools.product(level, PURPOSES, (b"", *domains))
        }
        pieces |= level
    return pieces


def tree(lab: Lab, domains: dict[str, bytes]) -> dict[str, bytes]:
    """The secrets of the repository by name."""
    root = lab.owner.root
    found = {"root": root.secret, "maintenance": root.maintenance.secret}
    for name, domain in domains.items():
        keys = root.domain(domain)
        assert keys.secret is not None
        found |= {
            f"layout of {name}": keys.layout_key,
            f"secret of {name}": keys.secret,
            f"chunk key of {name}": keys.chunk_key,
            f"id key of {name}": keys.id_key,
        }
    return found


WRITERS = {"layout", "secret", "chunk key", "id key"}
REACH = {
    "owner": {"root", "maintenance", *(f"{one} of {name}" for one in WRITERS for name in ("main", "web"))},
    "maintainer": {"maintenance", "layout of main", "layout of web"},
    "writer": {f"{one} of main" for one in WRITERS},
    "writer of another domain": {f"{one} of web" for one in WRITERS},
}


@pytest.mark.parametrize("role", REACH)
def test_a_role_reaches_its_branch_of_the_secrets_and_no_other(staff: Staff, role: str) -> None:
    domains = {"main": staff.lab.domain.id, "web": staff.lab.open(staff.other).domain.id}
    access = staff.by_name(role)
    known = material(access, domains.values())
    assert {name for name, secret in tree(staff.lab, domains).items() if secret in known} == REACH[role]
    reached = {name for name, domain in domains.items() if access.domain(domain) is not None}
    assert reached == {name for name in domains if f"layout of {name}" in REACH[role]}


def test_a_maintainer_cannot_test_a_guess_at_a_row(staff: Staff) -> None:
    for domain in staff.lab.open(staff.maintainer).domains:
        assert not domain.knows_chunks
        for secret in ("chunk_key", "id_key", "chunker_seed", "domain_proof"):
            with pytest.raises(ValueError, match="cannot hash chunks"):
                getattr(domain.keys, secret)
        with pytest.raises(RoleForbids, match="a maintainer key cannot look at chunks"):
            _ = domain.id_sealer


def sealed_things(lab: Lab, domain: Domain) -> dict[str, Callable[[Sealer], object]]:
    """Everything that is sealed in a domain with one backup, each with what tries to open it."""
    sink, at, scope = lab.sink, domain.at, domain.scope
    (entry,) = [one for one in list_snapshots(lab.open()) if one.domain.id == domain.id]
    (pack,) = sink.list(at.packs)
    end = read_end(domain, layout.id_of(pack.key), pack.size, TAIL)
    place = end.places.places[0]
    data = sink.get(pack.key)
    segment = data[place.offset : place.offset + place.sealed_length]
    ids = data[end.ends.offset : end.ends.offset + end.ends.ids_length]
    places = data[end.ends.offset + end.ends.ids_length :][: end.ends.places_length]
    (index,) = lab.keys(at.index)
    notice = put_notice(domain, Notice("", {new_id(): "why"}), Hand.of(lab.owner))
    sealed_notice = decode_notice(layout.id_of(notice), sink.get(notice))
    (slot,) = lab.keys(layout.SLOTS)
    sealed_slot = bytes.fromhex(decode_document(slot, sink.get(slot)).claimed["sealed"])
    by_key = {ref.key: ref for ref in parts_of(entry)}

    def part(ref_key: Key) -> Callable[[Sealer], object]:
        ref = by_key[ref_key]
        return lambda sealer: list(open_part(ref, sink.get(at.part_key(ref.part)), sealer, scope))

    head = decode_head(entry.id, sink.get(at.snapshot_key(entry.id)))
    sealed_index = decode_index(layout.id_of(index), sink.get(index))
    signing = lab.owner.signing.public
    return {
        "segment": lambda sealer: open_segment(segment, sealer, scope, place.id),
        "manifest": part(Key.DATA),
        "slot": lambda sealer: sealer.open(sealed_slot, message("slot", lab.repository.id, layout.id_of(slot))),
        "places": lambda sealer: open_places(places, sealer, scope, end.places.pack),
        "ids": lambda sealer: open_chunks(ids, sealer, scope, end.places),
        "head": lambda sealer: head.open(sealer, scope),
        "table": part(Key.LAYOUT),
        "index": lambda sealer: sealed_index.open_packs(sealer, scope),
        "hooks": lambda sealer: sealed_index.open_summaries(domain.layout_sealer, sealer, scope),
        "notice": lambda sealer: sealed_notice.open(Notice, signing, sealer, scope),
    }


def opens(call: Callable[[Sealer], object], key: bytes) -> bool:
    try:
        call(Sealer(key))
    except Malformed:
        return False
    return True


LAYOUT = {"places", "head", "table", "index", "notice"}
OPENS = {
    "maintainer": LAYOUT,
    "writer": LAYOUT | {"ids", "hooks"},
    "writer of another domain": set(),
}


@pytest.mark.parametrize("role", OPENS)
def test_a_key_opens_what_its_role_may_and_no_part_of_a_backup(staff: Staff, role: str) -> None:
    lab, domain = staff.lab, staff.lab.domain
    things = sealed_things(lab, domain)
    keys = material(staff.by_name(role), [one.id for one in lab.repository.domains])
    assert {name for name, call in things.items() if any(opens(call, key) for key in keys)} == OPENS[role]
    # The same calls succeed with the owner's keys: the calls themselves are not at fault.
    (entry,) = [one for one in list_snapshots(lab.open()) if one.domain.id == domain.id]
    owners = data_sealer(domain, entry.session)
    assert staff.content.startswith(things["segment"](owners))  # type: ignore[arg-type]
    things["manifest"](owners)
    for name in ("ids", "hooks"):
        things[name](domain.id_sealer)


@pytest.mark.parametrize("role", ["writer", "maintainer", "writer of another domain"])
def test_no_key_but_the_owners_opens_a_data_key(staff: Staff, role: str) -> None:
    lab, domain = staff.lab, staff.lab.domain
    (entry,) = [one for one in list_snapshots(lab.open()) if one.domain.id == domain.id]
    session = read_session(domain, entry.session)
    content = json.loads(staff.by_name(role).to_key_file())
    secrets = [bytes.fromhex(text).ljust(32, b"\0") for text in (content["ed25519"], *texts(content["secrets"]))]
    for first, second, scalar in itertools.product(secrets, repeat=3):
        with pytest.raises(Malformed):
            session.unwrap(DecapsulationKey(first + second, scalar), domain.scope)
    assert len(session.unwrap(lab.owner.require_owner("this"), domain.scope)) == 32


@pytest.mark.parametrize("role", ["writer", "maintainer"])
def test_only_the_owner_reads(staff: Staff, role: str) -> None:
    lab = staff.lab
    repository = lab.open(staff.by_name(role))
    entry = lab.find("latest:shop", by=repository)
    target = BytesSource({})
    with pytest.raises(RoleForbids, match=f"a {role} key") as raised:
        lab.restore(entry, into=target)
    assert raised.value.exit_code == 23
    with pytest.raises(RoleForbids):
        cat(entry, "d", out=lambda _: pytest.fail("a byte came out"), listener=lab.events.append)
    assert show(entry).manifest is None
    assert target.touched == []


# what keys do


def test_a_writer_can_list_check_and_find_duplicates(staff: Staff, tmp_path: Path) -> None:
    lab = staff.lab
    repository = lab.open(staff.writer)
    result = lab.backup({"d": staff.content + b"more"}, by=repository, cache=tmp_path / "new host")
    assert result.stored < 48 * KIB, "padded, as each of seven objects is"
    (entry,) = [one for one in list_snapshots(repository) if one.id == result.snapshot]
    assert len({row.pack for row in each_row(entry) if row.used}) == 2
    assert [entry.writer for entry in list_snapshots(repository)] == [staff.writer.key] * 2
    assert lab.check(by=repository).findings == ()
    target = BytesSource({})
    lab.restore("latest:shop", into=target)
    assert target.restored == {"d": staff.content + b"more"}


def test_a_writer_sees_nothing_of_another_domain(staff: Staff) -> None:
    lab = staff.lab
    for access, mine, backup in ((staff.writer, "main", "shop"), (staff.other, "web host", "site")):
        repository = lab.open(access)
        assert [domain.label for domain in repository.domains] == [mine]
        assert repository.domain.label == mine
        assert [entry.head.backup for entry in list_snapshots(repository)] == [backup]
        report = lab.check(by=repository)
        assert (report.findings, report.snapshots, report.packs) == ((), 1, 1)
    (theirs,) = [one for one in list_snapshots(lab.open(staff.writer)) if one.head.backup == "shop"]
    for name in (theirs.id.hex(), "latest:shop", "latest:main/shop"):
        with pytest.raises(SnapshotNotFound):
            lab.find(name, by=lab.open(staff.other))


def test_a_maintainer_can_list_and_check_all_domains_but_not_back_up(staff: Staff) -> None:
    lab = staff.lab
    repository = lab.open(staff.maintainer)
    assert {entry.head.backup for entry in list_snapshots(repository)} == {"shop", "site"}
    report = lab.check(by=repository)
    assert (report.findings, report.snapshots, report.packs) == ((), 2, 2)
    assert (report.data_read, report.opened) == (True, False)
    before = lab.keys()
    source = BytesSource({"d": b"1"})
    with pytest.raises(RoleForbids, match="a maintainer key"):
        lab.backup(source, by=repository)
    with pytest.raises(RoleForbids, match="a maintainer key"):
        _ = repository.domain
    assert lab.keys() == before


def test_a_role_without_write_access_starts_no_dump(staff: Staff, monkeypatch: pytest.MonkeyPatch) -> None:
    source = BytesSource({"d": b"1"})
    monkeypatch.setattr(source, "dump", lambda: pytest.fail("the dump was started"))
    with pytest.raises(RoleForbids):
        staff.lab.backup(source, by=staff.lab.open(staff.maintainer))


@pytest.mark.parametrize("role", ["writer", "maintainer"])
def test_only_the_owner_changes_keys(staff: Staff, role: str) -> None:
    lab = staff.lab
    revoke(lab.repository, staff.other.key)
    theirs = [entry for entry in list_snapshots(lab.open()) if entry.writer == staff.other.key]
    assert len(theirs) == 1
    repository = lab.open(staff.by_name(role))
    before = lab.keys()
    attempts: list[Callable[[], object]] = [
        lambda: add_writer(repository, "friend"),
        lambda: add_writer(repository, "friend", domain="main"),
        lambda: add_maintainer(repository, "friend"),
        lambda: repository.add_domain("friend"),
        lambda: repository.add_slot(PASSPHRASE, "friend"),
        lambda: repository.append(Granted(new_id(), Role.SLOT, "friend")),
        lambda: revoke(repository, staff.maintainer.key),
        lambda: keep(repository, theirs),
        lambda: repository.access.owner_secret,
        lambda: repository.access.root,
    ]
    for attempt in attempts:
        with pytest.raises(RoleForbids):
            attempt()
    assert lab.keys() == before


def test_what_a_writer_or_a_maintainer_puts_into_the_log_is_passed_over(staff: Staff) -> None:
    lab = staff.lab
    forged = set()
    friend = replace(staff.maintainer, key=new_id(), role=Role.WRITER, branch=staff.writer.branch)
    granted = Granted(friend.key, Role.WRITER, "friend", friend.signing.public, lab.domain.id, ("*",))
    for access in (staff.writer, staff.maintainer):
        key = layout.grant_key(new_id())
        entry = lab.open(access).log.next("2026-01-31T12:00:00.000000Z", granted)
        lab.sink.put(key, encode_document(key, entry.to_json(), access.signing))
        forged.add(key)
    with pytest.raises(WrongKey, match="never granted"):
        lab.open(friend)
    assert {error.key for error in lab.open().log.strangers} == forged
    assert {finding.key for finding in lab.check().findings} == forged
    lab.backup({"d": staff.content}, by=lab.open(staff.writer))
    assert add_maintainer(lab.repository, "another").role is Role.MAINTAINER


@pytest.mark.parametrize(
    ("role", "writes", "speaks", "keeps"),
    [
        ("owner", True, True, True),
        ("writer", True, True, False),
        ("writer of another domain", False, False, False),
        ("maintainer", False, True, True),
    ],
)
def test_what_a_key_may_sign_in_a_domain(staff: Staff, role: str, writes: bool, speaks: bool, keeps: bool) -> None:
    """Packs and heads; notices; tombstones and deletion records. The same for whoever looks."""
    access = staff.by_name(role)
    expected = [access.signing.public if may else None for may in (writes, speaks, keeps)]
    for reader in (staff.lab.owner, staff.writer, staff.maintainer):
        (domain,) = [one for one in staff.lab.open(reader).domains if one.label == "main"]
        assert [domain.writer(access.key), domain.signer(access.key), domain.keeper(access.key)] == expected
        assert domain.writer(new_id()) is domain.signer(new_id()) is domain.keeper(new_id()) is None


def test_a_domain_binds_what_is_sealed_in_it_to_itself(staff: Staff) -> None:
    domains = staff.lab.open().domains
    assert [domain.label for domain in domains] == ["main", "web host"]
    assert len({domain.scope for domain in domains}) == 2
    for domain in domains:
        assert domain.scope == staff.lab.repository.id + domain.id
        assert domain.at == layout.DomainLayout(domain.id)
        assert domain.knows_chunks
    sealed = domains[0].layout_sealer.seal(b"x", message("head", domains[0].scope, new_id()))
    with pytest.raises(Malformed):
        domains[1].layout_sealer.open(sealed, message("head", domains[1].scope, new_id()))


# keys that are invalid or no longer valid


def test_the_key_of_another_repository_is_refused(staff: Staff, tmp_path: Path) -> None:
    other = Lab(tmp_path / "other")
    for key in (
        other.owner,
        from_file(add_writer(other.repository, "x")),
        from_file(add_maintainer(other.repository, "y")),
    ):
        with pytest.raises(WrongKey, match="another repository") as raised:
            staff.lab.open(key)
        assert raised.value.exit_code == 21


def test_a_key_that_was_never_granted_is_refused(staff: Staff) -> None:
    for key in (
        replace(staff.writer, key=new_id()),
        replace(staff.maintainer, key=new_id()),
        replace(staff.maintainer, role=Role.WRITER, signing=SigningKey.generate()),
        replace(staff.writer, role=Role.MAINTAINER),
    ):
        with pytest.raises(WrongKey, match="never granted"):
            staff.lab.open(key)


def test_a_key_file_with_another_signing_key_is_refused_before_anything_is_written(staff: Staff) -> None:
    before = staff.lab.keys()
    for access in (staff.writer, staff.other, staff.maintainer, staff.lab.owner):
        with pytest.raises(WrongKey, match="damaged"):
            staff.lab.open(replace(access, signing=SigningKey.generate()))
    with pytest.raises(WrongKey, match="damaged"):
        staff.lab.open(replace(staff.lab.owner, recipient=DecapsulationKey.generate()))
    assert staff.lab.keys() == before


def test_a_writer_with_the_secrets_of_another_domain_is_refused(staff: Staff) -> None:
    with pytest.raises(WrongKey, match=r"never made the domain|its secrets are not those"):
        staff.lab.open(replace(staff.writer, branch=replace(staff.lab.domain.keys, domain=new_id())))
    mixed = replace(staff.lab.domain.keys, secret=staff.lab.open(staff.other).domain.keys.secret)
    with pytest.raises(WrongKey, match="its secrets are not those"):
        staff.lab.open(replace(staff.writer, branch=mixed))


def test_a_revoked_key_opens_nothing(staff: Staff) -> None:
    lab = staff.lab
    keys = (staff.writer, "database host"), (staff.other, "web host"), (staff.maintainer, "operations host")
    for key, label in keys:
        lab.open(key)
        revoke(lab.repository, key.key)
        with pytest.raises(WrongKey, match=label):
            lab.open(key)
    assert [(entry.role, entry.domain, entry.revoked_at is None) for entry in entries(lab.open())] == [
        (Role.SLOT, None, True),
        (Role.WRITER, "main", False),
        (Role.WRITER, "web host", False),
        (Role.MAINTAINER, None, False),
    ]
