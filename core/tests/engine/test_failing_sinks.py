"""A sink that fails at any moment of a backup: the error is the sink's own, and nothing is lost."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from core.tests.repository.forging import NOW, put_notice
from core.tests.repository.lab import MIB, PASSPHRASE, BytesSource, BytesStream, Lab, noise

from penstock.api import EventKind, SinkDenied, SinkError, SinkFull, SinkUnreachable
from penstock.engine.reporting import Reporter
from penstock.format.encoding import new_id
from penstock.format.notice import Action, Deletion, Notice, Things, Tombstone
from penstock.repository import layout
from penstock.repository.snapshots import list_snapshots
from penstock.testing import Fail, FaultySink

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow

EARLIER = {"d": noise(MIB, 1)}
CONTENT = {"d": EARLIER["d"] + noise(MIB), "e": b"small"}
LARGE = {"d": EARLIER["d"] + noise(34 * MIB)}


@pytest.fixture
def lab(lab: Lab) -> Lab:
    lab.backup(EARLIER)
    return lab


def of_kind(lab: Lab, kind: str) -> str:
    """The prefix of the objects of a kind, such as `packs` or `slots`."""
    return layout.SLOTS if kind == "slots" else f"{lab.at.prefix}{kind}/"


def say_something(lab: Lab) -> None:
    """A notice, a tombstone and a deletion record, about objects that do not exist."""
    domain, none = lab.repository.domain, new_id()
    put_notice(domain, Notice(NOW, {none: "a test"}))
    put_notice(domain, Tombstone(NOW, Things(packs=(none,))))
    put_notice(domain, Deletion(NOW, Action.FORGET, {none: none + none}))


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


@pytest.mark.parametrize("kind", ["sessions", "packs", "index", "parts", "snapshots"])
@pytest.mark.parametrize("error", [SinkFull, SinkUnreachable])
def test_a_put_that_fails_commits_nothing(lab: Lab, kind: str, error: type[SinkError]) -> None:
    fail(lab, Fail("put", prefix=of_kind(lab, kind), error=error), error)


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_no_pack_can_fail_unseen(lab: Lab, nth: int) -> None:
    fail(lab, Fail("put", nth=nth, prefix=lab.at.packs, error=SinkFull), SinkFull, content=LARGE)


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_no_part_can_fail_unseen(lab: Lab, nth: int) -> None:
    """One with the recipes, one with the segment table, one with the manifest."""
    fail(lab, Fail("put", nth=nth, prefix=lab.at.parts, error=SinkFull), SinkFull)


def test_a_part_that_fails_during_the_dump_commits_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.repository.write.stream.ENOUGH", 0)
    fail(lab, Fail("put", prefix=lab.at.parts, error=SinkFull), SinkFull)


@pytest.mark.parametrize("kind", ["sessions", "packs", "index", "parts"])
def test_a_put_whose_answer_is_lost_commits_nothing(lab: Lab, kind: str) -> None:
    fail(lab, Fail("put", prefix=of_kind(lab, kind), error=SinkUnreachable, after=True), SinkUnreachable)


def test_a_snapshot_whose_answer_is_lost_is_a_whole_snapshot(lab: Lab) -> None:
    """The one case that a caller cannot tell from a failure: the commit took place, and its answer did not come."""
    sink = FaultySink(lab.sink, Fail("put", prefix=lab.at.snapshots, after=True))
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


@pytest.mark.parametrize("kind", ["notices", "deletions", "tombstones", "index", "packs", "sessions", "snapshots"])
def test_a_get_that_fails_ends_the_backup(lab: Lab, tmp_path: Path, kind: str) -> None:
    say_something(lab)
    fail(lab, Fail("get", prefix=of_kind(lab, kind), error=SinkUnreachable), SinkUnreachable, cache=tmp_path / "new")


def test_a_session_that_cannot_be_read_again_at_the_commit_ends_the_backup(lab: Lab) -> None:
    # Its own is not read before, and that of the night before is known from the cache.
    fail(lab, Fail("get", nth=2, prefix=lab.at.sessions, error=SinkUnreachable), SinkUnreachable)


@pytest.mark.parametrize(
    ("kind", "nth"),
    [
        ("notices", 1),
        ("deletions", 1),
        ("tombstones", 1),
        ("index", 1),
        ("packs", 1),
        ("packs", 2),
        ("sessions", 1),
        ("snapshots", 1),
    ],
)
def test_a_list_that_fails_ends_the_backup(lab: Lab, kind: str, nth: int) -> None:
    fail(lab, Fail("list", nth=nth, prefix=of_kind(lab, kind), error=SinkDenied), SinkDenied)


def test_a_log_that_cannot_be_read_opens_nothing(lab: Lab) -> None:
    for method in ("list", "get"):
        for unlock in (lab.owner, PASSPHRASE):
            with pytest.raises(SinkUnreachable):
                lab.open(unlock, sink=FaultySink(lab.sink, Fail(method, prefix=layout.GRANTS)))


@pytest.mark.parametrize("kind", ["sessions", "packs", "parts"])
def test_a_sink_that_fails_during_a_restore_is_no_damage(lab: Lab, kind: str) -> None:
    repository = lab.open(sink=FaultySink(lab.sink, Fail("get", prefix=of_kind(lab, kind), times=None)))
    target = BytesSource({})
    with pytest.raises(SinkUnreachable):
        lab.restore(into=target, by=repository)
    assert target.touched == []


@pytest.mark.parametrize("kind", ["snapshots", "notices", "deletions"])
def test_a_sink_that_fails_passes_over_no_snapshot(lab: Lab, kind: str) -> None:
    """What cannot be read now may be the latest, or say that it is void: another is not taken in its place."""
    say_something(lab)
    repository = lab.open(sink=FaultySink(lab.sink, Fail("get", prefix=of_kind(lab, kind))))
    with pytest.raises(SinkUnreachable):
        lab.find("latest", by=repository)
    assert lab.warnings == []


@pytest.mark.parametrize(
    "kind", ["slots", "sessions", "index", "packs", "parts", "snapshots", "notices", "deletions", "tombstones"]
)
def test_a_sink_that_fails_during_a_check_is_no_finding(lab: Lab, kind: str) -> None:
    say_something(lab)
    lab.events.clear()
    repository = lab.open(sink=FaultySink(lab.sink, Fail("get", prefix=of_kind(lab, kind))))
    with pytest.raises(SinkUnreachable):
        lab.check(by=repository)
    assert not [event for event in lab.events if event.kind is EventKind.FINDING]


def test_a_check_that_cannot_write_names_damage_and_says_that_it_told_nobody(lab: Lab) -> None:
    (pack,) = [info.key for info in lab.sink.list(lab.at.packs)]
    lab.sink.put(pack, b"")
    repository = lab.open(sink=FaultySink(lab.sink, Fail("put", times=None, error=SinkDenied)))
    lab.events.clear()
    report = lab.check(by=repository)
    assert [finding.key for finding in report.findings] == [pack]
    assert report.distrusted == 0
    assert any("other hosts are not told" in event.message for event in lab.events)
