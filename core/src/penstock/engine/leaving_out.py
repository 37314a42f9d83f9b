"""Objects that a dump or a restore leaves out, as JSON documents have them."""

from typing import Any

from penstock.api.models import LeftOut

__all__ = ["left_out_json", "recorded_left_out"]

#: In characters.
_LONGEST_REASON = 1000


def left_out_json(one: LeftOut) -> dict[str, Any]:
    """For the document of a command: with the statement that repeats it, unless that is secret."""
    return {
        "kind": one.kind,
        "name": one.name,
        "reason": one.reason,
        "database": one.database,
        "lost": one.lost,
        "statement": None if one.secret or not one.statement else one.statement,
    }


def recorded_left_out(one: LeftOut) -> dict[str, str]:
    """For the manifest of a snapshot; a long reason is cut."""
    return {"database": one.database, "kind": one.kind, "name": one.name, "reason": one.reason[:_LONGEST_REASON]}
