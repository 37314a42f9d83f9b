"""Lengths of time, as people write them."""

import re
from datetime import timedelta

__all__ = ["DURATION_PATTERN", "parse_duration", "spell_duration"]

#: What is accepted, as a pattern for the JSON schema too.
DURATION_PATTERN = r"^([0-9]+ ?[mhdwMHDW] ?)+$"
_DURATION = re.compile(DURATION_PATTERN)
_PART = re.compile(r"([0-9]+) ?([mhdw])")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


def parse_duration(text: str) -> timedelta:
    """`90m`, `48h`, `30d`, `2w`, or several of them: `1d12h`. Raises `ValueError`."""
    if not _DURATION.match(text.strip()):
        raise ValueError("must be a length of time, such as 48h, 30d or 2w")
    try:
        length = sum((int(count) * _UNITS[unit] for count, unit in _PART.findall(text.lower())), timedelta())
    except OverflowError:
        raise ValueError("must be a length of time that somebody lives to see") from None
    if not length:
        raise ValueError("must be longer than nothing")
    return length


def spell_duration(span: timedelta) -> str:
    """The same length of time as settings spell it: `30d`, `1d12h`, `90m` as `1h30m`."""
    minutes = span // timedelta(minutes=1)
    parts = {"d": minutes // 1440, "h": minutes // 60 % 24, "m": minutes % 60}
    return "".join(f"{number}{unit}" for unit, number in parts.items() if number) or "0m"
