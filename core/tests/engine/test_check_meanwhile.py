"""A check, a restore or a repair, while a backup of the same repository begins, runs and ends, or a prune sweeps."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from core.tests.repository.lab import MIB, BytesSource, Lab, noise

from penstock.api import ObjectInfo, Sink
from penstock.engine import RepairReport, repair
from penstock.format.notice import Things
from penstock.format.trust import Role
from penstock.repository import layout
from penstock.repository.notices import delete, forget
from penstock.repository.snapshots import list_snapshots
from penstock.repository.trust.keyring import add_writer
from penstock.testing import FaultySink, MemorySink

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow


class SlowlyListingSink(FaultySink):
    """Lists in two pages, what is below `last` in the second; `interruption` happens once between the two."""

    def __init__(self, inner: MemorySink, last: str, interruption: Callable[[], object]) -> None:
        super().__init__(inner)
        self._last = last
        self._interruption: Callable[[], object] | None = interruption

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        yield from (info for info in super().list(prefix) if not info.key.startswith(self._last))
        if self._last.startswith(prefix) and prefix != self._last and self._interruption is not None:
            interruption, self._interruption = self._interruption, None
            interruption()
        yield from (info for info in super().list(prefix) if info.key.startswith(self._last))


class InterruptedSink(FaultySink):
    """Lets `interruption` happen right after the first listing of `prefix`."""

    def __init__(self, inner: MemorySink, prefix: str, interruption: Callable[[], object]) -> None:
        super().__init__(inner)
        self._prefix = prefix
        self._interruption: Callable[[], object] | None = interruption

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        yield from super().list(prefix)
        if prefix == self._prefix and self._interruption is not None:
            interruption, self._interruption = self._interruption, None
            interruption()


def prefix_of(lab: Lab, kind: str) -> str:
    match kind:
        case "everything":
            return ""
        case "grants":
            return layout.GRANTS
        case _:
            return f"{lab.at.prefix}{kind}/"


LISTED = ["grants", "snapshots", "everything", "notices", "deletions", "tombstones"]


@pytest.mark.parametrize("kind", LISTED)
@pytest.mark.parametrize("host", ["the same host", "another host"])
def test_a_backup_that_ends_during_a_check_is_no_finding(lab: Lab, tmp_path: Path, kind: str, host: str) -> None:
    assert isinstance(lab.sink, MemorySink)
    lab.backup({"d": noise(100_000)})
    lab.check(cache=lab.cache)
    cache = lab.cache if host == "the same host" else tmp_path / "elsewhere"
    sink = InterruptedSink(lab.sink, prefix_of(lab, kind), lambda: lab.backup({"d": noise(300_000)}, cache=cache))
    report = lab.check(by=lab.open(sink=sink), cache=lab.cache)
    assert report.findings == ()
    assert len(list_snapshots(lab.open())) == 2


@pytest.mark.parametrize("read_data", [True, False])
@pytest.mark.parametrize("role", [Role.OWNER, Role.WRITER])
def test_a_head_that_was_put_behind_the_listing_of_its_packs_is_no_finding(
    lab: Lab, role: Role, read_data: bool
) -> None:
    """A listing takes its time: a backup may put its packs behind it, and its head in front of it."""
    assert isinstance(lab.sink, MemorySink)
    access = lab.owner if role is Role.OWNER else add_writer(lab.repository, "host", domain="main")
    lab.backup({"d": noise(100_000)})
    sink = SlowlyListingSink(lab.sink, lab.at.snapshots, lambda: lab.backup({"d": noise(300_000)}))
    report = lab.check(by=lab.open(access, sink=sink), read_data=read_data)
    assert report.findings == ()
    assert report.snapshots == 2


@pytest.mark.parametrize("kind", ["sessions", "index", "parts", "packs"])
def test_a_loss_is_noticed_also_of_a_backup_that_ends_during_the_check(lab: Lab, kind: str) -> None:
    assert isinstance(lab.sink, MemorySink)

    def back_up_and_lose() -> None:
        before = {info.key for info in lab.sink.list()}
        lab.backup({"d": noise(300_000)})
        for key in {info.key for info in lab.sink.list(prefix_of(lab, kind))} - before:
            lab.sink.delete(key)

    lab.backup({"d": noise(100_000)})
    sink = SlowlyListingSink(lab.sink, lab.at.snapshots, back_up_and_lose)
    report = lab.check(by=lab.open(sink=sink))
    assert report.findings
    assert all(finding.gone and finding.key.startswith(prefix_of(lab, kind)) for finding in report.findings)


RESTORED_WITH = ["grants", "snapshots", "notices", "deletions", "packs"]


@pytest.mark.parametrize("kind", RESTORED_WITH)
@pytest.mark.parametrize("name", ["latest", "its id"])
def test_a_backup_that_ends_during_a_restore_does_not_disturb_it(lab: Lab, kind: str, name: str) -> None:
    assert isinstance(lab.sink, MemorySink)
    contents = [noise(100_000)]
    for night in range(9):  # so many packs that they are listed instead of asked for one by one
        contents.append(contents[-1] + noise(100_000, night + 1))
        lab.backup({"d": contents[-1]})
    snapshot = lab.find("latest").id.hex() if name == "its id" else name
    later = {"d": noise(300_000, 99)}
    sink = InterruptedSink(lab.sink, prefix_of(lab, kind), lambda: lab.backup(later))
    target = BytesSource({})
    lab.restore(snapshot, into=target, by=lab.open(sink=sink), cache=lab.cache)
    assert len(list_snapshots(lab.open())) == 10 or (kind, name) == ("snapshots", "its id")
    assert target.restored in ({"d": contents[-1]}, *([later] if name == "latest" else []))


def repaired(lab: Lab, sink: Sink) -> RepairReport:
    return repair(sink, lab.owner, memory=64 * MIB, listener=lab.events.append)


@pytest.mark.parametrize("kind", LISTED)
def test_a_backup_that_ends_during_a_repair_is_not_lost(lab: Lab, kind: str) -> None:
    assert isinstance(lab.sink, MemorySink)
    lab.backup({"d": noise(100_000)})
    sink = InterruptedSink(lab.sink, prefix_of(lab, kind), lambda: lab.backup({"d": noise(300_000)}))
    report = repaired(lab, sink)
    assert report.whole
    assert (report.indexed, report.distrusted) == (0, 0)
    assert not lab.keys(lab.at.marks)
    assert len(list_snapshots(lab.open())) == 2


def test_a_head_that_was_put_behind_the_listing_of_its_packs_is_not_lost(lab: Lab) -> None:
    assert isinstance(lab.sink, MemorySink)
    lab.backup({"d": noise(100_000)})
    sink = SlowlyListingSink(lab.sink, lab.at.snapshots, lambda: lab.backup({"d": noise(300_000)}))
    report = repaired(lab, sink)
    assert report.whole
    assert report.snapshots == 2


@pytest.mark.parametrize("kind", LISTED)
def test_what_a_prune_sweeps_during_a_repair_is_not_lost(lab: Lab, kind: str) -> None:
    assert isinstance(lab.sink, MemorySink)
    lab.backup({"d": noise(100_000)})
    (entry,) = list_snapshots(lab.open())
    before = lab.keys(lab.at.prefix)

    def sweep() -> None:
        """In the order of a prune."""
        named = {entry.id: entry.digest}
        forget(entry.domain, named)
        things = {name: tuple(map(layout.id_of, lab.keys(f"{lab.at.prefix}{name}/"))) for name in ("parts", "packs")}
        delete(entry.domain, named, Things(**things))
        lab.sink.delete(lab.at.snapshot_key(entry.id))
        for key in sorted(before, reverse=True):
            if key.startswith((lab.at.parts, lab.at.packs)):
                lab.sink.delete(key)

    report = repaired(lab, InterruptedSink(lab.sink, prefix_of(lab, kind), sweep))
    assert report.whole
    assert not lab.keys(lab.at.marks)
    assert not lab.keys(lab.at.notices)
