"""A dump that does not end well commits nothing, leaves nothing running and loses nothing."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from core.tests.repository.lab import KIB, MIB, BytesSource, BytesStream, Lab, noise

from penstock.api import (
    Dump,
    DumpFailed,
    DumpPlan,
    DumpStalled,
    DumpStream,
    Event,
    EventKind,
    Inspection,
    LeftOut,
    SinkFull,
    SourceDenied,
    SourceError,
    StreamSpec,
)
from penstock.repository.snapshots import list_snapshots
from penstock.testing import Fail, FaultySink, SyntheticSettings, SyntheticSource

EARLIER = {"d": b"the night before"}
CONTENT = noise(6 * MIB)


class Breaks(BytesStream):
    """Raises `error` where it should read on after `after` bytes."""

    def __init__(self, data: bytes, after: int, error: BaseException) -> None:
        super().__init__(data[:after])
        self._error = error

    def readinto(self, buffer: memoryview, /) -> int:
        count = super().readinto(buffer)
        if not count:
            raise self._error
        return count


class EndsBadly(BytesStream):
    """Gives every byte, and then its child turns out to have failed."""

    def close(self) -> None:
        super().close()
        raise DumpFailed("pg_dump exited with 1", details=("pg_dump: error: connection lost",))


class Hangs(BytesStream):
    """Waits for ever for more, until it is aborted."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._aborted = threading.Event()

    def readinto(self, buffer: memoryview, /) -> int:
        count = super().readinto(buffer)
        if not count:
            assert self._aborted.wait(300)
            raise DumpFailed("aborted")
        return count

    def abort(self) -> None:
        super().abort()
        self._aborted.set()


def assert_nothing_happened(lab: Lab, source: BytesSource, *, interrupted: bool = False) -> None:
    """No snapshot but the earlier one, every stream ended once, no thread left, and all that is there is sound."""
    assert lab.remaining_threads(interrupted=interrupted) == []
    for stream in source.opened:
        assert isinstance(stream, BytesStream)
        assert stream.closes <= 1
        assert stream.aborts <= 1
        assert stream.ended
    assert lab.restored() == EARLIER
    assert len(list_snapshots(lab.open())) == 1
    assert lab.check(cache=lab.cache).findings == ()


@pytest.fixture
def lab(lab: Lab) -> Lab:
    lab.backup(EARLIER)
    return lab


AFTER = [0, 1, 100 * KIB, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1]


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("error", [DumpFailed("broke off"), DumpStalled("no byte for 5 minutes"), OSError("a defect")])
def test_a_stream_that_breaks_off_commits_nothing(lab: Lab, after: int, error: Exception) -> None:
    source = BytesSource({"a": b"whole", "d": CONTENT, "e": b"never opened"})
    source._opener = lambda data: Breaks(data, after, error) if data is CONTENT else BytesStream(data)
    with pytest.raises(type(error)) as raised:
        lab.backup(source)
    assert raised.value is error
    assert len(source.opened) == 2
    assert_nothing_happened(lab, source)


def test_a_stream_whose_end_was_bad_commits_nothing_although_every_byte_came(lab: Lab) -> None:
    source = BytesSource({"d": CONTENT}, opener=EndsBadly)
    with pytest.raises(DumpFailed, match="exited with 1") as raised:
        lab.backup(source)
    assert raised.value.exit_code == 45
    assert raised.value.details == ("pg_dump: error: connection lost",)
    assert_nothing_happened(lab, source)


def test_an_empty_stream_whose_end_was_bad_commits_nothing(lab: Lab) -> None:
    source = BytesSource({"d": b""}, opener=EndsBadly)
    with pytest.raises(DumpFailed):
        lab.backup(source)
    assert_nothing_happened(lab, source)


def test_the_synthetic_source_can_break_off_too(lab: Lab) -> None:
    with pytest.raises(DumpFailed, match="broke off after"):
        lab.backup(SyntheticSource(SyntheticSettings(size=9 * MIB, fail_after=5 * MIB)))
    assert_nothing_happened(lab, BytesSource({}))


class Denying(BytesSource):
    """Opens its first stream and refuses the second."""

    def attach(self, spec: StreamSpec) -> DumpStream:
        if self.opened:
            raise SourceDenied("permission denied for table orders")
        return super().attach(spec)


def test_a_stream_that_cannot_be_opened_commits_nothing(lab: Lab) -> None:
    source = Denying({"a": CONTENT, "b": b"2"})
    with pytest.raises(SourceDenied):
        lab.backup(source)
    assert_nothing_happened(lab, source)


class SpoilsTheEnd(BytesSource):
    """All streams are fine, and the view that they shared turns out to have been lost."""

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        with super().dump() as dump:
            yield dump
        raise DumpFailed("the transaction was gone at the end")


class SpoilsTheBeginning(BytesSource):
    @contextmanager
    def dump(self) -> Iterator[Dump]:
        if self.streams:
            raise SourceError("no such database")
        yield Dump(DumpPlan(self.inspect(), (), "none"), self.attach)


@pytest.mark.parametrize("kind", [SpoilsTheBeginning, SpoilsTheEnd])
def test_a_dump_whose_frame_fails_commits_nothing(lab: Lab, kind: type[BytesSource]) -> None:
    source = kind({"d": CONTENT})
    with pytest.raises(SourceError):
        lab.backup(source)
    assert_nothing_happened(lab, source)


def test_a_plan_with_two_streams_of_one_name_is_refused(lab: Lab) -> None:
    class Doubles(BytesSource):
        @contextmanager
        def dump(self) -> Iterator[Dump]:
            with super().dump() as dump:
                yield replace(dump, plan=replace(dump.plan, streams=dump.plan.streams * 2))

    source = Doubles({"d": b"1"})
    with pytest.raises(SourceError, match="two with the same name"):
        lab.backup(source)
    assert source.opened == []
    assert_nothing_happened(lab, source)


class Disturbed(DumpFailed):
    retryable = True


class Unlucky(BytesSource):
    """Something happens beside its first dumps, which shows when every byte was given."""

    def __init__(self, content: dict[str, bytes], spoilt: int) -> None:
        super().__init__(content)
        self.spoilt = spoilt
        self.dumps = 0

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        self.dumps += 1
        spoilt = self.dumps <= self.spoilt

        class Spoilt(BytesStream):
            def close(self) -> None:
                super().close()
                if spoilt:
                    raise Disturbed("a collection was renamed")

        self._opener = Spoilt
        with super().dump() as dump:
            yield dump


@pytest.mark.slow
@pytest.mark.parametrize("spoilt", [1, 2])
def test_a_dump_that_only_the_moment_spoilt_begins_again(lab: Lab, spoilt: int) -> None:
    source = Unlucky({"a": b"small", "d": CONTENT}, spoilt)
    result = lab.backup(source)
    assert source.dumps == spoilt + 1
    assert result.retries == spoilt
    assert lab.restored() == {"a": b"small", "d": CONTENT}
    assert len(list_snapshots(lab.open())) == 2
    assert lab.check(cache=lab.cache).findings == ()
    said = [event.message for event in lab.events if event.kind is EventKind.RETRY]
    assert said == ["a collection was renamed: the dump begins again"] * spoilt


def test_what_a_spoilt_dump_left_out_is_not_what_its_successor_leaves_out(lab: Lab) -> None:
    class Lacking(Unlucky):
        def inspect(self) -> Inspection:
            return replace(super().inspect(), left_out=(LeftOut("view", f"v{self.dumps}", "it does not work"),))

    result = lab.backup(Lacking({"d": b"small"}, 2))
    assert [one.name for one in result.left_out] == ["v3"]
    assert result.left_out_count == 1


@pytest.mark.slow
def test_a_dump_that_begins_again_uses_what_was_stored(lab: Lab) -> None:
    content = noise(40 * MIB)
    source = Unlucky({"d": content}, 1)
    assert lab.backup(source).stored < 20 * MIB
    assert lab.restored() == {"d": content}


@pytest.mark.slow
def test_a_dump_that_is_spoilt_again_and_again_is_given_up(lab: Lab) -> None:
    source = Unlucky({"d": CONTENT}, 9)
    with pytest.raises(Disturbed):
        lab.backup(source)
    assert source.dumps == 3
    assert_nothing_happened(lab, source)


def test_an_interruption_ends_everything(lab: Lab) -> None:
    source = BytesSource({"d": CONTENT})

    def interrupt(event: Event) -> None:
        if event.kind is EventKind.PROGRESS and event.done > 3 * MIB:
            raise KeyboardInterrupt

    lab.events = _Listener(interrupt)
    with pytest.raises(KeyboardInterrupt):
        lab.backup(source)
    lab.events = []
    assert_nothing_happened(lab, source, interrupted=True)


class _Listener(list[Event]):
    def __init__(self, hear: object) -> None:
        super().__init__()
        self._hear = hear

    def append(self, event: Event) -> None:
        assert callable(self._hear)
        self._hear(event)


@pytest.mark.slow
def test_a_sink_that_fails_ends_a_stream_that_hangs(lab: Lab) -> None:
    source = BytesSource({"d": noise(56 * MIB)}, opener=Hangs)
    sink = FaultySink(lab.sink, Fail("put", prefix=lab.at.packs, error=SinkFull))
    with pytest.raises(SinkFull):
        lab.backup(source, by=lab.open(sink=sink))
    assert_nothing_happened(lab, source)


def test_a_failed_backup_says_so(lab: Lab) -> None:
    lab.events.clear()
    with pytest.raises(DumpFailed):
        lab.backup(BytesSource({"d": b"1"}, opener=EndsBadly), name="shop")
    assert [event.kind for event in lab.events if event.kind is not EventKind.PROGRESS] == [
        EventKind.STARTED,
        EventKind.PHASE,
        EventKind.PHASE,
        EventKind.FAILED,
    ]
    assert lab.events[-1].message == "pg_dump exited with 1"
