"""What collections use that not every server has, known from their options before a restore touches the target."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Feature", "missing", "used"]


@dataclass(frozen=True, slots=True)
class Feature:
    """An option of collections, and the version that brought it: of the server, and of its feature compatibility."""

    option: str
    since: tuple[int, int]
    #: Whether a collection is nothing without it: then it is left out with its documents.
    essential: bool = False


_FEATURES: tuple[Feature, ...] = (
    Feature("timeseries", (5, 0), essential=True),
    Feature("clusteredIndex", (5, 3)),
    Feature("changeStreamPreAndPostImages", (6, 0)),
    Feature("encryptedFields", (6, 0)),
)


def used(options: Mapping[str, Any]) -> Iterator[Feature]:
    """What a collection of these options uses."""
    return (feature for feature in _FEATURES if feature.option in options)


def missing(options: Mapping[str, Any], version: tuple[int, int]) -> Iterator[Feature]:
    """What it uses that a server of this version, or set to the compatibility with it, does not have."""
    return (feature for feature in used(options) if version < feature.since)
