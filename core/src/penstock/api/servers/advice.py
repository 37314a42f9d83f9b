"""What to tell the operator: hints for what engines say, wishes that cannot be met, names in a sentence."""

import re
from collections.abc import Mapping, Sequence

from penstock.api.errors import SourceError
from penstock.api.servers.settings import Wish

__all__ = ["Advice", "listed", "settle"]

_NAMES_SHOWN = 10


class Advice:
    """Hints by pattern: what to do about what an engine or its client program says.

    The patterns are regular expressions that are searched for in the order in which they are given; the first that is
    found decides.
    """

    def __init__(self, hints: Mapping[str, str]) -> None:
        self._hints = hints

    def find(self, text: str) -> str | None:
        """The hint for `text`, or None."""
        return next((hint for pattern, hint in self._hints.items() if re.search(pattern, text)), None)

    def give(self, error: SourceError) -> None:
        """Give `error` the hint for what its details say, unless it has one."""
        error.hint = error.hint or self.find("\n".join(error.details))


def settle(wish: Wish, *, possible: bool, refusal: SourceError, warning: str, warnings: list[str]) -> bool:
    """Whether to do what a wish is about.

    Where it is not possible, `yes` raises `refusal`, and `auto` leaves it out and adds `warning` to `warnings`.
    """
    if wish == "no" or possible:
        return wish != "no"
    if wish == "yes":
        raise refusal
    warnings.append(warning)
    return False


def listed(names: Sequence[str], one: str, many: str) -> str:
    """`the table a`, `3 tables: a, b, c`, or `12 tables: a, b, … and 2 more`."""
    shown = ", ".join(names[:_NAMES_SHOWN])
    if len(names) == 1:
        return f"the {one} {shown}"
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return f"{len(names)} {many}: {shown}{more}"
