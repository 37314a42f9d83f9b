"""What a check costs, what it tells, and what it makes of a repository that changes meanwhile."""

import json
import tracemalloc
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from core.tests.repository.lab import KIB, MIB, Lab, noise

from penstock.api import EventKind, ObjectInfo, SinkDenied
from penstock.engine.check import check
from penstock.engine.checking.ledger import Ledger
from penstock.format.keys import DomainKeys
from penstock.repository import Access, layout
from penstock.repository.known.cache import Cache
from penstock.repository.layout import DomainLayout
from penstock.repository.trust.keyring import add_maintainer, add_writer
from penstock.testing import FaultySink, MemorySink

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow


class LosingSink(FaultySink):
    """Loses the objects below `prefix` as soon as they were listed, with others or alone."""

    def __init__(self, inner: MemorySink, prefix: str) -> None:
        super().__init__(inner)
        self._prefix = prefix

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        infos = list(super().list(prefix))
        yield from infos
        for info in infos:
            if info.key.startswith(self._prefix):
                self.inner.delete(info.key)


def packs_of(lab: Lab) -> list[str]:
    return sorted(info.key for info in lab.sink.list(lab.at.packs))


@pytest.mark.parametrize("read_data", [True, False])
@pytest.mark.parametrize("kind", ["slots", "packs", "sessions", "index", "parts", "snapshots"])
def test_what_goes_meanwhile_is_a_finding(lab: Lab, kind: str, read_data: bool) -> None:
    assert isinstance(lab.sink, MemorySink)
    lab.backup({"d": noise(100 * KIB)})
    prefix = layout.SLOTS if kind == "slots" else f"{lab.at.prefix}{kind}/"
    gone = {info.key for info in lab.sink.list(prefix)}
    report = lab.check(by=lab.open(sink=LosingSink(lab.sink, prefix)), read_data=read_data)
    assert {finding.key for finding in report.findings} == gone
    assert all(finding.gone for finding in report.findings)


@pytest.mark.parametrize("read_data", [True, False])
def test_a_pack_takes_one_request(lab: Lab, read_data: bool) -> None:
    assert isinstance(lab.sink, MemorySink)
    lab.backup({"d": noise(40 * MIB)})
    sink = FaultySink(lab.sink)
    repository = lab.open(sink=sink)
    sink.calls.clear()
    report = lab.check(by=repository, read_data=read_data)
    assert (report.findings, report.packs) == ((), 3)
    packs = [key for method, key in sink.calls if method in ("get", "stat") and key.startswith(lab.at.packs)]
    assert sorted(packs) == packs_of(lab)


def test_a_pack_is_read_whole_wherever_its_damage_is(lab: Lab) -> None:
    lab.backup({"d": noise(14 * MIB)})
    (pack,) = packs_of(lab)
    data = bytearray(lab.sink.get(pack))
    for at in (0, 8, 9, 7 * MIB, 14 * MIB - 9, len(data) - 1):
        data[at] ^= 1
        lab.sink.put(pack, bytes(data))
        assert [finding.key for finding in lab.check().findings] == [pack]
        data[at] ^= 1
    lab.sink.put(pack, bytes(data))
    assert lab.check().findings == ()


def test_every_object_is_read_once(lab: Lab) -> None:
    assert isinstance(lab.sink, MemorySink)
    for night in range(5):
        lab.backup({"d": noise(200 * KIB) + noise(10 * KIB, night)})
    sink = FaultySink(lab.sink)
    repository = lab.open(add_maintainer(lab.repository, "operations"), sink=sink)
    sink.calls.clear()
    assert lab.check(by=repository, read_data=True).findings == ()
    read = Counter(key for method, key in sink.calls if method == "get")
    parts = {key for key in read if key.startswith(lab.at.parts)}
    assert len(parts) == 15
    assert {key for key, times in read.items() if times > 1} < parts
    # Once as an object, and once for the segment table, unless it is one that only the owner can open.
    assert sorted(read[key] for key in parts) == [1] * 10 + [2] * 5
    assert [key for method, key in sink.calls if method == "list"] == [
        lab.at.snapshots, "", lab.at.notices, lab.at.deletions, lab.at.tombstones, lab.at.marks
    ]  # fmt: skip


def test_a_writer_that_is_confined_to_its_domain_can_check_it(lab: Lab) -> None:
    assert isinstance(lab.sink, MemorySink)
    writer = add_writer(lab.repository, "host")
    sink = ConfinedSink(lab.sink, DomainLayout(writer_domain(writer)).prefix)
    lab.backup({"d": b"of another domain"})
    lab.backup({"d": noise(100 * KIB)}, by=lab.open(writer, sink=sink))
    report = lab.check(by=lab.open(writer, sink=sink))
    assert (report.findings, report.snapshots, report.packs) == ((), 1, 1)


class ConfinedSink(FaultySink):
    """Lets nobody list or read what lies in another domain, as a bucket's policy does."""

    def __init__(self, inner: MemorySink, prefix: str) -> None:
        super().__init__(inner)
        self._prefix = prefix

    def _refuse(self, key: str) -> None:
        if not key.startswith((self._prefix, layout.CONFIG, layout.GRANTS)):
            raise SinkDenied(key, "not yours")

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        self._refuse(key)
        return super().get(key, start=start, length=length)

    def stat(self, key: str) -> ObjectInfo:
        self._refuse(key)
        return super().stat(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self._refuse(prefix)
        return super().list(prefix)


def writer_domain(access: Access) -> bytes:
    assert isinstance(access.branch, DomainKeys)
    return access.branch.domain


def test_a_report_is_no_longer_than_its_limit_and_counts_all(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.engine.checking.findings.MAX_FINDINGS", 3)
    for number in range(10):
        lab.sink.put(f"{lab.at.packs}stray-{number}", b"")
    report = lab.check()
    assert (len(report.findings), report.finding_count) == (3, 10)
    assert len({event.subject for event in lab.events if event.kind is EventKind.FINDING}) == 10
    assert report.to_json()["finding_count"] == 10


def test_a_check_remembers_a_large_repository_in_little_memory() -> None:
    packs = 60_000
    at, pin = DomainLayout(bytes(16)), bytes(32)
    held = array("I", [number for ordinal in range(16) for number in (ordinal, 150)])
    with Ledger() as ledger:
        tracemalloc.start()
        try:
            ledger.add(ObjectInfo(at.pack_key(pack.to_bytes(16, "big")), 16 * MIB) for pack in range(packs))
            for pack in range(packs):
                ledger.add_pack(pack.to_bytes(16, "big"), pin, 16, held)
            assert ledger.count(at.packs) == (packs, packs * 16 * MIB)
            assert ledger.segments((packs - 1).to_bytes(16, "big")) == (pin, 16, dict.fromkeys(range(16), 150))
            assert ledger.segments(packs.to_bytes(16, "big")) is None
            assert sum(1 for _ in ledger.under(at.packs)) == packs
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 2 * MIB


def test_a_check_with_a_large_cache_takes_little_memory(lab: Lab) -> None:
    lab.backup({"d": noise(100 * KIB)})
    objects = 60_000
    with Cache(lab.cache, lab.repository.domain.scope, lab.sink.location, on_trouble=pytest.fail) as cache:
        cache.saw(lab.at.pack_key(number.to_bytes(16, "big")) for number in range(objects))
    repository = lab.open()
    tracemalloc.start()
    try:
        report = check(repository, read_data=False, cache_dir=lab.cache, memory=64 * MIB, listener=lambda _: None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert report.finding_count == objects
    assert peak < objects * 100, "less than their keys alone take"


@pytest.mark.parametrize("read_data", [True, False])
def test_phases_of_a_check_go_from_nothing_to_their_size(lab: Lab, read_data: bool) -> None:
    lab.backup({"d": noise(3 * MIB)})
    size = sum(info.size for info in lab.sink.list(lab.at.packs))
    lab.events.clear()
    lab.check(read_data=read_data)
    phases = [event.phase for event in lab.events if event.kind is EventKind.PHASE]
    assert phases == (["listing", "reading", "checking"] if read_data else ["listing", "checking"])
    reading = [event for event in lab.events if event.phase == "reading"]
    assert [event.done for event in reading] == ([0, size] if read_data else [])
    assert all(event.total == size for event in reading)


def test_a_cache_that_cannot_be_used_stops_no_check(lab: Lab, tmp_path: Path) -> None:
    lab.backup({"d": b"1"})
    (tmp_path / "file").write_bytes(b"")
    assert lab.check(cache=tmp_path / "file").findings == ()
    assert any(event.kind is EventKind.WARNING for event in lab.events)


@pytest.mark.parametrize("opened", [True, False])
def test_a_report_is_a_document(lab: Lab, opened: bool) -> None:
    lab.backup({"d": noise(100 * KIB)})
    (pack,) = packs_of(lab)
    lab.sink.put(pack, b"")
    access = lab.owner if opened else add_maintainer(lab.repository, "operations")
    document = lab.check(by=lab.open(access)).to_json()
    assert json.loads(json.dumps(document)) == document
    assert document["findings"] == [{"key": pack, "problem": "it is truncated"}]
    assert (document["finding_count"], document["distrusted"]) == (1, 1)
    assert document["checked"]["opened"] is opened
    assert set(document["checked"]) == {
        "snapshots", "packs", "segments", "sessions", "index", "keys", "read", "read_data", "in_part",
        "opened",
    }  # fmt: skip
