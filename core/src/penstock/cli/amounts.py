"""Sizes and lengths of time in options."""

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from penstock.api import UsageError
from penstock.settings import parse_duration, parse_size

__all__ = ["duration", "size"]

T = TypeVar("T")


def size(option: str, text: str | None) -> int | None:
    """Bytes; None where the option was not given. Raises `UsageError`."""
    return _parsed(option, text, parse_size)


def duration(option: str, text: str | None) -> timedelta | None:
    """A length of time; None where the option was not given. Raises `UsageError`."""
    return _parsed(option, text, parse_duration)


def _parsed(option: str, text: str | None, parse: Callable[[str], T]) -> T | None:
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"{option} {error}") from None
