"""Heads that lie about their name, their time or their content, and heads that a bucket hides."""

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from core.tests.repository.forging import NOW, copied, put_head, put_notice, put_session
from core.tests.repository.lab import KIB, BytesSource, Lab, noise

from penstock.api import DamagedObject, EventKind, ObjectInfo, RoleForbids, SnapshotNotFound
from penstock.engine import show
from penstock.format.head import Head, Seen
from penstock.format.keys import new_secret
from penstock.format.notice import Action, Deletion
from penstock.repository import Access, SnapshotEntry
from penstock.repository.snapshots import list_snapshots
from penstock.repository.trust.keyring import add_maintainer, add_writer, revoke
from penstock.testing import MemorySink

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow

HONEST = {"d": noise(100 * KIB, 1)}
FORGED = {"d": b"GRANT ALL ON SCHEMA public TO mallory;\n"}


class Scene:
    """A domain with two writers, one of which may store only the backup `wiki`, and another domain."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.writer = add_writer(lab.repository, "prod-db", domain="main", names=("shop", "shop-*"))
        self.wiki = add_writer(lab.repository, "wiki-host", domain="main", names=("wiki",))
        self.other = add_writer(lab.repository, "another host")
        self.maintainer = add_maintainer(lab.repository, "operations")
        lab.backup(HONEST, by=lab.open(self.writer))
        lab.backup(FORGED, by=lab.open(self.wiki), name="wiki")
        self.shop = lab.find("latest:shop")
        self.of_wiki = lab.find("latest:wiki")

    def copied(self, folder: Path) -> "Scene":
        other = copy(self)
        other.lab = copied(self.lab, folder)
        other.shop, other.of_wiki = other.lab.find("latest:shop"), other.lab.find("latest:wiki")
        return other

    def put(self, like: SnapshotEntry, *, by: Access, **changes: Any) -> str:
        return self.lab.at.snapshot_key(put_head(like, by, **changes).snapshot)

    def findings(self, access: Access | None = None) -> dict[str, str]:
        report = self.lab.check(by=self.lab.open(access), read_data=False)
        return {finding.key: finding.problem for finding in report.findings}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(Lab(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def scene(original: Scene, tmp_path: Path) -> Scene:
    return original.copied(tmp_path / "cache")


# names


def test_a_writer_stores_no_backup_of_a_name_that_it_was_not_granted(scene: Scene) -> None:
    lab = scene.lab
    source = BytesSource(FORGED)
    with pytest.raises(RoleForbids, match="shop"):
        lab.backup(source, by=lab.open(scene.wiki), name="shop")
    assert source.opened == []
    lab.backup(HONEST, by=lab.open(scene.writer), name="shop-archive")
    for name in ("wiki", "shop2", "a-shop-1"):
        with pytest.raises(RoleForbids):
            lab.backup(FORGED, by=lab.open(scene.writer), name=name)


@pytest.mark.parametrize("name", ["shop", "wik", "wiki2", "WIKI", "*", ""])
def test_a_head_with_a_name_that_its_writer_was_not_granted_counts_for_nothing(scene: Scene, name: str) -> None:
    lab = scene.lab
    key = scene.put(scene.of_wiki, by=scene.wiki, backup=name, host="prod-db")
    for wanted in ("latest:shop", "latest"):
        assert lab.find(wanted).id in (scene.shop.id, scene.of_wiki.id)
        assert any(key in warning for warning in lab.warnings)
    assert lab.restored("latest:shop") == HONEST
    with pytest.raises(DamagedObject, match="not granted this name"):
        lab.find(key.removeprefix(lab.at.snapshots))
    for access in (lab.owner, scene.maintainer, scene.writer):
        assert set(scene.findings(access)) == {key}


def test_a_backup_that_two_domains_have_is_named_with_its_domain(scene: Scene) -> None:
    lab = scene.lab
    lab.backup(FORGED, by=lab.open(scene.other), name="shop")
    with pytest.raises(SnapshotNotFound, match="2 domains have a backup named shop") as refusal:
        lab.find("latest:shop")
    assert refusal.value.hint is not None
    assert "latest:main/shop" in refusal.value.hint
    assert "latest:another host/shop" in refusal.value.hint
    assert lab.restored("latest:main/shop") == HONEST
    assert lab.restored("latest:another host/shop") == FORGED


def test_whose_key_signed_is_told(scene: Scene) -> None:
    assert scene.shop.signer == "prod-db"
    assert show(scene.of_wiki).to_json()["signer"] == "wiki-host"
    assert scene.lab.restore("latest:wiki").to_json()["signer"] == "wiki-host"


def test_a_head_that_was_copied_to_another_domain_counts_for_nothing(scene: Scene) -> None:
    lab = scene.lab
    lab.backup({"d": b"1"}, by=lab.open(scene.other), name="x")
    at = next(domain.at for domain in lab.open().domains if domain.label == "another host")
    lab.sink.put(at.snapshot_key(scene.shop.id), lab.sink.get(lab.at.snapshot_key(scene.shop.id)))
    assert [entry.head.backup for entry in list_snapshots(lab.open(), lambda _: None)].count("shop") == 1
    assert list(scene.findings()) == [at.snapshot_key(scene.shop.id)]


# times


FUTURES = [
    "9999-12-31T23:59:59.999999Z",
    (datetime.now(UTC) + timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    "12026-01-31T12:00:00.000000Z",
    "no time at all",
    "",
]


@pytest.mark.parametrize("finished", FUTURES, ids=["the last moment", "in a month", "year 12026", "no time", "nothing"])
def test_a_head_from_the_future_is_a_finding_and_never_the_latest(scene: Scene, finished: str) -> None:
    lab = scene.lab
    key = scene.put(scene.of_wiki, by=scene.writer, backup="shop", finished=finished, sequence=2)
    assert lab.restored("latest:shop") == HONEST
    assert any(key in warning for warning in lab.warnings)
    assert lab.find("latest").id == scene.of_wiki.id
    for access in (lab.owner, scene.maintainer, scene.writer):
        assert "future" in scene.findings(access)[key]
    # Whoever names it gets it: an operator may know better.
    assert lab.restored(key.removeprefix(lab.at.snapshots)) == FORGED


def test_the_night_after_a_head_from_the_future_is_the_latest(scene: Scene) -> None:
    lab = scene.lab
    scene.put(scene.of_wiki, by=scene.writer, backup="shop", finished=FUTURES[0], started=FUTURES[0], sequence=1 << 62)
    tonight = {"d": HONEST["d"] + b"tonight"}
    lab.backup(tonight, by=lab.open(scene.writer))
    assert lab.restored("latest:shop") == tonight


def test_a_revocation_keeps_no_head_from_the_future(scene: Scene) -> None:
    lab = scene.lab
    scene.put(scene.of_wiki, by=scene.writer, backup="shop", finished=FUTURES[0])
    assert [entry.id for entry in revoke(lab.open(), scene.writer.key)] == [scene.shop.id]
    assert lab.restored("latest:shop") == HONEST


class TimelessSink(MemorySink):
    """Tells no times, as a sink may."""

    def stat(self, key: str) -> ObjectInfo:
        return replace(super().stat(key), modified=None)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return (replace(info, modified=None) for info in super().list(prefix))


def test_in_a_store_that_tells_no_times_a_head_of_the_year_9999_is_not_the_latest(scene: Scene) -> None:
    lab = scene.lab
    key = scene.put(scene.of_wiki, by=scene.writer, backup="shop", finished=FUTURES[0])
    sink = TimelessSink()
    assert isinstance(lab.sink, MemorySink)
    for name, data in lab.sink.contents().items():
        sink.put(name, data)
    lab.sink = sink
    assert lab.restored("latest:shop") == HONEST
    assert key in scene.findings()


# what a head says of its content


def with_fewer_bytes(head: Head) -> dict[str, object]:
    return {"size": head.size - 1}


def with_more_streams(head: Head) -> dict[str, object]:
    return {"streams": head.streams + 1}


def without_parts(head: Head) -> dict[str, object]:
    return {"parts": ()}


def without_a_part(head: Head) -> dict[str, object]:
    return {"parts": head.parts[1:]}


def with_a_part_twice(head: Head) -> dict[str, object]:
    return {"parts": (*head.parts, head.parts[0])}


def with_parts_in_another_order(head: Head) -> dict[str, object]:
    return {"parts": head.parts[::-1]}


def with_a_wrong_digest(head: Head) -> dict[str, object]:
    return {"parts": (*head.parts[:-1], replace(head.parts[-1], digest=bytes(32)))}


def with_a_wrong_size(head: Head) -> dict[str, object]:
    return {"parts": (*head.parts[:-1], replace(head.parts[-1], size=1))}


LIES = [
    with_fewer_bytes,
    with_more_streams,
    without_parts,
    without_a_part,
    with_a_part_twice,
    with_parts_in_another_order,
    with_a_wrong_digest,
    with_a_wrong_size,
]


@pytest.mark.parametrize("lie", LIES)
def test_a_head_that_contradicts_its_parts_is_a_finding_and_restores_nothing_else(
    scene: Scene, lie: Callable[[Head], dict[str, object]]
) -> None:
    lab = scene.lab
    key = scene.put(scene.shop, by=scene.writer, **lie(scene.shop.head))
    target = BytesSource({})
    try:
        lab.restore(key.removeprefix(lab.at.snapshots), into=target)
    except DamagedObject:
        assert target.touched == []
        assert len(scene.findings()) >= 1
    else:
        # As long as the recipe is where the manifest says, the order of the others is nobody's concern.
        assert target.restored == HONEST
        assert lie is with_parts_in_another_order
    assert lab.restored(scene.shop.id.hex()) == HONEST
    lab.backup(HONEST, by=lab.open(scene.writer))
    assert lab.restored("latest:shop") == HONEST


def test_a_head_with_a_session_of_another_writer_is_a_finding(scene: Scene) -> None:
    """It cannot be restored: its parts are sealed under another data key."""
    lab = scene.lab
    domain = lab.repository.domain
    session = put_session(domain, new_secret(), by=scene.wiki)
    key = lab.at.snapshot_key(put_head(scene.shop, scene.writer, session=session).snapshot)
    with pytest.raises(DamagedObject):
        lab.restore(key.removeprefix(lab.at.snapshots))
    for access in (lab.owner, scene.maintainer, scene.writer):
        assert lab.at.session_key(session) in scene.findings(access)


# heads that are hidden


def test_the_newest_head_of_a_writer_is_missed_by_a_fresh_host_if_another_has_seen_it(scene: Scene) -> None:
    lab = scene.lab
    hidden = lab.backup(HONEST, by=lab.open(scene.writer)).snapshot
    witness = lab.backup(FORGED, by=lab.open(scene.wiki), name="wiki").snapshot
    assert scene.findings() == {}
    lab.sink.delete(lab.at.snapshot_key(hidden))
    for access in (lab.owner, scene.maintainer, scene.wiki):
        found = scene.findings(access)
        assert list(found) == [lab.at.snapshot_key(witness)]
        assert "saw snapshot 2 of prod-db" in found[lab.at.snapshot_key(witness)]


def test_a_head_in_the_middle_is_missed_by_a_fresh_host(scene: Scene) -> None:
    lab = scene.lab
    hidden = lab.backup(HONEST, by=lab.open(scene.writer), name="shop-1").snapshot
    # Of another name, so that it has no parent among them.
    follower = lab.backup(HONEST, by=lab.open(scene.writer), name="shop-2").snapshot
    lab.sink.delete(lab.at.snapshot_key(hidden))
    found = scene.findings()
    assert list(found) == [lab.at.snapshot_key(follower)]
    assert "follows snapshot 2 of its writer" in found[lab.at.snapshot_key(follower)]


def test_a_bucket_that_was_set_back_is_missed_as_soon_as_a_writer_goes_on(scene: Scene, tmp_path: Path) -> None:
    lab = scene.lab
    assert isinstance(lab.sink, MemorySink)
    before = set(lab.sink.contents())
    hidden = lab.backup({"d": b"2"}, by=lab.open(scene.writer)).snapshot
    for key in set(lab.sink.contents()) - before:
        lab.sink.delete(key)
    # Nothing in the bucket tells of it, but this host remembers.
    assert scene.findings() == {}
    assert {finding.key for finding in lab.check(cache=lab.cache).findings} >= {lab.at.snapshot_key(hidden)}
    lab.events.clear()
    result = lab.backup({"d": b"3"}, by=lab.open(scene.writer))
    assert (result.head.sequence, result.head.parent) == (3, hidden)
    assert any(lab.at.snapshot_key(hidden) in event.message for event in lab.events if event.kind is EventKind.WARNING)
    assert lab.restored("latest:shop") == {"d": b"3"}
    found = scene.findings()
    assert lab.at.snapshot_key(result.snapshot) in found or lab.at.snapshot_key(hidden) in found


def test_a_head_that_was_forgotten_is_not_missed_by_those_who_saw_it(scene: Scene) -> None:
    lab = scene.lab
    forgotten = lab.backup(HONEST, by=lab.open(scene.writer))
    entry = lab.find(forgotten.snapshot.hex())
    lab.backup(FORGED, by=lab.open(scene.wiki), name="wiki")
    lab.backup(HONEST, by=lab.open(scene.writer))
    record = Deletion(NOW, Action.DELETE, {entry.id: entry.digest})
    put_notice(lab.repository.domain, record, by=scene.maintainer)
    lab.sink.delete(lab.at.snapshot_key(entry.id))
    assert scene.findings() == {}


def test_a_head_that_names_others_that_never_were_is_a_finding_of_its_own(scene: Scene) -> None:
    lab = scene.lab
    lies: list[dict[str, object]] = [
        {"previous": bytes(32)},
        {"seen": {scene.wiki.key: Seen(7, bytes(32))}},
        {"parent": bytes(16)},
        {"index": (bytes(16),)},
    ]
    for lie in lies:
        key = scene.put(scene.shop, by=scene.writer, **lie)
        assert len(scene.findings()) == 1
        assert lab.restored(key.removeprefix(lab.at.snapshots)) == HONEST
        lab.sink.delete(key)
