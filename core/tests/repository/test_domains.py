"""Domains are apart: each has its prefix, its secrets, its writers and the names that they may use."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from core.tests.repository.forging import Hand, put_head, put_pack, resign
from core.tests.repository.lab import MIB, BytesSource, Lab, noise

from penstock.api import DamagedObject, ObjectInfo, RoleForbids, SinkDenied, SnapshotNotFound
from penstock.format.encoding import new_id
from penstock.repository import Access, Repository, layout
from penstock.repository.domain import Domain
from penstock.repository.read.seen import snapshots_seen
from penstock.repository.snapshots import find_snapshot, list_snapshots
from penstock.repository.trust.keyring import add_maintainer, add_writer
from penstock.testing import MemorySink

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow

CONTENT = noise(2 * MIB)
FUTURE = "9999-12-31T23:59:59.999999Z"


@dataclass
class Two:
    """A repository with a writer in the owner's domain and one in a domain of its own, each with a backup `shop`."""

    lab: Lab
    main: Access
    web: Access

    def domain(self, access: Access) -> Domain:
        """With all keys."""
        (found,) = [one for one in self.lab.open().domains if one.id == self.lab.open(access).domain.id]
        return found


@pytest.fixture
def two(lab: Lab) -> Two:
    made = Two(lab, add_writer(lab.repository, "host", domain="main"), add_writer(lab.repository, "web"))
    lab.backup({"d": CONTENT}, by=lab.open(made.main))
    lab.backup({"d": CONTENT}, by=lab.open(made.web))
    return made


def test_what_one_domain_stored_is_of_no_use_to_another(two: Two) -> None:
    sizes = {access.label: size_of(two, access) for access in (two.main, two.web)}
    assert min(sizes.values()) > 2 * MIB
    main, web = two.domain(two.main).keys, two.domain(two.web).keys
    assert len({main.chunk_key, web.chunk_key}) == len({main.chunker_seed, web.chunker_seed}) == 2
    assert two.lab.check().findings == ()


def size_of(two: Two, access: Access) -> int:
    return sum(info.size for info in two.lab.sink.list(two.domain(access).at.prefix))


def test_all_that_a_writer_puts_lies_under_the_prefix_of_its_domain(two: Two) -> None:
    for access in (two.main, two.web):
        before = two.lab.keys()
        two.lab.backup({"d": noise(MIB, 3)}, by=two.lab.open(access))
        prefix = two.domain(access).at.prefix
        assert prefix == f"d/{two.lab.open(access).domain.id.hex()}/"
        assert all(key.startswith(prefix) for key in two.lab.keys() - before)


class ConfinedSink(MemorySink):
    """Grants a host what it needs and no more, as a bucket's policy can: to write and list below one prefix."""

    def __init__(self, inner: MemorySink, prefix: str) -> None:
        super().__init__()
        self.inner = inner
        self.prefix = prefix

    def _require(self, key: str, *readable: str) -> None:
        if not key.startswith((self.prefix, *readable)):
            raise SinkDenied(key, "not below the prefix of this host")

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
        self._require(key)
        self.inner.put(key, data, if_absent=if_absent)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        self._require(key, layout.CONFIG, layout.GRANTS)
        return self.inner.get(key, start=start, length=length)

    def stat(self, key: str) -> ObjectInfo:
        self._require(key, layout.CONFIG, layout.GRANTS)
        return self.inner.stat(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self._require(prefix, layout.GRANTS)
        return self.inner.list(prefix)

    def delete(self, key: str) -> None:
        raise SinkDenied(key, "this host deletes nothing")


def test_a_host_can_be_confined_to_its_prefix(two: Two, tmp_path: Path) -> None:
    assert isinstance(two.lab.sink, MemorySink)
    sink = ConfinedSink(two.lab.sink, two.domain(two.web).at.prefix)
    repository = Repository.open(sink, two.web)
    for cache in (tmp_path / "one", tmp_path / "two"):
        assert two.lab.backup({"d": CONTENT}, by=repository, cache=cache).packs == 0
    assert len(list_snapshots(repository)) == 3
    with pytest.raises(SinkDenied):
        next(sink.list(two.lab.at.prefix))
    with pytest.raises(SinkDenied):
        sink.put(two.lab.at.snapshot_key(new_id()), b"")


# names


@pytest.mark.parametrize("name", ["mail", "Shop", "shop2", "web", "*"])
def test_a_name_that_was_not_granted_is_refused_before_the_dump(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    writer = add_writer(lab.repository, "host", domain="main", names=["shop", "web-*"])
    source = BytesSource({"d": b"1"})
    monkeypatch.setattr(source, "dump", lambda: pytest.fail("the dump was started"))
    before = lab.keys()
    with pytest.raises(RoleForbids, match="not granted to store a backup named") as raised:
        lab.backup(source, name=name, by=lab.open(writer))
    assert raised.value.exit_code == 23
    assert lab.keys() == before


@pytest.mark.parametrize("name", ["shop", "web-1", "web-"])
def test_a_name_that_was_granted_is_stored(lab: Lab, name: str) -> None:
    writer = add_writer(lab.repository, "host", domain="main", names=["shop", "web-*"])
    lab.backup({"d": b"1"}, name=name, by=lab.open(writer))
    assert lab.find(f"latest:{name}").head.backup == name
    lab.backup({"d": b"2"}, name="anything", by=lab.open())
    assert lab.check().findings == ()


def test_a_head_with_a_name_that_was_not_granted_counts_as_one_without_a_signature(lab: Lab) -> None:
    writer = add_writer(lab.repository, "host", domain="main", names=["site"])
    lab.backup({"d": b"honest"})
    lab.backup({"d": b"a site"}, name="site", by=lab.open(writer))
    entry = lab.find("latest:site")
    forged = lab.at.snapshot_key(put_head(entry, Hand.of(writer), backup="shop").snapshot)
    with pytest.raises(DamagedObject, match=forged):
        list_snapshots(lab.open())
    assert lab.find("latest:shop").signer == "owner"
    (warning,) = lab.warnings
    assert forged in warning
    assert "not granted this name" in warning
    (finding,) = lab.check().findings
    assert (finding.key, finding.problem) == (forged, "its writer was not granted this name")
    head = lab.backup({"d": b"honest"}).head
    assert head.parent != layout.id_of(forged)
    assert head.seen[writer.key].sequence == entry.head.sequence


# one name in two domains


def test_a_name_that_two_domains_have_is_refused_and_both_are_named(two: Two) -> None:
    for by in (None, two.lab.open(add_maintainer(two.lab.repository, "operations"))):
        with pytest.raises(SnapshotNotFound, match="2 domains have a backup named shop") as raised:
            two.lab.find("latest:shop", by=by)
        assert raised.value.hint == "Give latest:main/shop or latest:web/shop."
    for access, label in ((two.main, "main"), (two.web, "web")):
        entry = two.lab.find(f"latest:{label}/shop")
        assert (entry.domain.label, entry.writer, entry.signer) == (label, access.key, access.label)
        assert two.lab.find("latest:shop", by=two.lab.open(access)).id == entry.id
    with pytest.raises(SnapshotNotFound):
        two.lab.find("latest:web/mail")


def test_what_cannot_be_the_latest_makes_no_name_ambiguous(lab: Lab) -> None:
    lab.backup({"d": b"honest"})
    stolen = add_writer(lab.repository, "web")
    lab.backup({"d": b"1"}, name="site", by=lab.open(stolen))
    entry = lab.find("latest:site")
    put_head(entry, Hand.of(stolen), backup="shop", finished=FUTURE)
    put_head(entry, Hand.of(lab.owner).as_if(stolen), backup="shop")
    assert lab.find("latest:shop").signer == "owner"
    assert len(lab.warnings) == 2


def test_latest_without_a_name_is_the_latest_of_all_domains(two: Two) -> None:
    assert two.lab.find("latest").domain.label == "web"
    two.lab.backup({"d": b"1"}, by=two.lab.open(two.main))
    assert two.lab.find("latest").domain.label == "main"


def test_a_backups_name_may_look_like_that_of_a_domain_and_does_not_come_in_between(two: Two) -> None:
    """A hostile writer may choose it, and the bucket may hide what is meant."""
    lab = two.lab
    lab.backup({"d": b"1"}, name="web/shop", by=lab.open(two.main))
    honest = lab.find("latest:web/shop")
    assert (honest.domain.label, honest.head.backup) == ("web", "shop")
    assert lab.find("latest:main/web/shop").head.backup == "web/shop"
    lab.sink.delete(honest.domain.at.snapshot_key(honest.id))
    with pytest.raises(SnapshotNotFound):
        lab.find("latest:web/shop")


def test_an_id_is_looked_for_in_all_domains(two: Two) -> None:
    for entry in list_snapshots(two.lab.open()):
        assert find_snapshot(two.lab.open(), entry.id.hex()).domain.id == entry.domain.id
    target = BytesSource({})
    two.lab.restore("latest:web/shop", into=target)
    assert target.restored == {"d": CONTENT}


def test_what_a_host_has_seen_is_kept_for_each_domain(two: Two) -> None:
    main, web = two.domain(two.main), two.domain(two.web)
    seen = {domain.label: snapshots_seen(two.lab.cache, domain) for domain in (main, web)}
    assert [len(ids) for ids in seen.values()] == [1, 1]
    assert seen["main"].isdisjoint(seen["web"])


# what belongs to one domain is nothing in another


def kinds(domain: Domain) -> dict[str, str]:
    at = domain.at
    return {
        "session": at.sessions,
        "pack": at.packs,
        "index": at.index,
        "part": at.parts,
        "head": at.snapshots,
    }


@pytest.mark.parametrize("kind", ["session", "pack", "index", "head"])
def test_a_copy_in_another_domain_is_a_strangers(two: Two, kind: str) -> None:
    lab, main, web = two.lab, two.domain(two.main), two.domain(two.web)
    copies = set()
    for key in lab.keys(kinds(web)[kind]):
        copy = key.replace(web.at.prefix, main.at.prefix)
        lab.sink.put(copy, lab.sink.get(key))
        copies.add(copy)
    assert {finding.key for finding in lab.check().findings} == copies
    result = lab.backup({"d": CONTENT}, by=lab.open(two.main), cache=lab.cache / "new")
    assert result.packs == 0
    assert {key for key in copies if any(key in warning for warning in result.warnings)} == copies
    assert [entry.domain.label for entry in list_snapshots(lab.open(), lambda _: None)] == ["main", "web", "main"]


@pytest.mark.parametrize("kind", ["session", "pack", "head"])
def test_a_writer_of_another_domain_signs_in_vain(two: Two, kind: str) -> None:
    """Even with all secrets of the domain, which it does not have."""
    lab, main = two.lab, two.domain(two.main)
    entry = lab.find("latest:main/shop")
    by = Hand.of(two.web)
    match kind:
        case "session":
            forged = main.at.session_key(new_id())
            lab.sink.put(forged, lab.sink.get(main.at.session_key(entry.session)))
            resign(main, forged, by, writer=two.web.key.hex(), session=forged[-32:])
        case "pack":
            forged = main.at.pack_key(put_pack(main, noise(MIB, 5), entry.session, by).pack)
        case _:
            forged = main.at.snapshot_key(put_head(entry, by).snapshot)
    (finding,) = lab.check().findings
    assert (finding.key, finding.problem) == (forged, "its signer was never granted to write here")
    assert lab.find("latest:main/shop").id == entry.id
    result = lab.backup({"d": noise(MIB, 5)}, by=lab.open(two.main))
    assert result.packs == 1
    assert [forged in warning for warning in result.warnings] == [True]
