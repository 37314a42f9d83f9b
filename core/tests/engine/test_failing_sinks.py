"""A sink that fails at any moment of a backup: the error is the sink's own, and nothing is lost."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from core.tests.repository.lab import MIB, BytesSource, BytesStream, Lab, noise

from penstock.api import EventKind, SinkDenied, SinkError, SinkFull, SinkUnreachable
from penstock.engine.reporting import Reporter
from penstock.repository.snapshots import list_snapshots
from penstock.testing import Fail, FaultySink

EARLIER = {"d": noise(MIB, 1)}
CONTENT = {"d": EARLIER["d"] + noise(MIB), "e": b"small"}
LARGE = {"d": EARLIER["d"] + noise(34 * MIB)}


@pytest.fixture
def lab(lab: Lab) -> Lab:
    lab.backup(EARLIER)
    return lab


def fail(
    lab: Lab,
    fault: Fail,
    error: type[SinkError],
    *,
    content: Mapping[str, bytes] = CONTENT,
    cache: Path | None = None,
) -> None:
    """A backup through a sink with that fault raises `error` and leaves all as it was; the next one is fine."""
    sink = FaultySink(lab.sink, fault)
    source = BytesSource(content)
    repository = lab.open(sink=sink)
    lab.events.clear()
    with pytest.raises(error) as raised:
        lab.backup(source, by=repository, cache=cache)
    assert raised.value.key.startswith(fault.prefix)
    assert lab.events[-1].kind is EventKind.FAILED
    assert lab.remaining_threads() == []
    assert all(stream.ended for stream in source.opened if isinstance(stream, BytesStream))
    assert lab.restored() == EARLIER
    assert lab.check(cache=lab.cache).findings == ()
    lab.backup(content, cache=cache)
    assert lab.restored() == content
    assert lab.check(cache=lab.cache).findings == ()


@pytest.mark.parametrize("prefix", ["sessions/", "packs/", "index/", "snapshots/"])
@pytest.mark.parametrize("error", [SinkFull, SinkUnreachable])
def test_a_put_that_fails_commits_nothing(lab: Lab, prefix: str, error: type[SinkError]) -> None:
    fail(lab, Fail("put", prefix=prefix, error=error), error)


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_no_pack_can_fail_unseen(lab: Lab, nth: int) -> None:
    fail(lab, Fail("put", nth=nth, prefix="packs/", error=SinkFull), SinkFull, content=LARGE)


@pytest.mark.parametrize("prefix", ["sessions/", "packs/", "index/"])
def test_a_put_whose_answer_is_lost_commits_nothing(lab: Lab, prefix: str) -> None:
    fail(lab, Fail("put", prefix=prefix, error=SinkUnreachable, after=True), SinkUnreachable)


def test_a_snapshot_whose_answer_is_lost_is_a_whole_snapshot(lab: Lab) -> None:
    """The one case that a caller cannot tell from a failure: the commit took place, and its answer did not come."""
    sink = FaultySink(lab.sink, Fail("put", prefix="snapshots/", after=True))
    with pytest.raises(SinkUnreachable) as caught:
        lab.backup(CONTENT, by=lab.open(sink=sink))
    assert f"the snapshot {list_snapshots(lab.open())[-1].id.hex()} may exist" in caught.value.details[0]
    assert lab.restored() == CONTENT
    assert lab.check(cache=lab.cache).findings == ()


def test_an_interrupt_after_the_commit_names_the_snapshot(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(reporter: Reporter, message: str, figures: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Reporter, "completed", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        lab.backup(CONTENT)
    monkeypatch.undo()
    assert caught.value.__notes__ == [f"the snapshot {list_snapshots(lab.open())[-1].id.hex()} is committed"]


@pytest.mark.parametrize("prefix", ["sessions/", "packs/", "index/", "snapshots/"])
def test_a_get_that_fails_ends_the_backup(lab: Lab, tmp_path: Path, prefix: str) -> None:
    fail(lab, Fail("get", prefix=prefix, error=SinkUnreachable), SinkUnreachable, cache=tmp_path / "new host")


@pytest.mark.parametrize(
    ("prefix", "nth"),
    [("tombstones/", 1), ("index/", 1), ("packs/", 1), ("packs/", 2), ("sessions/", 1), ("snapshots/", 1)],
)
def test_a_list_that_fails_ends_the_backup(lab: Lab, prefix: str, nth: int) -> None:
    fail(lab, Fail("list", nth=nth, prefix=prefix, error=SinkDenied), SinkDenied)


@pytest.mark.parametrize("prefix", ["sessions/", "packs/"])
def test_a_sink_that_fails_during_a_restore_is_no_damage(lab: Lab, prefix: str) -> None:
    repository = lab.open(sink=FaultySink(lab.sink, Fail("get", prefix=prefix, times=None)))
    target = BytesSource({})
    with pytest.raises(SinkUnreachable):
        lab.restore(into=target, by=repository)
    assert target.touched == []


@pytest.mark.parametrize("prefix", ["slots/", "sessions/", "index/", "packs/", "snapshots/"])
def test_a_sink_that_fails_during_a_check_is_no_finding(lab: Lab, prefix: str) -> None:
    repository = lab.open(sink=FaultySink(lab.sink, Fail("get", prefix=prefix)))
    with pytest.raises(SinkUnreachable):
        lab.check(by=repository)
