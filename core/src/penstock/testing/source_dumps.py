# ruff: noqa: D102 - the names of the tests are what they promise
"""The part of the kit for sources that is about plans, and about streams that are read, closed or aborted."""

import pickle
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from penstock.api import DumpFailed, DumpPlan, DumpStalled, DumpStream, Interrupted, StopToken
from penstock.testing import stand_ins
from penstock.testing.dumping import dump_all, novel_bytes, read_all, read_quietly, within
from penstock.testing.kit import applicable, essential, must_raise, must_work
from penstock.testing.plain import check_outcome, check_plain_data
from penstock.testing.source_lab import SourceLab
from penstock.testing.source_trials import (
    CUT,
    SourceTests,
    check_uncompressed,
    compare,
    main_stream,
    must_fail,
)
from penstock.testing.traces import Traces

__all__ = ["DumpTests"]

#: How many bytes reads ask for. Whole seeds fit into one large read, which hides what goes wrong between two.
_SIZES = ((1, 2, 3, 1, 4095, 4096, 4097, 1, 65_536), (1000,))
#: The share of a stream that may be new after a little of the content has changed.
_CHANGED_SHARE = 0.5
_COMMITS = "a dump that ended badly would be committed as a good one"


class DumpTests(SourceTests):
    """Tests of a dump that nobody disturbs, and of one that breaks off."""

    def test_every_stream_has_a_valid_name_of_its_own(self, lab: SourceLab) -> None:
        with lab.source.dump() as held:
            names = [spec.name for spec in held.plan.streams]
        assert names, "a plan has at least one stream"
        assert len({name.casefold() for name in names}) == len(names), f"two streams have one name: {sorted(names)}"
        for name in names:
            try:
                name.encode()
            except UnicodeEncodeError:
                pytest.fail(f"the name of a stream is not Unicode: {name!a}")
            path_like = name.isprintable() and "\\" not in name and not {"", ".", ".."} & set(name.split("/"))
            assert path_like, f"the name of a stream is not that of a file in a folder: {name!a}"

    def test_a_plan_is_plain_data(self, lab: SourceLab) -> None:
        with lab.source.dump() as held:
            plan = held.plan
            assert type(plan) is DumpPlan, f"the plan is a DumpPlan, not {type(plan).__name__}"
            assert plan.consistency.strip(), "the plan does not say how its streams belong together"
            for spec in plan.streams:
                check_plain_data(spec)
            try:
                back = pickle.loads(pickle.dumps(plan))  # noqa: S301 - our own
            except (pickle.PicklingError, TypeError, AttributeError) as error:
                pytest.fail(f"the plan cannot be pickled: {error}")
            assert back == plan, "the plan is not the same after pickling"

    def test_a_stream_is_the_same_however_it_is_read(self, lab: SourceLab) -> None:
        first = dump_all(lab.source)
        for sizes in _SIZES:
            with lab.source.dump() as held:
                second = {spec.name: (spec, read_all(held.open(spec), sizes)) for spec in held.plan.streams}
            compare(lab, first, second, "dumps that are read in large and in small pieces")

    def test_dumps_of_unchanged_data_are_the_same(self, lab: SourceLab) -> None:
        compare(lab, dump_all(lab.source), dump_all(lab.source), "two dumps of unchanged data")

    def test_a_stream_is_not_compressed(self, lab: SourceLab) -> None:
        for name, (_, data) in dump_all(lab.source).items():
            check_uncompressed(name, data)

    def test_a_small_change_changes_little_of_a_dump(self, lab: SourceLab) -> None:
        first = dump_all(lab.source)
        lab.change()
        second = dump_all(lab.source)
        allowed = lab.differences.at_most if lab.differences else 0
        for name, (_, data) in second.items():
            if len(data) < CUT or name not in first:
                continue
            novel = novel_bytes(first[name][1], data)
            assert novel <= allowed + len(data) * _CHANGED_SHARE, (
                f"{name} does not deduplicate: after a small change, {novel} of its {len(data)} bytes are new"
            )

    def test_an_outcome_is_plain_data(self, lab: SourceLab) -> None:
        with lab.source.dump() as held:
            for spec in held.plan.streams:
                stream = held.open(spec)
                read_all(stream)
                check_outcome(spec.name, stream.outcome())

    def test_exact_rows_are_those_of_the_database(self, lab: SourceLab) -> None:
        rows = applicable(lab.rows())
        with lab.source.dump() as held:
            found = {(item.kind, item.name): item for item in held.plan.inspection.inventory}
            for spec in held.plan.streams:
                stream = held.open(spec)
                read_all(stream)
                found |= {(item.kind, item.name): item for item in stream.outcome().inventory}
        items = [item for item in found.values() if item.exact and item.rows is not None]
        if not items:
            pytest.skip("not applicable: no row count of the inventory is said to be exact")
        counted = [item for item in items if item.name in rows]
        assert counted, f"the lab counts {sorted(rows)}, none of which is in the inventory with an exact count"
        wrong = [f"{one.name} has {rows[one.name]}, not {one.rows}" for one in counted if rows[one.name] != one.rows]
        assert not wrong, f"row counts that are called exact are wrong: {', '.join(wrong)}"

    @essential(_COMMITS)
    def test_a_stream_closed_before_its_end_has_failed(self, lab: SourceLab) -> None:
        traces = Traces()
        with lab.source.dump() as held:
            stream = held.open(main_stream(held.plan))
            count = stream.readinto(memoryview(bytearray(10)))
            assert count > 0, "the largest stream is empty"
            with must_raise(DumpFailed, "close() before the end of the stream"):
                stream.close()
            stream.close()
            stream.abort()
        traces.check("a stream that was closed before its end")

    @essential(_COMMITS)
    def test_a_child_that_is_killed_half_way_fails_the_dump(self, lab: SourceLab, tmp_path: Path) -> None:
        program = applicable(lab.program)
        source = lab.variant(program=stand_ins.is_killed(tmp_path / "killed", program, CUT))
        must_fail(self.patience, source, DumpFailed, "a program that is killed half-way")

    @essential(_COMMITS)
    def test_a_child_that_fails_after_all_of_its_output_fails_the_dump(self, lab: SourceLab, tmp_path: Path) -> None:
        program = applicable(lab.program)
        source = lab.variant(program=stand_ins.exits_after_all(tmp_path / "failing", program))
        must_fail(self.patience, source, DumpFailed, "a program that exits with 1 after all of its output")

    @essential(_COMMITS)
    def test_output_that_breaks_off_with_success_fails_the_dump(self, lab: SourceLab, tmp_path: Path) -> None:
        program = applicable(lab.program)
        if program.unmarked is not None:
            applicable(program.unmarked)
        source = lab.variant(program=stand_ins.breaks_off(tmp_path / "short", program, CUT))
        must_fail(self.patience, source, DumpFailed, "a program that breaks off half-way and exits with 0")

    def test_a_child_that_stalls_fails_the_dump_in_time(self, lab: SourceLab, tmp_path: Path) -> None:
        program = applicable(lab.program)
        stand_in = stand_ins.stalls(tmp_path / "stalling", program, CUT)
        source = lab.variant(program=stand_in, stall_timeout=1)
        must_fail(self.patience, source, DumpStalled, "a program that stalls half-way")

    def test_abort_frees_a_thread_that_waits(self, lab: SourceLab, tmp_path: Path) -> None:
        program = applicable(lab.program)
        source = lab.variant(program=stand_ins.stalls(tmp_path / "waiting", program, CUT))
        traces = Traces()
        with source.dump() as held:
            stream = held.open(main_stream(held.plan))
            reading = threading.Thread(target=read_quietly, args=(stream,), daemon=True)
            reading.start()
            reading.join(0.5)  # until it waits, most likely
            assert reading.is_alive(), "the stream ended, although the program writes for ever"
            within(self.patience, "abort() while a thread reads", stream.abort)
            reading.join(self.patience)
            assert not reading.is_alive(), "the thread still waits for bytes after abort()"
            stream.abort()
        traces.check("an aborted stream")

    def test_a_stop_ends_a_wait_for_the_next_byte(self, lab: SourceLab, tmp_path: Path) -> None:
        program = applicable(lab.program)
        source = lab.variant(program=stand_ins.stalls(tmp_path / "stopped", program, CUT))
        source.stop = token = StopToken()
        traces = Traces()
        streams: list[DumpStream] = []
        waiting = threading.Timer(0.5, token.stop)  # it waits by then, most likely; it may be stopped before, too

        def dump() -> None:
            with source.dump() as held:
                streams.append(held.open(main_stream(held.plan)))
                read_all(streams[0])

        waiting.start()
        try:
            with must_raise(Interrupted, "a dump whose token `stop` stops"):
                doing = "a dump whose token `stop` stops while it waits for a byte"
                within(self.patience, doing, dump, rescue=lambda: [stream.abort() for stream in streams])
        finally:
            waiting.join()
        traces.check("a dump that was stopped")

    def test_abort_never_raises_and_may_be_repeated(self, lab: SourceLab) -> None:
        for size in (0, 1, CUT):
            with lab.source.dump() as held:
                stream = held.open(main_stream(held.plan))
                done = 0
                while done < size and (count := stream.readinto(memoryview(bytearray(size - done)))):
                    done += count
                for _ in range(3):
                    _abort(stream)
                with suppress(DumpFailed):  # close() may tell that the stream was aborted
                    stream.close()
                _abort(stream)
        with lab.source.dump() as held:
            stream = held.open(main_stream(held.plan))
            assert len(read_all(stream)) > CUT, "the lab's seed is too small to break off half-way"
            _abort(stream)
            stream.close()

    @pytest.mark.parametrize("how", ["read to its end", "aborted", "not opened", "left with an error"])
    def test_nothing_is_left_of_a_dump(self, lab: SourceLab, how: str) -> None:
        dump_all(lab.source)  # what is opened once and for all, is open now
        traces = Traces()
        try:
            with lab.source.dump() as held:
                for spec in held.plan.streams if how != "not opened" else ():
                    stream = held.open(spec)
                    stream.readinto(memoryview(bytearray(10)))
                    traces.look()
                    if how == "read to its end":
                        read_all(stream)
                        continue
                    stream.abort()
                if how == "left with an error":
                    raise _Left
        except _Left:
            assert how == "left with an error"
        traces.check(f"a dump that was {how}")
        with must_work(f"a dump after one that was {how}"):
            dump_all(lab.source)


def _abort(stream: DumpStream) -> None:
    try:
        stream.abort()
    except Exception as error:  # noqa: BLE001 - it must not raise anything
        pytest.fail(f"abort() raised {type(error).__name__}: it never raises, also when it is called again")


class _Left(Exception):
    """What leaves a block."""
