"""What each role asks of a sink is within the rights that `penstock policy` prints for it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

import pytest
from core.tests.repository.lab import KIB, PASSPHRASE, Lab, noise

from penstock.api import (
    ObjectExists,
    ObjectInfo,
    ObjectMissing,
    Right,
    Rights,
    Secret,
    Sink,
    SinkDenied,
    UsageError,
    prefixes_with,
)
from penstock.engine import show, verify
from penstock.engine.policy import rights_of
from penstock.format.trust import Role
from penstock.repository import Access, Repository, layout
from penstock.repository.domain import Domain
from penstock.repository.snapshots import list_snapshots
from penstock.repository.trust import keyring
from penstock.testing import MemorySink
from penstock.testing.memory import MemorySettings
from penstock.workspace.sinks.forwarding import ForwardingSink

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow

NIGHTS = [{"d": noise(200 * KIB) + noise(night * 20 * KIB, 1)} for night in range(3)]
LOCKS = pytest.mark.parametrize("locks", [False, True], ids=["without locks", "with locks"])


class GuardedSink(ForwardingSink):
    """Denies whatever is not within the rights, as a store does."""

    name = "guarded"

    def __init__(self, inner: Sink, rights: Sequence[Rights]) -> None:
        super().__init__(inner)
        self.rights = rights

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
        self._require(Right.CREATE, key)
        if self._is_there(key):
            if if_absent:
                raise ObjectExists(key, "the object exists already")
            raise SinkDenied(key, "nobody may replace an object")
        super().put(key, data, if_absent=if_absent)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        self._require(Right.READ, key)
        return super().get(key, start=start, length=length)

    def stat(self, key: str) -> ObjectInfo:
        self._require(Right.READ, key)
        return super().stat(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self._require(Right.LIST, prefix)
        return super().list(prefix)

    def delete(self, key: str) -> None:
        self._require(Right.DELETE, key)
        super().delete(key)

    def delete_many(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.delete(key)

    def retain(self, key: str, until: datetime) -> None:
        self._require(Right.LOCK, key)
        super().retain(key, until)

    def _require(self, right: Right, key: str) -> None:
        prefixes = prefixes_with(right, self.rights)
        if not any(key == one or (key.startswith(one) and (not one or one.endswith("/"))) for one in prefixes):
            raise SinkDenied(key, f"no right to {right}")

    def _is_there(self, key: str) -> bool:
        try:
            self.inner.stat(key)
        except ObjectMissing:
            return False
        return True


class Scene:
    """A repository with two domains, each with a writer, and a maintainer; and each role's guarded sink."""

    def __init__(self, folder: Path, *, locks: bool) -> None:
        self.locks = locks
        self.folder = folder
        self.lab = Lab(folder / "owner", MemorySink(MemorySettings(object_lock_days=7 if locks else None)))
        self.writer = keyring.add_writer(self.lab.repository, "host")
        self.other = keyring.add_writer(self.lab.repository, "other host")
        self.maintainer = keyring.add_maintainer(self.lab.repository, "operations")
        self.own = self.domain(self.writer)
        for night, access in zip(NIGHTS, (self.lab.owner, self.other, self.writer), strict=True):
            self.lab.backup(night, by=self.lab.open(access), name=access.label, cache=folder / access.label)

    def domain(self, access: Access) -> Domain:
        return self.lab.open(access).domains[0]

    def guarded(self, role: Role) -> GuardedSink:
        domain = self.own.id if role is Role.WRITER else None
        return GuardedSink(self.lab.sink, rights_of(role, domain, locks=self.locks))

    def open(self, role: Role) -> tuple[Repository, GuardedSink]:
        sink = self.guarded(role)
        access = {Role.WRITER: self.writer, Role.MAINTAINER: self.maintainer, Role.OWNER: self.lab.owner}[role]
        return Repository.open(sink, access), sink


@pytest.fixture(params=[False, True], ids=["without locks", "with locks"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    return Scene(tmp_path, locks=request.param)


@pytest.mark.parametrize("cache", ["a host with a cache", "a fresh host"])
def test_a_writer_backs_up_lists_and_checks(scene: Scene, tmp_path: Path, cache: str) -> None:
    by, _ = scene.open(Role.WRITER)
    folder = tmp_path / ("host" if cache == "a host with a cache" else "fresh")
    snapshot = scene.lab.backup(NIGHTS[0], by=by, name="host", cache=folder).snapshot
    by, _ = scene.open(Role.WRITER)
    assert len(list_snapshots(by)) == 2
    assert scene.lab.check(by=by, cache=folder).findings == ()
    assert scene.lab.restored(snapshot.hex()) == NIGHTS[0]


def test_a_writer_says_that_a_pack_is_damaged(scene: Scene) -> None:
    key = min(scene.lab.keys(scene.own.at.packs))
    damage(scene, key)
    by, _ = scene.open(Role.WRITER)
    assert scene.lab.check(by=by).distrusted == 1
    assert scene.lab.keys(scene.own.at.notices)


def damage(scene: Scene, key: str) -> None:
    """As no credential of Penstock could."""
    assert isinstance(scene.lab.sink, MemorySink)
    with scene.lab.sink._lock:
        data, when = scene.lab.sink._objects[key]
        scene.lab.sink._objects[key] = data[:100] + bytes([data[100] ^ 1]) + data[101:], when


def test_a_maintainer_lists_checks_and_says_that_a_pack_is_damaged(scene: Scene) -> None:
    by, _ = scene.open(Role.MAINTAINER)
    assert len(list_snapshots(by)) == 3
    assert scene.lab.check(by=by).findings == ()
    for domain in by.domains:
        damage(scene, min(scene.lab.keys(domain.at.packs)))
    assert scene.lab.check(by=by).distrusted == 3


def test_an_owner_does_everything(scene: Scene) -> None:
    lab = scene.lab
    by, sink = scene.open(Role.OWNER)
    lab.backup(NIGHTS[2], by=by)
    assert lab.check(by=by).findings == ()
    entry = lab.find("latest:shop", by=by)
    show(entry)
    lab.restore(entry)
    assert not verify([entry], listener=lambda _: None).problems
    made = keyring.add_writer(by, "third host")
    Repository.open(sink, made)
    keyring.add_maintainer(by, "second operations")
    assert keyring.revoke(by, scene.other.key)
    if not scene.locks:  # a locked slot goes when its time has come
        slot = keyring.add_slot(by, Secret("another one"), "second")
        keyring.revoke(by, slot)
    assert Repository.open(sink, PASSPHRASE).access.role is Role.OWNER


@LOCKS
def test_an_owner_makes_a_repository(tmp_path: Path, locks: bool) -> None:
    sink = MemorySink(MemorySettings(object_lock_days=7 if locks else None))
    lab = Lab(tmp_path, GuardedSink(sink, rights_of(Role.OWNER, locks=locks)))
    lab.backup(NIGHTS[0])
    assert lab.restored() == NIGHTS[0]


#: What a stolen credential would try, and who is denied it.
ATTACKS: dict[str, Callable[[Sink, Scene], object]] = {
    "delete a pack": lambda sink, scene: sink.delete(min(scene.lab.keys(scene.own.at.packs))),
    "delete packs": lambda sink, scene: sink.delete_many(scene.lab.keys(scene.own.at.packs)),
    "replace a head": lambda sink, scene: sink.put(min(scene.lab.keys(scene.own.at.snapshots)), b"x"),
    "grant a key": lambda sink, _: sink.put(layout.grant_key(bytes(16)), b"x"),
    "add a passphrase": lambda sink, _: sink.put(layout.slot_key(bytes(16)), b"x"),
    "read a passphrase's slot": lambda sink, scene: sink.get(min(scene.lab.keys(layout.SLOTS))),
    "list passphrases": lambda sink, _: sink.list(layout.SLOTS),
    "list everything": lambda sink, _: sink.list(),
    "list all domains": lambda sink, _: sink.list(layout.DOMAINS),
    "list another domain": lambda sink, scene: sink.list(scene.domain(scene.other).at.prefix),
    "read another domain": lambda sink, scene: sink.get(min(scene.lab.keys(scene.domain(scene.other).at.sessions))),
    "store in another domain": lambda sink, scene: sink.put(scene.domain(scene.other).at.session_key(bytes(16)), b"x"),
    "store a tombstone": lambda sink, scene: sink.put(scene.own.at.tombstones + "00" * 16, b"x"),
    "store a deletion": lambda sink, scene: sink.put(scene.own.at.deletions + "00" * 16, b"x"),
    "store elsewhere": lambda sink, _: sink.put("elsewhere", b"x"),
}
OF_A_MAINTAINER = {"replace a head", "grant a key", "add a passphrase", "store elsewhere"}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_stolen_writers_credential_is_denied(scene: Scene, attack: str) -> None:
    with pytest.raises(SinkDenied, match=r"no right|replace"):
        ATTACKS[attack](scene.guarded(Role.WRITER), scene)


@pytest.mark.parametrize("attack", sorted(OF_A_MAINTAINER))
def test_a_stolen_maintainers_credential_is_denied(scene: Scene, attack: str) -> None:
    with pytest.raises(SinkDenied, match=r"no right|replace"):
        ATTACKS[attack](scene.guarded(Role.MAINTAINER), scene)


def test_without_locks_nobody_may_lock() -> None:
    for role in (Role.WRITER, Role.MAINTAINER, Role.OWNER):
        assert prefixes_with(Right.LOCK, rights_of(role, bytes(16))) == ()


def test_a_sink_of_its_own_knows_no_policies() -> None:
    with pytest.raises(UsageError, match="knows no policies"):
        GuardedSink(MemorySink(), ()).policy(rights_of(Role.OWNER))


def test_prefixes_say_no_place_twice() -> None:
    read, both = frozenset({Right.READ}), frozenset({Right.READ, Right.LIST})
    rights = [Rights("a/", both), Rights("a/b/", read), Rights("a", read), Rights("ab", read), Rights("ab/c", read)]
    assert prefixes_with(Right.READ, rights) == ("a", "a/", "ab", "ab/c")
    assert prefixes_with(Right.LIST, rights) == ("a/",)
    assert prefixes_with(Right.READ, [*rights, Rights("", read)]) == ("",)
    assert prefixes_with(Right.DELETE, rights) == ()
