# ruff: noqa: D102 - the names of the tests are what they promise
"""The part of the kit for sources that is about restores, and about what is left of those that fail."""

import itertools

import pytest

from penstock.api import RestoreTarget, SourceError, TargetNotEmpty, UsageError
from penstock.testing.dumping import blocks_of, dump_all, restore_all, write_all
from penstock.testing.kit import applicable, essential, must_raise, must_work
from penstock.testing.source_lab import SourceLab
from penstock.testing.source_trials import SourceTests, restore_broken, restore_unfinished
from penstock.testing.traces import Traces

__all__ = ["RestoreTests"]

_UNPROVEN = "a backup that does not come back as it was is none"
#: Not a dump of anything.
_GARBAGE = bytes(range(256)) * 64


class RestoreTests(SourceTests):
    """Tests of whole restores, of refused ones, and of ones that break off."""

    @essential(_UNPROVEN)
    def test_what_was_dumped_comes_back(self, lab: SourceLab) -> None:
        target = lab.target()
        empty = target.content()
        before = lab.content()
        assert before != empty, "the lab has no seed, or cannot see it"
        dump = dump_all(lab.source)
        traces = Traces()
        with must_work("a restore whose blocks are each valid until the next is asked for"):
            restore_all(target.source, dump)
        assert target.content() == before, "what was restored is not what was dumped"
        assert lab.content() == before, "dump and restore changed the database that was dumped"
        traces.check("a restore")

    def test_a_restore_takes_all_blocks_of_a_stream(self, lab: SourceLab) -> None:
        """Empty ones after its last byte, too: the engine's own end is not that of the stream."""
        streams = sorted(dump_all(lab.source).values(), key=lambda one: one[0].phase)
        specs = [spec for spec, _ in streams]
        target = lab.target()
        plan = target.source.plan_restore(specs, RestoreTarget())
        with target.source.restore(plan) as restoring:
            for spec, data in streams:
                write_all(restoring, spec, itertools.chain(blocks_of(data), (memoryview(b"") for _ in range(3))))
            restoring.finish()
        assert target.content() == lab.content(), "what was restored is not what was dumped"

    def test_an_unknown_target_option_is_refused(self, lab: SourceLab) -> None:
        streams = [spec for spec, _ in dump_all(lab.source).values()]
        with must_raise(UsageError, "plan_restore() with an unknown option") as raised:
            lab.target().source.plan_restore(streams, RestoreTarget(options={"no-such-option": "yes"}))
        said = raised.error.message
        assert "no-such-option" in said, f"the error about an unknown option does not name it: {said}"

    def test_a_target_with_data_is_refused_unless_it_may_be_cleaned(self, lab: SourceLab) -> None:
        target = lab.target()
        old = dump_all(lab.source)
        restore_all(target.source, old)
        held = target.content()
        lab.change()
        changed = lab.content()
        assert changed != held, "the lab's change() changes nothing"
        new = dump_all(lab.source)
        with must_raise(TargetNotEmpty, "plan_restore() of a target with data"):
            target.source.plan_restore([spec for spec, _ in new.values()], RestoreTarget())
        assert target.content() == held, "plan_restore() changed the target that it refused"
        restore_all(target.source, new, RestoreTarget(clean=True))
        assert target.content() == changed, "what was restored over old data, with clean=True, is not what was dumped"

    def test_what_is_not_a_dump_is_refused(self, lab: SourceLab) -> None:
        streams = sorted(dump_all(lab.source).values(), key=lambda one: one[0].phase)
        specs = [spec for spec, _ in streams]
        largest, _ = max(streams, key=lambda one: len(one[1]))
        target = lab.target()
        plan = target.source.plan_restore(specs, RestoreTarget())
        traces = Traces()
        with (
            must_raise(SourceError, f"a restore of {largest.name} from bytes that are not a dump"),
            target.source.restore(plan) as restoring,
        ):
            for spec, data in streams:
                restoring.write(spec, blocks_of(_GARBAGE if spec is largest else data))
            restoring.finish()
        traces.check("a refused restore")

    @essential("a damaged backup would be reported as restored")
    @pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
    def test_a_restore_whose_input_breaks_off_is_not_completed(self, lab: SourceLab, share: float) -> None:
        target = lab.target()
        traces = Traces()
        restore_broken(lab, target, share)
        assert target.content() != lab.content(), "what was found damaged was restored as if it were not"
        traces.check("a restore that broke off")

    def test_a_failed_restore_leaves_the_target_as_it_was(self, lab: SourceLab) -> None:
        if lab.undoes is not None:
            applicable(lab.undoes)
        target = lab.target()
        before = restore_broken(lab, target, 0.9)
        assert target.content() == before, "a restore that failed changed the target"

    def test_nothing_is_left_of_a_restore_that_is_not_finished(self, lab: SourceLab) -> None:
        target = lab.target()
        traces = Traces()
        before = restore_unfinished(lab, target)
        traces.check("a restore that was left without finish()")
        if lab.unfinished is not None:
            applicable(lab.unfinished)
        assert target.content() == before, "a restore that was left without finish() changed the target"
