"""Names that settings and options do not have: former ones, and those of the engines' own tools, with the name here.

Such a name is refused like any unknown one, never taken for the other: the error says what the name is now.
"""

from collections.abc import Iterable, Mapping

__all__ = ["FORMER_NAME", "name_now"]

#: The type of pydantic's error about such a setting. Its message holds names alone, no value.
FORMER_NAME = "former_name"


def name_now(former: Mapping[str, str], given: Iterable[str]) -> tuple[str, str] | None:
    """The first of the `given` names that is in `former`, and its name now; None where none is."""
    return next(((name, former[name]) for name in given if name in former), None)
