"""Whether what a source plans and tells is plain data: what a manifest keeps, and what a page or a document shows."""

import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from penstock.api import (
    InventoryItem,
    LeftOut,
    Need,
    RestorePlan,
    RestoreStep,
    RestoreTarget,
    StreamOutcome,
    StreamSpec,
)

__all__ = ["as_a_manifest_keeps", "check_outcome", "check_plain_data", "check_plan"]


def check_plain_data(spec: StreamSpec) -> None:
    """A stream is described by plain data that a manifest can hold."""
    assert type(spec) is StreamSpec, f"a plan holds StreamSpecs, not {type(spec).__name__}"
    assert spec.format.strip(), f"{spec.name} has no format"
    assert type(spec.phase) is int, f"the phase of {spec.name} is not an int: {spec.phase!r}"
    assert spec.phase >= 0, f"the phase of {spec.name} is below zero"
    assert spec.size_estimate is None or spec.size_estimate >= 0, f"the estimate of {spec.name} is below zero"
    _check_attributes(spec.name, spec.attributes)


def check_outcome(name: str, outcome: StreamOutcome) -> None:
    """What the dump of a stream has shown is plain data that a manifest can hold."""
    assert type(outcome) is StreamOutcome, f"outcome() of {name} gives a StreamOutcome, not {type(outcome).__name__}"
    _check_attributes(name, outcome.attributes)
    for item in outcome.inventory:
        assert type(item) is InventoryItem, f"the inventory of {name} holds InventoryItems, not {type(item).__name__}"
        for what, value in (("kind", item.kind), ("name", item.name)):
            assert type(value) is str, f"the {what} of an item of {name} is a text, not {type(value).__name__}"
    _check_pickles(outcome, f"the outcome of {name}")


def check_plan(plan: RestorePlan, specs: Sequence[StreamSpec], target: RestoreTarget) -> None:
    """A plan has what was asked for as it came, and is the same after it was a document of JSON, and pickled."""
    assert type(plan) is RestorePlan, f"plan_restore() gives a RestorePlan, not {type(plan).__name__}"
    names = [spec.name for spec in plan.streams]
    wanted = [spec.name for spec in specs]
    assert names == wanted, f"a plan for the streams {wanted} has the streams {names}: it has them as they came"
    assert list(plan.streams) == list(specs), "a plan has the streams as they came, and attributes differ"
    assert plan.target == target, f"a plan for {target} has {plan.target}: it has the target as it came"
    for field, kind in (("left_out", LeftOut), ("needs", Need), ("steps", RestoreStep), ("warnings", str)):
        for one in getattr(plan, field):
            assert type(one) is kind, f"{field} of a plan holds {kind.__name__}s, not {type(one).__name__}"
    for left in plan.left_out:
        for what, text in (("kind", left.kind), ("name", left.name), ("reason", left.reason)):
            assert text.strip(), f"an object that a plan leaves out has no {what}: {left}"
    for warning in plan.warnings:
        assert warning.strip(), "a plan has an empty warning"
    for step in plan.steps:
        assert step.action.strip(), "a step of a plan has no action"
        assert step.stream in ("", *names), f"a step of a plan reads {step.stream}, which is none of its streams"
    assert _from_json(_to_json(plan)) == plan, "a plan is not the same when it was written as JSON and read again"
    _check_pickles(plan, "the plan of a restore")


def as_a_manifest_keeps(spec: StreamSpec) -> StreamSpec:
    """The stream as it comes back years later: what is no part of a manifest is gone."""
    attributes: dict[str, str] = json.loads(json.dumps(dict(spec.attributes)))
    return replace(spec, attributes=attributes, record_separator=b"")


def _to_json(plan: RestorePlan) -> str:
    streams = [as_a_manifest_keeps(spec) for spec in plan.streams]
    document = {
        "streams": [_fields(spec) | {"record_separator": ""} for spec in streams],
        "target": _fields(plan.target) | {"options": dict(plan.target.options)},
        **{name: [_fields(one) for one in getattr(plan, name)] for name in ("steps", "left_out", "needs")},
        "warnings": list(plan.warnings),
    }
    try:
        text = json.dumps(document, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError) as error:
        pytest.fail(f"the plan of a restore cannot be written as JSON, as --dry-run does: {error}")
    return text


def _from_json(text: str) -> RestorePlan:
    found = json.loads(text)
    return RestorePlan(
        streams=tuple(StreamSpec(**{**one, "record_separator": b""}) for one in found["streams"]),
        target=RestoreTarget(**found["target"]),
        steps=tuple(RestoreStep(**one) for one in found["steps"]),
        left_out=tuple(LeftOut(**one) for one in found["left_out"]),
        needs=tuple(Need(**one) for one in found["needs"]),
        warnings=tuple(found["warnings"]),
    )


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in type(value).__dataclass_fields__}


def _check_attributes(name: str, attributes: Mapping[str, str]) -> None:
    assert isinstance(attributes, Mapping), f"the attributes of {name} are not a mapping"
    for key, value in attributes.items():
        plain = type(key) is str and type(value) is str
        assert plain, f"{name}: attributes are texts, and {key!r} is {type(value).__name__}"
        try:
            (key + value).encode()
        except UnicodeEncodeError:
            pytest.fail(f"{name}: the attribute {key!a} is not Unicode, and cannot be kept in a manifest")


def _check_pickles(value: object, what: str) -> None:
    try:
        back = pickle.loads(pickle.dumps(value))  # noqa: S301 - our own
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        pytest.fail(f"{what} cannot be pickled: {error}")
    assert back == value, f"{what} is not the same after pickling"
