"""What a restore does with objects that its server does not take."""

from collections.abc import Iterable

from penstock.api.errors import RestoreFailed
from penstock.api.events import Report
from penstock.api.models import LeftOut
from penstock.api.servers.advice import Advice

__all__ = ["leave_out"]

_HINT = "Give the server what is missing, or restore without --strict: then it is left out and named."


def leave_out(found: Iterable[LeftOut], report: Report, *, strict: bool, advice: Advice | None = None) -> None:
    """Report each object; with `strict`, raise `RestoreFailed` for the first that is lost.

    The error has the hint that `advice` finds for the reason. `found` is taken as it comes: what is behind an object
    that raises is not asked for.
    """
    for one in found:
        if strict and one.lost:
            raise RestoreFailed(
                f"the server does not take everything: {one}", hint=(advice and advice.find(one.reason)) or _HINT
            )
        report.left_out(one)
