"""Whatever was written once can be read forever: today's code against the golden repositories."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from core.tests.format.golden import make_golden

from penstock.api.errors import RoleForbids, WrongKey, WrongPassphrase
from penstock.api.secrets import Secret
from penstock.engine import check
from penstock.repository import Access, Repository, layout
from penstock.repository.read.content import sessions_of
from penstock.repository.read.reader import SnapshotReader
from penstock.repository.snapshots import find_snapshot, list_snapshots
from penstock.testing import MemorySink

V1 = Path(__file__).parent / "golden" / "v1"
EXPECTED: dict[str, dict[str, Any]] = json.loads((V1 / "expected.json").read_text("utf-8"))


@pytest.fixture
def sink() -> Iterator[MemorySink]:
    sink = MemorySink()
    for path in (V1 / "repository").rglob("*"):
        if path.is_file():
            sink.put(path.relative_to(V1 / "repository").as_posix(), path.read_bytes())
    yield sink
    sink.close()


def key(name: str) -> Access:
    return Access.from_key_file((V1 / name).read_bytes(), name)


OWNERS = {
    "passphrase": Secret(make_golden.PASSPHRASE),
    "cheap passphrase": Secret(make_golden.CHEAP_PASSPHRASE),
    "key file": key("owner.key"),
}


@pytest.mark.slow
@pytest.mark.parametrize("unlock", OWNERS.values(), ids=OWNERS)
def test_the_golden_repository_is_restored_exactly(sink: MemorySink, unlock: Access | Secret) -> None:
    repository = Repository.open(sink, unlock)

    restored: dict[str, dict[str, Any]] = {}
    for entry in list_snapshots(repository):
        with SnapshotReader(entry) as reader:
            streams = restored[entry.id.hex()] = {}
            for record in reader.manifest.streams:
                data = b"".join(reader.blocks(record))
                streams[record.name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    assert restored == EXPECTED


def test_the_golden_streams_match_the_program_that_made_them() -> None:
    assert list(EXPECTED.values()) == [
        {
            spec.name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
            for spec, data in make_golden.streams(night)
        }
        for night in range(5)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("unlock", OWNERS.values(), ids=OWNERS)
def test_the_golden_repository_passes_a_full_check(sink: MemorySink, unlock: Access | Secret) -> None:
    report = check(Repository.open(sink, unlock), read_data=True, cache_dir=None, listener=lambda event: None)

    assert not report.findings
    assert (report.snapshots, report.packs, report.sessions, report.index, report.keys) == (5, 5, 5, 5, 6)
    assert report.data_read


@pytest.mark.parametrize(
    ("name", "nights"), [("writer.key", [0, 1, 2, 3]), ("other.key", [4]), ("maintainer.key", [0, 1, 2, 3, 4])]
)
def test_other_keys_list_what_they_reach_and_read_nothing(sink: MemorySink, name: str, nights: list[int]) -> None:
    repository = Repository.open(sink, key(name))

    assert {entry.id.hex() for entry in list_snapshots(repository)} == {list(EXPECTED)[night] for night in nights}
    assert not check(repository, read_data=True, cache_dir=None, listener=lambda event: None).findings
    with pytest.raises(RoleForbids):
        SnapshotReader(find_snapshot(repository, "latest"))


def test_the_golden_snapshots_have_the_expected_metadata(sink: MemorySink) -> None:
    repository = Repository.open(sink, key("owner.key"))
    first, second, third, *_ = nights = list_snapshots(repository)

    assert [entry.id.hex() for entry in nights] == list(EXPECTED)
    assert [one.head.parent for one in nights] == [None, first.id, second.id, third.id, None]
    assert (second.head.backup, second.head.source) == ("shop", "night")
    hosts = ["db1", "db2", "db2", "db2", "db3"]
    assert [entry.head.host for entry in nights] == [f"{host}.example" for host in hosts]
    assert [entry.signer for entry in nights] == hosts
    assert [entry.domain.label for entry in nights] == ["main", "main", "main", "main", "db3"]
    assert second.head.seen[first.writer].digest == first.digest
    assert first.head.size == sum(stream["size"] for stream in EXPECTED[first.id.hex()].values())
    assert first.session in sessions_of(second), "the second night uses what the first stored"
    with SnapshotReader(second) as reader:
        manifest = reader.manifest
    assert manifest.consistency == "one transaction snapshot"
    assert manifest.inspection["inventory"] == [
        {"exact": True, "kind": "table", "name": "public.orders", "rows": 1400, "size": None}
    ]
    specs = [spec for spec, _ in make_golden.streams(1)]
    assert [(one.name, one.format, one.phase, one.optional, one.attributes) for one in manifest.streams] == [
        (spec.name, spec.format, spec.phase, spec.optional, spec.attributes) for spec in specs
    ]


def test_golden_recipes_go_back_over_two_nights(sink: MemorySink) -> None:
    first, second, third, fourth, other = list_snapshots(Repository.open(sink, key("owner.key")))

    assert [[base.snapshot for base in entry.head.bases] for entry in (first, second, other)] == [[], [], []]
    assert [base.snapshot for base in third.head.bases] == [second.id]
    assert [base.snapshot for base in fourth.head.bases] == [third.id, second.id]
    for entry, layers in ((third, 2), (fourth, 3)):
        with SnapshotReader(entry) as reader:
            recipes = {stream.name: stream.recipe for stream in reader.manifest.streams}
            assert len(recipes["data/public.orders"]) == layers
            assert all(recipes["data/public.orders"])


@pytest.mark.slow
def test_unknown_keys_do_not_open_the_golden_repository(sink: MemorySink) -> None:
    with pytest.raises(WrongPassphrase):
        Repository.open(sink, Secret("the wrong passphrase"))
    with pytest.raises(WrongKey):
        Repository.open(sink, key("revoked.key"))


def test_todays_code_writes_identical_golden_key_files() -> None:
    for path in V1.glob("*.key"):
        assert key(path.name).to_key_file() == path.read_bytes()


def test_every_kind_of_object_is_in_the_golden_repository(sink: MemorySink) -> None:
    kinds = {key.split("/")[2 if key.startswith(layout.DOMAINS) else 0] for key in (info.key for info in sink.list())}

    own = {"sessions", "leases", "packs", "index", "parts", "snapshots", "notices"}
    assert kinds == {layout.CONFIG, "grants", "slots", *own}
    assert sum(path.stat().st_size for path in V1.rglob("*") if path.is_file()) < 400 * 1024
