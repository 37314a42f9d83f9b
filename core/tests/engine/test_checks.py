"""What a check costs, what it tells, and what it makes of a repository that changes meanwhile."""

import json
import sys
import tracemalloc
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest
from core.tests.repository.lab import KIB, MIB, Lab, noise

from penstock.api import EventKind, ObjectInfo
from penstock.engine.check import check
from penstock.engine.ledger import Ledger
from penstock.format.trust import Role
from penstock.repository import layout
from penstock.repository.known.cache import Cache
from penstock.repository.trust.keyring import add_key
from penstock.testing import FaultySink, MemorySink


class LosingSink(FaultySink):
    """Loses the objects below `prefix` as soon as they were listed."""

    def __init__(self, inner: MemorySink, prefix: str) -> None:
        super().__init__(inner)
        self._prefix = prefix

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        infos = list(super().list(prefix))
        yield from infos
        if prefix == self._prefix:
            for info in infos:
                self.inner.delete(info.key)


@pytest.mark.parametrize("read_data", [True, False])
@pytest.mark.parametrize("prefix", [layout.PACKS, layout.SESSIONS, layout.INDEX, layout.SNAPSHOTS])
def test_what_goes_meanwhile_is_a_finding(lab: Lab, prefix: str, read_data: bool) -> None:
    assert isinstance(lab.sink, MemorySink)
    lab.backup({"d": noise(100 * KIB)})
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
    packs = [key for method, key in sink.calls if method in ("get", "stat") and key.startswith(layout.PACKS)]
    assert len(packs) == len(set(packs)) == 3


def test_a_pack_that_is_larger_than_memory_should_hold_is_read_in_parts(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(lab.sink, MemorySink)
    monkeypatch.setattr("penstock.repository.read.verify.PACK_CAPACITY", 3 * MIB)
    lab.backup({"d": noise(14 * MIB)})
    (pack,) = [info.key for info in lab.sink.list(layout.PACKS)]
    sink = FaultySink(lab.sink)
    assert lab.check(by=lab.open(sink=sink)).findings == ()
    assert 6 <= sum(call == ("get", pack) for call in sink.calls) <= 8
    data = bytearray(lab.sink.get(pack))
    for at in (0, 9, 7 * MIB, 14 * MIB - 9):
        data[at] ^= 1
        lab.sink.put(pack, bytes(data))
        assert [finding.key for finding in lab.check().findings] == [pack]
        data[at] ^= 1


def test_every_object_is_read_once(lab: Lab) -> None:
    assert isinstance(lab.sink, MemorySink)
    for night in range(5):
        lab.backup({"d": noise(200 * KIB) + noise(10 * KIB, night)})
    sink = FaultySink(lab.sink)
    repository = lab.open(add_key(lab.repository, Role.MAINTAINER, "operations"), sink=sink)
    sink.calls.clear()
    assert lab.check(by=repository, read_data=True).findings == ()
    read = [key for method, key in sink.calls if method == "get"]
    assert sorted(read) == sorted(set(read))
    assert [key for method, key in sink.calls if method == "list"] == [
        layout.SNAPSHOTS, layout.SESSIONS, layout.INDEX, layout.PACKS
    ]  # fmt: skip


def test_a_report_is_no_longer_than_its_limit_and_counts_all(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    # By the module, for the package gives the name `check` to the function.
    monkeypatch.setattr(sys.modules["penstock.engine.check"], "MAX_FINDINGS", 3)
    for number in range(10):
        lab.sink.put(f"packs/stray-{number}", b"")
    report = lab.check()
    assert (len(report.findings), report.finding_count) == (3, 10)
    assert len({event.subject for event in lab.events if event.kind is EventKind.FINDING}) == 10
    assert report.to_json()["finding_count"] == 10


def test_a_check_remembers_a_large_repository_in_little_memory() -> None:
    packs = 60_000
    held = array("I", [number for ordinal in range(16) for number in (ordinal, 150)])
    with Ledger() as ledger:
        tracemalloc.start()
        try:
            ledger.add(ObjectInfo(layout.pack_key(pack.to_bytes(16, "big")), 16 * MIB) for pack in range(packs))
            for pack in range(packs):
                ledger.add_pack(pack.to_bytes(16, "big"), held)
            assert ledger.count(layout.PACKS) == (packs, packs * 16 * MIB)
            assert ledger.segments((packs - 1).to_bytes(16, "big")) == dict.fromkeys(range(16), 150)
            assert ledger.segments(packs.to_bytes(16, "big")) is None
            assert sum(1 for _ in ledger.under(layout.PACKS)) == packs
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 2 * MIB


def test_a_check_with_a_large_cache_takes_little_memory(lab: Lab) -> None:
    lab.backup({"d": noise(100 * KIB)})
    objects = 60_000
    with Cache(lab.cache, lab.repository.id, lab.sink.location, on_trouble=pytest.fail) as cache:
        cache.saw(layout.pack_key(number.to_bytes(16, "big")) for number in range(objects))
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
    size = sum(info.size for info in lab.sink.list(layout.PACKS))
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
    (pack,) = [info.key for info in lab.sink.list(layout.PACKS)]
    lab.sink.put(pack, b"")
    access = lab.owner if opened else add_key(lab.repository, Role.MAINTAINER, "operations")
    document = lab.check(by=lab.open(access)).to_json()
    assert json.loads(json.dumps(document)) == document
    assert document["findings"] == [{"key": pack, "problem": "it is truncated"}]
    assert document["checked"]["opened"] is opened
    assert set(document["checked"]) == {
        "snapshots", "packs", "segments", "sessions", "index", "keys", "read", "read_data", "opened"
    }  # fmt: skip
