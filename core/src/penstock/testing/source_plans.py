# ruff: noqa: D102 - the names of the tests are what they promise
"""The part of the kit for sources that is about plans of restores, and about what a restore leaves out."""

import pytest

from penstock.api import LeftOut, PenstockError, RestoreFailed, RestoreTarget, Source
from penstock.testing.dumping import dump_all, restore_all, write_streams
from penstock.testing.hearing import Heard, Told
from penstock.testing.kit import applicable, essential, must_raise, must_work
from penstock.testing.plain import as_a_manifest_keeps, check_plan
from penstock.testing.secrecy import everything_said, has_any, shown
from penstock.testing.source_lab import BadObject, SourceLab
from penstock.testing.source_trials import SourceTests

__all__ = ["PlanTests"]

_CHOICES = tuple(RestoreTarget(clean=clean, strict=strict) for clean in (False, True) for strict in (False, True))


class PlanTests(SourceTests):
    """Tests of `plan_restore`, and of restores of which the target does not take everything."""

    def test_looking_at_a_target_changes_nothing(self, lab: SourceLab) -> None:
        dump = dump_all(lab.source)
        streams = [spec for spec, _ in dump.values()]
        target = lab.target()
        empty = target.content()
        for choice in _CHOICES:
            target.source.plan_restore(streams, choice)
            assert target.content() == empty, f"plan_restore() with {choice} changed the empty target"
        restore_all(target.source, dump)
        full = target.content()
        for choice in (choice for choice in _CHOICES if choice.clean):
            target.source.plan_restore(streams, choice)
            assert target.content() == full, f"plan_restore() with {choice} changed the data of the target"

    def test_a_plan_of_a_restore_is_plain_data(self, lab: SourceLab) -> None:
        specs = [as_a_manifest_keeps(spec) for spec, _ in dump_all(lab.source).values()]
        target = lab.target()
        for choice in (choice for choice in _CHOICES if not choice.clean):
            plan = target.source.plan_restore(specs, choice)
            check_plan(plan, specs, choice)
            again = target.source.plan_restore(plan.streams, choice)
            assert again == plan, "plan_restore() plans something else when it is asked again"

    def test_one_bad_object_costs_itself(self, lab: SourceLab) -> None:
        for bad in applicable(lab.bad_objects()):
            target = lab.target()
            with must_work(f"a restore of a dump with {bad.name}, which the target refuses,"):
                told = _restore(target.source, bad)
                if told.error is not None:
                    raise told.error
            _check_named(told, bad)
            assert target.content() == bad.rest, f"a restore without {bad.name} lacks more than that, or has it"

    def test_a_strict_restore_takes_everything_or_nothing(self, lab: SourceLab) -> None:
        for bad in applicable(lab.bad_objects()):
            target = lab.target()
            before = target.content()
            doing = f"a restore with strict=True of a dump with {bad.name}, which the target refuses,"
            told = _restore(target.source, bad, strict=True)
            if not any(one.lost for one in told.foreseen):  # which the core ends as soon as it has the plan
                with must_raise(RestoreFailed, doing) as raised:
                    if told.error is not None:
                        raise told.error
                said = everything_said(raised.error)
                assert bad.name in said, f"the error of {doing} does not name it: {raised.error}"
            if lab.undoes is None:
                assert target.content() == before, f"{doing} changed the target"

    @essential("a secret shows nowhere")
    def test_a_secret_of_the_dump_is_in_no_message(self, lab: SourceLab) -> None:
        kept = [bad for bad in applicable(lab.bad_objects()) if bad.secrets]
        if not kept:
            pytest.skip("not applicable: no bad object of the lab holds a secret")
        for bad in kept:
            held = any(secret.encode() in data for secret in bad.secrets for _, data in bad.dump.values())
            assert held, f"the dump with {bad.name} has none of the secrets that the lab tells of"
            for strict in (False, True):
                told = _restore(lab.target().source, bad, strict=strict)
                for what, text in _said(told).items():
                    found = has_any(bad.secrets, text) or bool(shown(lab, text))
                    assert not found, (
                        f"{what} shows a secret of {bad.name} that the dump holds, or one of the source: "
                        "take it out of what the server says, and set `secret` of a LeftOut whose statement has it"
                    )


def _restore(source: Source, bad: BadObject, *, strict: bool = False) -> Told:
    """Restore a dump with a bad object as the core would, and listen."""
    told = Told()
    source.report = told.heard
    streams = sorted(bad.dump.values(), key=lambda one: one[0].phase)
    try:
        told.plan = source.plan_restore([spec for spec, _ in streams], RestoreTarget(strict=strict))
        if strict and told.left_out:
            return told
        with source.restore(told.plan) as restoring:
            write_streams(restoring, streams)
            restoring.finish()
    except PenstockError as error:
        told.error = error
    finally:
        source.report = Heard()
    return told


def _check_named(told: Told, bad: BadObject) -> None:
    left_out = told.left_out
    named = [one for one in left_out if bad.name in one.name]
    assert named, f"{bad.name} is left out without a word: name it in the plan, or call report.left_out()"
    for one in left_out:
        assert type(one) is LeftOut, f"what is left out is told as a LeftOut, not {type(one).__name__}"
        assert one.kind.strip(), f"the LeftOut of {one.name} has no kind"
        assert one.reason.strip(), f"the LeftOut of {one.name} gives no reason"
    # Grants of one account have one name, and differ by their statements; a plan may not have the statement yet.
    keys = [(one.database, one.kind, one.name, one.statement) for one in left_out]
    planned_names, reported_names = (
        {(one.kind, one.name) for one in some} for some in (told.foreseen, told.heard.objects)
    )
    once = len(set(keys)) == len(keys) and not planned_names & reported_names
    assert once, f"{bad.name} is told more than once: what the plan names is not reported again"
    more = sorted({one.name for one in left_out if bad.name not in one.name})
    assert not more, f"{bad.name} costs more than itself: {', '.join(more)}"
    if bad.foreseen:
        planned = any(bad.name in one.name for one in told.foreseen)
        assert planned, f"the plan does not name {bad.name}, which can be known before the restore"


def _said(told: Told) -> dict[str, str]:
    """All that people may be shown of a restore, by what it is."""
    objects = (*told.foreseen, *told.heard.objects)
    return {
        **told.heard.messages,
        "the plan": repr(told.plan),
        "the error": everything_said(told.error),
        "the name of a LeftOut": " ".join(f"{one.kind} {one.name} {one.database}" for one in objects),
        "the reason of a LeftOut": " ".join(one.reason for one in objects),
        "the repr of a LeftOut": " ".join(repr(one) for one in objects),
        "the statement of a LeftOut": " ".join(one.statement for one in objects if not one.secret),
    }
