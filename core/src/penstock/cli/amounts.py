"""Sizes and lengths of time in options."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from penstock.api import UsageError
from penstock.settings import parse_duration, parse_size

__all__ = ["duration", "share", "size"]

T = TypeVar("T")


def size(option: str, text: str | None) -> int | None:
    """Bytes; None where the option was not given. Raises `UsageError`."""
    return _parsed(option, text, parse_size)


def duration(option: str, text: str | None) -> timedelta | None:
    """A length of time; None where the option was not given. Raises `UsageError`."""
    return _parsed(option, text, parse_duration)


def share(option: str, text: str | None) -> float | None:
    """A part of the whole, from 0 to 1, written as percent; None where it was not given. Raises `UsageError`."""
    return _parsed(option, text, _percent)


def _percent(text: str) -> float:
    found = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]+)?) ?%", text.strip())
    if found is None or float(found[1]) > 100:
        raise ValueError("must be 0% to 100%, such as 10%")
    return float(found[1]) / 100


def _parsed(option: str, text: str | None, parse: Callable[[str], T]) -> T | None:
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"{option} {error}") from None
