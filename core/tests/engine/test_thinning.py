"""Records of what was deleted: one in the place of many, and nothing is explained less than before."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from core.tests.engine.test_prune import let_go, night, pruned
from core.tests.repository.lab import Lab, noise
from core.tests.repository.virtual import VirtualStore

from penstock.api import SinkUnreachable
from penstock.api.stopping import NEVER
from penstock.repository import Repository
from penstock.repository.notices import Notices, read_notices
from penstock.repository.pool import Workers
from penstock.repository.trust.keyring import add_maintainer
from penstock.repository.upkeep import thinning
from penstock.testing import Fail, FaultySink

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("store")]


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thinning, "_MANY", 6)


def notices(lab: Lab) -> Notices:
    with Workers(1, "penstock-test", NEVER) as workers:
        return read_notices(lab.domain, workers)


def nights(lab: Lab, store: VirtualStore, count: int, by: Repository | None = None) -> Iterator[None]:
    """Nights of which the last two are kept; after each, a prune."""
    made: list[str] = []
    for number in range(count):
        made.append(night(lab, store, noise(2000, number)))
        if number >= 2:
            let_go(lab, made[-3])
        pruned(lab, by)
        yield


def test_records_do_not_pile_up(lab: Lab, store: VirtualStore, tmp_path: Path) -> None:
    counts = []
    before = notices(lab)
    for _ in nights(lab, store, 20):
        counts.append(len(lab.keys(lab.at.deletions)))
        now = notices(lab)
        assert now.swept >= before.swept
        assert now.deleted >= before.deleted
        assert now.forgotten >= before.forgotten
        before = now
    assert max(counts) <= 2 * 6 + 2
    assert len(before.swept) >= 16
    # Neither a host that has seen everything misses something, nor one that has not.
    assert lab.check().findings == ()
    assert lab.check(cache=tmp_path / "another").findings == ()


def test_what_may_be_taken_back_stays(lab: Lab, store: VirtualStore) -> None:
    for _ in nights(lab, store, 8):
        pass
    held = night(lab, store, b"needed again")
    night(lab, store, b"the newest")
    let_go(lab, held)
    store.passes(days=3)
    keys = lab.keys(lab.at.deletions)
    with Workers(1, "penstock-test", NEVER) as workers:
        thinning.thin_records(lab.domain, workers, is_old=lambda info: True)
    forgets = notices(lab).forgets
    assert {snapshot.hex() for snapshot, _ in forgets} >= {held}
    assert keys & lab.keys(lab.at.deletions)


def test_records_of_another_key_stay(lab: Lab, store: VirtualStore) -> None:
    """If that key turns out to be stolen, what it said has to end with it."""
    other = lab.open(add_maintainer(lab.open(), "operations"))
    for _ in nights(lab, store, 10, by=other):
        pass
    keys = lab.keys(lab.at.deletions)
    by_other = len(keys)
    with Workers(1, "penstock-test", NEVER) as workers:
        for _ in range(2):
            assert thinning.thin_records(lab.domain, workers, is_old=lambda info: True) == 0
    assert keys <= lab.keys(lab.at.deletions)
    assert by_other > 6


def test_a_run_that_is_stopped_anywhere_loses_no_record(lab: Lab, store: VirtualStore, tmp_path: Path) -> None:
    for _ in nights(lab, store, 9):
        pass
    explained = notices(lab)
    stops = [Fail("put", after=after) for after in (False, True)]
    stops += [Fail("delete", nth=nth, times=None, after=after) for nth in (1, 2, 4) for after in (False, True)]
    deleted = 0
    for stop in stops:
        domain = lab.open(sink=FaultySink(lab.sink, stop)).domain
        before = lab.keys(lab.at.deletions)
        with Workers(1, "penstock-test", NEVER) as workers, suppress(SinkUnreachable):
            thinning.thin_records(domain, workers, is_old=lambda info: True)
        deleted += len(before - lab.keys(lab.at.deletions))
        now = notices(lab)
        assert (now.swept, now.forgotten) == (explained.swept, explained.forgotten)
        assert now.deleted >= explained.deleted
    assert lab.check(cache=tmp_path / "another").findings == ()
    assert deleted > 6
