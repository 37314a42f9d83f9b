"""A store that lies about its objects: about their times, or by listing them twice. It is seen, and stops little."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from core.tests.repository.forging import put_head
from core.tests.repository.lab import KIB, Lab, noise

from penstock.api import ObjectInfo, SnapshotNotFound
from penstock.repository.snapshots import list_snapshots
from penstock.repository.trust.keyring import add_writer, revoke
from penstock.testing import MemorySink

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow

CONTENT = {"d": noise(50 * KIB)}
FIRST = datetime(1, 1, 1, tzinfo=UTC)
LAST = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)


class LyingSink(MemorySink):
    """Says of each object that it was put at `moment`, and lists it `times` times."""

    def __init__(self, moment: datetime | None = None, times: int = 1) -> None:
        super().__init__()
        self.moment = moment
        self.times = times

    def stat(self, key: str) -> ObjectInfo:
        return self._told(super().stat(key))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return (self._told(info) for info in super().list(prefix) for _ in range(self.times))

    def _told(self, info: ObjectInfo) -> ObjectInfo:
        return replace(info, modified=self.moment) if self.moment else info


def lying(lab: Lab, sink: LyingSink) -> None:
    """Let the lab's repository be in that store."""
    assert isinstance(lab.sink, MemorySink)
    for key, data in lab.sink.contents().items():
        sink.put(key, data)
    lab.sink = sink


def test_objects_of_the_last_moment_of_the_calendar_disturb_nobody(lab: Lab) -> None:
    writer = add_writer(lab.repository, "prod-db", domain="main")
    lab.backup(CONTENT, by=lab.open(writer))
    lying(lab, LyingSink(LAST))
    assert lab.restored() == CONTENT
    assert lab.check(cache=lab.cache).findings == ()
    lab.backup(CONTENT, by=lab.open(writer))
    assert len(revoke(lab.open(), writer.key)) == 2
    assert lab.restored() == CONTENT


def test_a_store_that_says_that_all_is_older_than_it_is_hides_the_latest_and_is_told_of(lab: Lab) -> None:
    """To be years ahead of the store is what a thief with a false date would be: whoever names an id gets it."""
    lab.backup(CONTENT)
    lying(lab, LyingSink(FIRST))
    with pytest.raises(SnapshotNotFound):
        lab.find("latest")
    assert any("in the future" in warning for warning in lab.warnings)
    assert any("in the future" in finding.problem for finding in lab.check().findings)
    (entry,) = list_snapshots(lab.open())
    assert lab.restored(entry.id.hex()) == CONTENT
    lab.backup(CONTENT)


@pytest.mark.parametrize(
    "time",
    ["9999-12-31T23:59:59.999999-23:59", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999Z", "24:00", "\0"],
)
@pytest.mark.parametrize("moment", [None, FIRST, LAST])
def test_no_time_that_a_head_may_claim_disturbs_anybody(lab: Lab, time: str, moment: datetime | None) -> None:
    writer = add_writer(lab.repository, "mallory", domain="main")
    lab.backup(CONTENT, by=lab.open(writer))
    put_head(lab.find("latest"), writer, started=time, finished=time)
    lying(lab, LyingSink(moment))
    assert len(list_snapshots(lab.open())) == 2
    lab.check(read_data=False, cache=lab.cache)
    lab.backup(CONTENT, by=lab.open(writer))
    if moment is not FIRST:
        assert lab.restored() == CONTENT
    revoke(lab.open(), writer.key, since="2026-01-01T00:00:00.000000Z")


def test_what_is_listed_twice_is_there_once(lab: Lab) -> None:
    lab.backup(CONTENT)
    lying(lab, LyingSink(times=2))
    (entry,) = list_snapshots(lab.open())
    for digits in (4, 32):
        assert lab.find(entry.id.hex()[:digits]).id == entry.id
    assert lab.restored() == CONTENT
    report = lab.check(cache=lab.cache)
    assert (report.findings, report.snapshots) == ((), 1)
    assert lab.backup(CONTENT).packs == 0
