"""Errors that sinks raise."""

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Self

from penstock.api.errors.base import PenstockError

__all__ = [
    "ObjectExists",
    "ObjectLocked",
    "ObjectMissing",
    "SinkDenied",
    "SinkError",
    "SinkFull",
    "SinkUnreachable",
]

#: How many locked objects the lines of an error name.
_NAMED = 20


class SinkError(PenstockError):
    """A sink failed; `key` is the object's key (or the prefix, or ""), and the cause is the SDK's error."""

    exit_code = 30

    def __init__(self, key: str, reason: str, *, hint: str | None = None, details: tuple[str, ...] = ()) -> None:
        super().__init__(f"{key}: {reason}" if key else reason, hint=hint, details=details)
        self.key = key
        self.reason = reason


class SinkUnreachable(SinkError):
    """The sink did not answer, or was too busy, until the deadline."""

    exit_code = 31
    retryable = True


class SinkDenied(SinkError):
    """The sink refused the credentials, or they lack a permission."""

    exit_code = 32


class SinkFull(SinkError):
    """The sink has no space left, or a quota is used up."""

    exit_code = 33


class ObjectMissing(SinkError):
    """No object exists under that key."""

    exit_code = 34


class ObjectExists(SinkError):
    """`put(if_absent=True)` found an object under that key."""

    exit_code = 35


class ObjectLocked(SinkError):
    """A lock, a retention policy or a hold keeps the object from being deleted or replaced.

    `locked` has every object that the call left for that reason, and when its lock ends: None where nobody knows, as of
    a legal hold. `key` is the one that stays the longest.
    """

    exit_code = 36

    def __init__(self, key: str, reason: str, *, hint: str | None = None, details: tuple[str, ...] = ()) -> None:
        super().__init__(key, reason, hint=hint, details=details)
        self.locked: Mapping[str, datetime | None] = {key: None}

    @classmethod
    def of(cls, locked: Mapping[str, datetime | None]) -> Self:
        """The error about these objects, one or more; times have a time zone."""
        unknown = datetime.max.replace(tzinfo=UTC)
        key, *others = sorted(locked, key=lambda key: (locked[key] is None, locked[key] or unknown, key), reverse=True)
        named = [f"{other}: {_locked_until(locked[other])}" for other in islice(others, _NAMED)]
        if len(others) > _NAMED:
            named.append(f"and {len(others) - _NAMED} more")
        hint = "Find out in the service what holds it: a legal hold, or a policy." if locked[key] is None else None
        error = cls(key, _locked_until(locked[key]), hint=hint, details=tuple(named))
        error.locked = dict(locked)
        return error

    @property
    def until(self) -> datetime | None:
        """When the lock of `key` ends; None where nobody knows."""
        return self.locked[self.key]


def _locked_until(until: datetime | None) -> str:
    return (
        "locked, and nobody knows until when"
        if until is None
        else f"locked until {until.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    )
