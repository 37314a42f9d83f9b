"""What a source looks for before a dump, as one list: checks with names that an operator can switch off."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict

__all__ = ["Check", "WarningSettings", "found_by"]

_Facts = TypeVar("_Facts")


@dataclass(frozen=True)  # without slots: with them, Check[Facts](…) is a TypeError in Python 3.11
class Check(Generic[_Facts]):
    """One thing to look for in what a source has found out, its facts, before a dump.

    `name` is what `warnings = { ignore = ["name"] }` calls it: lower case, digits and hyphens. `reason` says why it
    matters, for people. `find` gives a sentence for each thing that it finds; what makes a dump fail is an error.
    """

    name: str
    reason: str
    find: Callable[[_Facts], Iterable[str]]


class WarningSettings(BaseModel):
    """The setting `warnings` of a source: which of its checks say nothing.

    A source has a subclass that knows the names of its checks, and refuses others:

        class Warnings(WarningSettings):
            ignore: tuple[Literal["small", "odd"], ...] = ()
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ignore: tuple[str, ...] = ()


def found_by(checks: Iterable[Check[_Facts]], facts: _Facts, settings: WarningSettings) -> Iterator[str]:
    """What the checks find that are not switched off, each with the check's name at its end: `… [standby]`."""
    for check in checks:
        if check.name not in settings.ignore:
            for warning in check.find(facts):
                yield f"{warning} [{check.name}]"
