# ruff: noqa: D102 - the names of the tests are what they promise
"""What every source must do, as tests.

The author of a source writes a `SourceLab`, and one fixture:

    class TestMySource(SourceConformance):
        @pytest.fixture
        def lab(self, tmp_path: Path) -> SourceLab:
            return MyLab(tmp_path)

Where a seed takes long, the fixture may give what another one, of a wider scope, has made: no test needs a database
that no other has used.

The tests are adversarial: they look for what dumps are known to get wrong, and let the dump program be killed, stall,
or lie about its end. A subclass may add tests, but not replace one, unless it says why with `deviates`. What does not
apply to a source (it has no child process, or no secret) its lab says with `NotApplicable`; that is a skip by name.
"""

import multiprocessing
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import ValidationError

from penstock.api import (
    Capability,
    DumpFailed,
    DumpPlan,
    DumpStalled,
    Inspection,
    RestoreTarget,
    Source,
    SourceError,
    SourceUnreachable,
    TargetNotEmpty,
    UsageError,
)
from penstock.plugins.contract import violations
from penstock.testing import stand_ins
from penstock.testing.dumping import (
    dump_all,
    open_and_read,
    read_all,
    read_quietly,
    restore_all,
    within,
)
from penstock.testing.kit import ConformanceKit, NotApplicable, applicable, deviates
from penstock.testing.secrecy import everything_said, shown
from penstock.testing.source_lab import ChildProgram, Differences, SourceLab, Target
from penstock.testing.source_trials import check_spec, compare, main_stream, must_fail, restore_broken
from penstock.testing.traces import Traces, command_lines

__all__ = ["ChildProgram", "Differences", "NotApplicable", "SourceConformance", "SourceLab", "Target", "deviates"]

#: Where dumps break off (bytes): within the largest stream, and beyond what a source reads for a start.
_CUT = 50_000
_PASSWORD = "pa55-of-the-kit"  # noqa: S105 - refused wherever it is tried


class SourceConformance(ConformanceKit):
    """The tests; see the module. `patience` is how many seconds a call may take that should end at once."""

    patience: ClassVar[float] = 60

    @pytest.fixture
    def lab(self) -> SourceLab:
        """The source and its surroundings. To be overridden."""
        raise NotImplementedError("a subclass of SourceConformance has a fixture `lab` that gives a SourceLab")

    def test_the_host_takes_the_class(self, lab: SourceLab) -> None:
        assert list(violations(type(lab.source), Source)) == []

    def test_it_says_where_it_is(self, lab: SourceLab) -> None:
        assert lab.source.location
        assert lab.source.location.isprintable()

    def test_unknown_settings_are_refused(self, lab: SourceLab) -> None:
        settings = lab.source.settings
        known = {name: getattr(settings, name) for name in settings.model_fields_set}
        model = type(lab.source).Settings
        model.model_validate(known)
        with pytest.raises(ValidationError):
            model.model_validate({**known, "no_such_setting": 1})
        with pytest.raises(ValidationError):
            setattr(settings, next(iter(model.model_fields)), None)

    def test_a_password_in_a_url_is_refused(self, lab: SourceLab) -> None:
        plugin = type(lab.source)
        if not plugin.schemes:
            pytest.skip("not applicable: the source answers to no URL")
        for scheme in plugin.schemes:
            for url in (f"{scheme}://user:{_PASSWORD}@host/name", f"{scheme}://host/name?password={_PASSWORD}"):
                with pytest.raises(UsageError) as caught:
                    plugin.settings_from_url(url)
                assert _PASSWORD not in everything_said(caught.value)

    def test_inspect_names_engine_and_versions(self, lab: SourceLab) -> None:
        found = lab.source.inspect()
        assert type(found) is Inspection
        for text in (found.engine, found.server_version, found.client_version, *found.warnings):
            assert isinstance(text, str)
            assert text.strip()
        assert found.size_estimate is None or found.size_estimate > 0
        assert isinstance(found.inventory, tuple)
        assert isinstance(found.warnings, tuple)

    def test_inspect_starts_no_dump(self, lab: SourceLab, tmp_path: Path) -> None:
        program = applicable(lab.program)
        notes = tmp_path / "notes"
        source = lab.variant(program=stand_ins.notes_its_calls(tmp_path / "noting", program, notes))
        source.inspect()
        assert not notes.exists(), "inspect() let the dump program dump"
        dump_all(source)
        assert notes.exists(), "the lab's variant does not use the program that it is given"

    def test_an_unreachable_server_is_said_so(self, lab: SourceLab) -> None:
        source = lab.unreachable()  # connects to nothing

        def dump() -> None:
            with source.dump():
                pytest.fail("dump() began without a server")

        calls: dict[str, Callable[[], object]] = {"inspect": source.inspect, "dump": dump}
        for name, call in calls.items():
            with pytest.raises(SourceUnreachable) as caught:
                call()
            assert caught.value.retryable, name
            assert not shown(lab, everything_said(caught.value)), name

    def test_every_stream_has_a_valid_name_of_its_own(self, lab: SourceLab) -> None:
        with lab.source.dump() as held:
            names = [spec.name for spec in held.plan.streams]
        assert names, "a plan has one stream at least"
        assert len({name.casefold() for name in names}) == len(names)
        for name in names:
            assert name.isprintable(), ascii(name)
            assert "\\" not in name, name
            assert not {"", ".", ".."} & set(name.split("/")), name
            name.encode()

    def test_a_plan_is_plain_data(self, lab: SourceLab) -> None:
        with lab.source.dump() as held:
            plan = held.plan
            assert type(plan) is DumpPlan
            assert plan.consistency.strip()
            assert pickle.loads(pickle.dumps(plan)) == plan  # noqa: S301 - our own
            for spec in plan.streams:
                check_spec(spec)

    def test_what_was_dumped_comes_back(self, lab: SourceLab) -> None:
        target = lab.target()
        empty = target.content()
        before = lab.content()
        assert before != empty, "the lab has no seed, or cannot see it"
        dump = dump_all(lab.source)
        traces = Traces()
        restore_all(target.source, dump)
        assert target.content() == before
        assert lab.content() == before
        assert traces.left() == []

    def test_a_stream_is_the_same_however_it_is_read(self, lab: SourceLab) -> None:
        first = dump_all(lab.source)
        sizes = (1, 2, 3, 1, 4095, 4096, 4097, 1, 65_536)
        with lab.source.dump() as held:
            second = {spec.name: (spec, read_all(held.open(spec), sizes)) for spec in held.plan.streams}
        compare(lab, first, second)

    def test_dumps_of_unchanged_data_are_the_same(self, lab: SourceLab) -> None:
        compare(lab, dump_all(lab.source), dump_all(lab.source))

    def test_changes_during_a_dump_are_not_in_it(self, lab: SourceLab) -> None:
        if Capability.CONSISTENT not in lab.source.capabilities():
            pytest.skip("not applicable: the source does not declare CONSISTENT")
        before = lab.content()
        with lab.source.dump() as held:
            lab.change()
            dump = {spec.name: (spec, read_all(held.open(spec))) for spec in held.plan.streams}
        assert lab.content() != before, "the lab's change() changes nothing"
        target = lab.target()
        restore_all(target.source, dump)
        assert target.content() == before

    def test_a_stream_can_be_opened_in_another_process(self, lab: SourceLab) -> None:
        source = lab.source
        if Capability.PARALLEL_STREAMS not in source.capabilities():
            pytest.skip("not applicable: the source does not declare PARALLEL_STREAMS")
        first = dump_all(source)
        with (
            ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool,
            source.dump() as held,
        ):
            asked = [
                (spec, pool.submit(open_and_read, type(source), source.settings, spec)) for spec in held.plan.streams
            ]
            second = {spec.name: (spec, future.result(self.patience)) for spec, future in asked}
        compare(lab, first, second)

    def test_a_stream_closed_before_its_end_has_failed(self, lab: SourceLab) -> None:
        traces = Traces()
        with lab.source.dump() as held:
            stream = held.open(main_stream(held.plan))
            assert stream.readinto(memoryview(bytearray(10))) > 0
            with pytest.raises(DumpFailed):
                stream.close()
            stream.close()
            stream.abort()
        assert traces.left() == []

    def test_a_child_that_is_killed_half_way_fails_the_dump(self, lab: SourceLab, tmp_path: Path) -> None:
        program = applicable(lab.program)
        must_fail(self.patience, lab.variant(program=stand_ins.is_killed(tmp_path / "killed", program, _CUT)))

    def test_a_child_that_fails_after_all_of_its_output_fails_the_dump(self, lab: SourceLab, tmp_path: Path) -> None:
        program = applicable(lab.program)
        must_fail(self.patience, lab.variant(program=stand_ins.exits_after_all(tmp_path / "failing", program)))

    def test_output_that_breaks_off_with_success_fails_the_dump(self, lab: SourceLab, tmp_path: Path) -> None:
        program = applicable(lab.program)
        if program.unmarked is not None:
            applicable(program.unmarked)
        must_fail(self.patience, lab.variant(program=stand_ins.breaks_off(tmp_path / "short", program, _CUT)))

    def test_a_child_that_stalls_fails_the_dump_in_time(self, lab: SourceLab, tmp_path: Path) -> None:
        program = applicable(lab.program)
        stand_in = stand_ins.stalls(tmp_path / "stalling", program, _CUT)
        must_fail(self.patience, lab.variant(program=stand_in, stall_timeout=1), DumpStalled)

    def test_abort_frees_a_thread_that_waits(self, lab: SourceLab, tmp_path: Path) -> None:
        program = applicable(lab.program)
        source = lab.variant(program=stand_ins.stalls(tmp_path / "waiting", program, _CUT))
        traces = Traces()
        with source.dump() as held:
            stream = held.open(main_stream(held.plan))
            reading = threading.Thread(target=read_quietly, args=(stream,), daemon=True)
            reading.start()
            reading.join(0.5)  # until it waits, most likely
            assert reading.is_alive()
            within(self.patience, stream.abort)
            reading.join(self.patience)
            assert not reading.is_alive(), "the thread still waits for bytes after abort()"
            stream.abort()
        assert traces.left() == []

    def test_abort_never_raises_and_may_be_repeated(self, lab: SourceLab) -> None:
        for size in (0, 1, _CUT):
            with lab.source.dump() as held:
                stream = held.open(main_stream(held.plan))
                done = 0
                while done < size and (count := stream.readinto(memoryview(bytearray(size - done)))):
                    done += count
                for _ in range(3):
                    stream.abort()
                with suppress(DumpFailed):  # so it may be told that the stream was aborted
                    stream.close()
                stream.abort()
        with lab.source.dump() as held:
            stream = held.open(main_stream(held.plan))
            assert len(read_all(stream)) > _CUT, "the lab's seed is too small to break off half-way"
            stream.abort()
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
        assert traces.left() == []
        assert dump_all(lab.source), "a source can be dumped again"

    def test_secrets_show_nowhere(self, lab: SourceLab) -> None:
        applicable(lab.secrets)
        source = lab.source
        with source.dump() as held:
            said = [
                repr(source),
                str(source),
                repr(source.settings),
                source.settings.model_dump_json(),
                source.location,
            ]
            said += [repr(held.plan), repr([sorted(spec.attributes.items()) for spec in held.plan.streams])]
        for text in said:
            assert not shown(lab, text)

    def test_secrets_are_in_no_command_line(self, lab: SourceLab, tmp_path: Path) -> None:
        applicable(lab.secrets)
        seen: set[bytes] = set()

        def look() -> None:
            seen.update(command_lines())

        source, program = lab.source, lab.program
        if isinstance(program, ChildProgram):  # one that stays to be looked at
            source = lab.variant(program=stand_ins.stalls(tmp_path / "waiting", program, 1))
        with source.dump() as held:
            look()
            for spec in held.plan.streams:
                stream = held.open(spec)
                look()
                stream.abort()
        restore_all(lab.target().source, dump_all(lab.source), look=look)
        assert not [line for line in seen if shown(lab, line.decode(errors="replace"))]

    def test_what_a_child_says_of_secrets_is_in_no_error(self, lab: SourceLab, tmp_path: Path) -> None:
        applicable(lab.secrets)
        program = applicable(lab.program)
        source = lab.variant(program=stand_ins.tells_all(tmp_path / "telling", program))
        with pytest.raises(SourceError) as caught, source.dump() as held:
            read_all(held.open(main_stream(held.plan)))
        assert not shown(lab, everything_said(caught.value))

    def test_looking_at_a_target_changes_nothing(self, lab: SourceLab) -> None:
        dump = dump_all(lab.source)
        streams = [spec for spec, _ in dump.values()]
        target = lab.target()
        empty = target.content()
        for clean in (False, True):
            target.source.check_target(streams, RestoreTarget(clean=clean))
        assert target.content() == empty

    def test_an_unknown_target_option_is_refused(self, lab: SourceLab) -> None:
        streams = [spec for spec, _ in dump_all(lab.source).values()]
        with pytest.raises(UsageError, match="no-such-option"):
            lab.target().source.check_target(streams, RestoreTarget(options={"no-such-option": "yes"}))

    def test_a_target_with_data_is_refused_unless_it_may_be_cleaned(self, lab: SourceLab) -> None:
        target = lab.target()
        old = dump_all(lab.source)
        restore_all(target.source, old)
        held = target.content()
        lab.change()
        changed = lab.content()
        assert changed != held, "the lab's change() changes nothing"
        new = dump_all(lab.source)
        with pytest.raises(TargetNotEmpty):
            target.source.check_target([spec for spec, _ in new.values()], RestoreTarget())
        assert target.content() == held
        restore_all(target.source, new, RestoreTarget(clean=True))
        assert target.content() == changed

    @pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
    def test_a_restore_whose_input_breaks_off_is_not_completed(self, lab: SourceLab, share: float) -> None:
        target = lab.target()
        traces = Traces()
        restore_broken(lab, target, share)
        assert target.content() != lab.content(), "what was found damaged was restored as if it were not"
        assert traces.left() == []

    def test_a_failed_restore_leaves_the_target_as_it_was(self, lab: SourceLab) -> None:
        if lab.undoes is not None:
            applicable(lab.undoes)
        target = lab.target()
        before = restore_broken(lab, target, 0.9)
        assert target.content() == before


class _Left(Exception):
    """What leaves a block."""
