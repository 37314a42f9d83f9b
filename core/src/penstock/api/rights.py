"""What a credential may do in a sink, and the store's own words for it."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["PolicyText", "Right", "Rights", "prefixes_with"]


class Right(StrEnum):
    """One thing that can be done with objects."""

    LIST = "list"
    READ = "read"
    #: Put an object whose key does not exist yet; never replace one.
    CREATE = "create"
    DELETE = "delete"
    #: Lengthen the time for which an object is protected from deletion.
    LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Rights:
    """What may be done with the keys that start with `prefix`: it ends in `/`, is a whole key, or is empty for all."""

    prefix: str
    rights: frozenset[Right]


@dataclass(frozen=True, slots=True)
class PolicyText:
    """One thing to paste into the store's console or tool: `title` says where, for people."""

    title: str
    text: str


def prefixes_with(right: Right, rights: Iterable[Rights]) -> tuple[str, ...]:
    """Where somebody with these rights has this one, as `Rights.prefix` says it; none is part of another."""
    found = {one.prefix for one in rights if right in one.rights}
    whole = {prefix for prefix in found if not prefix or prefix.endswith("/")}
    return tuple(sorted(one for one in found if not any(one.startswith(prefix) for prefix in whole - {one})))
