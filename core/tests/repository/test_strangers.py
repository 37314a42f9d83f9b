"""What a stranger put there is a finding and never a stop, under whatever prefix, whatever it is and however large."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from core.tests.repository.forging import Hand, put_notice
from core.tests.repository.lab import KIB, MIB, PASSPHRASE, BytesSource, Lab, noise

from penstock.api import ObjectInfo, RestoreTarget
from penstock.engine import find, restore
from penstock.format.documents import encode_document
from penstock.format.encoding import new_id
from penstock.format.notice import Action, Deletion, Notice, Things, Tombstone
from penstock.format.session import LeaseDocument
from penstock.repository import Access, Repository, layout
from penstock.repository.layout import DomainLayout
from penstock.repository.snapshots import list_snapshots
from penstock.repository.trust.keyring import add_maintainer, add_writer, revoke
from penstock.testing import MemorySink

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow

CONTENT = noise(MIB, 31)
GIB = 1024 * MIB


@dataclass
class Base:
    """A repository as a stranger finds it."""

    contents: dict[str, bytes]
    owner: Access
    writer: Access
    maintainer: Access
    at: DomainLayout

    def one(self, prefix: str) -> str:
        """The key of an object below a prefix."""
        return next(key for key in self.contents if key.startswith(prefix))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    lab = Lab(tmp_path_factory.mktemp("cache"))
    writer = add_writer(lab.repository, "host", domain="main")
    maintainer = add_maintainer(lab.repository, "operations")
    lab.backup({"d": CONTENT}, by=lab.open(writer))
    things: list[Notice | Tombstone | Deletion] = [
        Notice("", {}, {}),
        Tombstone("", Things()),
        Deletion("", Action.FORGET, {}),
    ]
    for thing in things:
        put_notice(lab.domain, thing, Hand.of(maintainer))
    lease = LeaseDocument(lab.sessions()[0], 1)
    key = lab.at.lease_key(lease.session, lease.number)
    lab.sink.put(key, encode_document(key, lease.to_json(), writer.signing))
    assert isinstance(lab.sink, MemorySink)
    assert lab.check().findings == ()
    return Base(lab.sink.contents(), lab.owner, writer, maintainer, lab.at)


class Bucket(MemorySink):
    """With objects that are larger than they are: no more bytes of one may be asked for than its kind may have."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        super().__init__()
        for key, data in contents.items():
            self.put(key, data)
        self.claimed: dict[str, int] = {}

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        size = self.claimed.get(key)
        if size is None:
            return super().get(key, start=start, length=length)
        assert length is not None
        assert length <= layout.limit_of(key) + 1
        return bytes(max(0, min(length, size - start)))

    def stat(self, key: str) -> ObjectInfo:
        found = super().stat(key)
        return ObjectInfo(key, self.claimed.get(key, found.size), found.modified)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        for info in super().list(prefix):
            yield ObjectInfo(info.key, self.claimed.get(info.key, info.size), info.modified)


@dataclass
class Scene:
    """One stranger's object in a repository that goes on."""

    base: Base
    sink: Bucket
    folder: Path

    def open(self, access: Access | None = None) -> Repository:
        return Repository.open(self.sink, access or self.base.owner)

    def lab(self) -> Lab:
        """What helps to use it."""
        return Lab(self.folder / "cache", self.sink, self.base.owner)


@pytest.fixture
def scene(base: Base, tmp_path: Path) -> Scene:
    return Scene(base, Bucket(base.contents), tmp_path)


KINDS = ["sessions", "packs", "index", "parts", "snapshots", "leases", "notices", "tombstones", "deletions"]
PREFIXES = ["grants", "slots", *KINDS]


def name_of(at: DomainLayout, prefix: str) -> str:
    """A key as Penstock writes it."""
    name = new_id()
    match prefix:
        case "grants":
            return layout.grant_key(name)
        case "slots":
            return layout.slot_key(name)
        case "packs":
            return at.pack_key(name)
        case "leases":
            return at.lease_key(name, 1)
        case _:
            return f"{getattr(at, prefix)}{name.hex()}"


def assert_all_goes_on(scene: Scene, key: str) -> None:
    """Everybody opens, lists, backs up, checks and restores; a check of every role names the object.

    A backup says that it was passed over where it looked for something that it can use, and a restore where it looked
    for the latest snapshot.
    """
    lab, base = scene.lab(), scene.base
    at = base.at
    told = int(key.startswith((at.packs, at.index, at.sessions, at.snapshots)))
    for access in (base.owner, base.writer, base.maintainer):
        repository = scene.open(access)
        assert len(list_snapshots(repository, lambda _: None)) == 1
        assert {finding.key for finding in lab.check(by=repository).findings} == {key}
    for unlock in (PASSPHRASE, base.owner):
        target = BytesSource({})
        repository = Repository.open(scene.sink, unlock)
        warnings: list[str] = []
        entry = find(repository, "latest:shop", warn=warnings.append)
        restore(
            entry,
            target,
            target=RestoreTarget(),
            streams=None,
            verify_first=True,
            memory=64 * MIB,
            listener=lambda _: None,
        )
        assert target.restored == {"d": CONTENT}
        assert [key in warning for warning in warnings] == [True] * key.startswith(at.snapshots)
    for cache in (lab.cache, lab.cache, scene.folder / "another host"):
        result = lab.backup({"d": CONTENT}, by=scene.open(base.writer), cache=cache)
        assert result.packs == 0
        assert [key in warning for warning in result.warnings] == [True] * told
    assert {finding.key for finding in lab.check(cache=lab.cache).findings} == {key}
    assert len(revoke(scene.open(), base.writer.key)) == 4
    assert lab.restored() == {"d": CONTENT}


@pytest.mark.parametrize("content", ["empty", "seven bytes", "random", "another kind", "a copy of its kind"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_strangers_object_is_passed_over_and_named(scene: Scene, prefix: str, content: str) -> None:
    base = scene.base
    key = name_of(base.at, prefix)
    match content:
        case "empty":
            data = b""
        case "seven bytes":
            data = b"1234567"
        case "random":
            data = noise(5000)
        case "another kind":
            other = base.at.snapshots if prefix != "snapshots" else base.at.sessions
            data = base.contents[base.one(other)]
        case _:
            own = prefix + "/" if prefix in ("grants", "slots") else getattr(base.at, prefix)
            data = base.contents[base.one(own)]
    scene.sink.put(key, data)
    assert_all_goes_on(scene, key)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_an_object_that_is_too_large_is_not_fetched_and_named(scene: Scene, prefix: str) -> None:
    key = name_of(scene.base.at, prefix)
    scene.sink.put(key, b"")
    scene.sink.claimed[key] = 3 * GIB
    assert_all_goes_on(scene, key)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_an_object_of_one_byte_more_than_allowed_is_passed_over(scene: Scene, prefix: str) -> None:
    key = name_of(scene.base.at, prefix)
    scene.sink.put(key, b"")
    scene.sink.claimed[key] = layout.limit_of(key) + 1
    assert_all_goes_on(scene, key)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("name", ["x", "0" * 33, f"00/{'1' * 32}"])
def test_a_name_that_nobody_gives_is_passed_over_and_named(scene: Scene, prefix: str, name: str) -> None:
    folder = prefix + "/" if prefix in ("grants", "slots") else getattr(scene.base.at, prefix)
    key = folder + name
    scene.sink.put(key, b"a stranger's")
    assert_all_goes_on(scene, key)


@pytest.mark.parametrize(
    "key",
    [
        "x",
        "d/x",
        f"d/{'0' * 32}/snapshots/{'0' * 32}",
        f"d/{'0' * 32}/grants/{'0' * 32}",
        f"snapshots/{'0' * 32}",
        f"packs/00/{'0' * 32}",
        "tombstones/x",
        "zzz/x",
        "penstock.json.bak",
    ],
)
def test_what_lies_beside_the_repository_is_named_by_who_sees_all_of_it(scene: Scene, key: str) -> None:
    scene.sink.put(key, b"a stranger's")
    lab = scene.lab()
    for access in (scene.base.owner, scene.base.maintainer):
        assert [finding.key for finding in lab.check(by=scene.open(access)).findings] == [key]
    assert lab.check(by=scene.open(scene.base.writer)).findings == ()
    assert lab.backup({"d": CONTENT}, by=scene.open(scene.base.writer)).warnings == ()
    assert lab.restored() == {"d": CONTENT}


@pytest.mark.parametrize("name", ["unknown/x", "x", f"grants/{'0' * 32}", f"slots/{'0' * 32}", f"locks/{'0' * 32}"])
def test_what_lies_beside_the_objects_of_a_domain_is_named(scene: Scene, name: str) -> None:
    key = scene.base.at.prefix + name
    scene.sink.put(key, b"a stranger's")
    assert_all_goes_on(scene, key)


def test_much_of_it_is_told_in_a_few_sentences(scene: Scene) -> None:
    at = scene.base.at
    junk = {name_of(at, prefix) for prefix in ("snapshots", "packs", "sessions", "index") for _ in range(20)}
    for key in junk:
        scene.sink.put(key, b"a stranger's")
    lab = scene.lab()
    warnings = lab.backup({"d": CONTENT}, by=scene.open(scene.base.writer)).warnings
    assert len(warnings) <= 12
    assert "70 more" in warnings[-1]
    lab.find("latest")
    assert len(lab.warnings) <= 12
    assert {finding.key for finding in lab.check().findings} == junk
    assert lab.check().finding_count == len(junk)


def test_a_pack_that_grew_is_not_read(scene: Scene) -> None:
    """A host that knows it takes it for another; a check names it; and the next backup stores anew what it held."""
    lab = scene.lab()
    key = scene.base.one(scene.base.at.packs)
    lab.backup({"d": CONTENT}, by=scene.open(scene.base.writer))
    scene.sink.claimed[key] = 3 * GIB
    result = lab.backup({"d": CONTENT}, by=scene.open(scene.base.writer))
    assert result.stored > MIB
    assert [key in warning for warning in result.warnings] == [True]
    assert lab.restored() == {"d": CONTENT}
    assert {finding.key for finding in lab.check().findings} == {key}


def test_a_slot_in_the_place_of_one_that_was_granted_is_in_nobodys_way(scene: Scene) -> None:
    (slot,) = [key for key in scene.base.contents if key.startswith(layout.SLOTS)]
    scene.sink.claimed[slot] = 3 * GIB
    lab = scene.lab()
    assert [finding.key for finding in lab.check().findings] == [slot]
    assert lab.backup({"d": b"x" * KIB}, by=scene.open(scene.base.writer)).warnings == ()
    assert lab.restored() == {"d": b"x" * KIB}
