"""What a source says of its dump, checked before the dump and recorded after it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from penstock.api.errors import SourceError
from penstock.api.models import DumpPlan, Inspection, LeftOut
from penstock.engine.dumping.streams import FinishedStream
from penstock.engine.leaving_out import recorded_left_out
from penstock.format.encoding import encode_json
from penstock.format.manifest import MAX_MANIFEST

__all__ = ["as_dumped", "inspection_of", "writable"]

#: What a manifest takes beside names and attributes, for each stream and in all, generously: the numbers of its parts.
_OF_A_STREAM = 200
_OF_A_MANIFEST = 1024 * 1024
#: Objects that were left out, and that a manifest names.
_LEFT_OUT_RECORDED = 1000


def as_dumped(plan: DumpPlan, streams: Sequence[FinishedStream], left_out: tuple[LeftOut, ...]) -> DumpPlan:
    """The plan, with what the dump has shown of its streams."""
    items = {(item.kind, item.name): item for item in plan.inspection.inventory}
    items |= {(item.kind, item.name): item for one in streams for item in one.inventory}
    inspection = replace(plan.inspection, inventory=tuple(items.values()), left_out=left_out)
    return replace(plan, inspection=inspection, streams=tuple(one.spec for one in streams))


def inspection_of(plan: DumpPlan) -> tuple[dict[str, Any], int]:
    """What is recorded of the source's report, and how many items of its inventory there is no room for.

    Raises `SourceError` for a plan of which no manifest can be made.
    """
    inspection = _inspection_json(plan.inspection)
    streams = _check_plan(plan, inspection)
    room = MAX_MANIFEST - _OF_A_MANIFEST - len(streams) - _OF_A_STREAM * len(plan.streams)
    if room < 0:
        raise SourceError(
            f"{len(plan.streams)} streams with such attributes do not fit into a manifest",
            hint="Leave something out, or make several backups of it.",
        )
    if len(encode_json(inspection)) <= room:
        return inspection, 0
    return {**inspection, "inventory": []}, len(inspection["inventory"])


def _check_plan(plan: DumpPlan, inspection: dict[str, Any]) -> bytes:
    names = [spec.name for spec in plan.streams]
    if not names or len(set(names)) != len(names):
        raise SourceError("the source's plan has no streams, or two with the same name: a defect in the plugin")
    streams = [[spec.name, spec.format, dict(spec.attributes), spec.record_separator.hex()] for spec in plan.streams]
    if not writable([plan.consistency, inspection, streams]):
        raise SourceError("the source's plan contains text that is not valid Unicode: a defect in the plugin")
    if min(spec.phase for spec in plan.streams) < 0:
        raise SourceError("the source's plan has a negative phase: a defect in the plugin")
    return encode_json({"streams": streams})


def writable(value: object) -> bool:
    """Whether the value can be stored in a manifest: file names may not be valid Unicode."""
    try:
        encode_json({"value": value})
    except (TypeError, ValueError):
        return False
    return True


def _inspection_json(inspection: Inspection) -> dict[str, Any]:
    left_out = [recorded_left_out(one) for one in inspection.left_out[:_LEFT_OUT_RECORDED]]
    return {
        "client_version": inspection.client_version,
        "engine": inspection.engine,
        "inventory": [
            {"exact": item.exact, "kind": item.kind, "name": item.name, "rows": item.rows, "size": item.size}
            for item in inspection.inventory
        ],
        "server_version": inspection.server_version,
        "warnings": list(inspection.warnings),
        **({"left_out": left_out} if left_out else {}),
    }
