"""`keep`: what is kept of a backup."""

from contextlib import suppress
from datetime import timedelta
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from penstock.settings.durations import DURATION_PATTERN, parse_duration, spell_duration

__all__ = ["KEEPS_NOTHING", "CheckWithin", "Keep", "RenewEvery", "Zone"]

_DAY = timedelta(days=1)
#: The type of the validation error of a policy without any rule.
KEEPS_NOTHING = "keeps_nothing"


def _duration(value: object) -> timedelta:
    if not isinstance(value, str):
        raise ValueError("must be a length of time, such as 48h, 30d or 2w")  # noqa: TRY004 - for pydantic
    return parse_duration(value)


def _days(value: object) -> timedelta:
    duration = _duration(value)
    if duration < _DAY:
        raise ValueError("must be a day or more")
    return duration


def _zone(value: object) -> ZoneInfo:
    if isinstance(value, str):
        with suppress(KeyError, OSError, ValueError):  # no such zone, no name of one, a folder of zones
            return ZoneInfo(value)
    raise ValueError("must be the name of a time zone, such as Europe/Berlin or UTC")


Zone = Annotated[
    ZoneInfo,
    BeforeValidator(_zone),
    WithJsonSchema({"type": "string", "description": "the time zone of days, weeks and months: Europe/Berlin"}),
]
_MOST = 1_000_000
#: 0 says no more than leaving the rule out.
Count = Annotated[int, Field(strict=True, ge=0, le=_MOST)]
Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "description": "everything this old at most: 48h"}),
]
CheckWithin = Annotated[
    timedelta,
    BeforeValidator(_duration),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": DURATION_PATTERN,
            "description": "how long penstock maintain, run every day, takes to read all of the data once: 30d",
        }
    ),
]
RenewEvery = Annotated[
    timedelta,
    BeforeValidator(_days),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": DURATION_PATTERN,
            "description": "how often a backup stores everything anew, so that what it stored long ago can go: 90d",
        }
    ),
]
Tag = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:+-]{0,63}$")]


_RULES = ("last", "within", "hourly", "daily", "weekly", "monthly", "yearly")


class Keep(BaseModel):
    """Which snapshots of a backup stay; one that no rule keeps is forgotten by `penstock forget --apply`."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    last: Count | None = Field(default=None, description="so many, the newest")
    within: Duration | None = None
    hourly: Count | None = Field(default=None, description="the newest of so many hours that have one")
    daily: Count | None = Field(default=None, description="the newest of so many days that have one")
    weekly: Count | None = Field(default=None, description="the newest of so many weeks that have one")
    monthly: Count | None = Field(default=None, description="the newest of so many months that have one")
    yearly: Count | None = Field(default=None, description="the newest of so many years that have one")
    tags: tuple[Tag, ...] = Field(default=(), description="those with one of these tags")
    at_least: int = Field(
        default=3, strict=True, ge=1, le=_MOST, description="never fewer than so many, whatever the rest says"
    )

    def to_json(self) -> dict[str, Any]:
        """The rules as the settings spell them, without those that say nothing."""
        said = {name: value for name, value in self if value}
        if self.within:
            said["within"] = spell_duration(self.within)
        if self.tags:
            said["tags"] = list(self.tags)
        return said

    @model_validator(mode="after")
    def _keeps_something(self) -> Self:
        if not (self.tags or any(getattr(self, name) for name in _RULES)):
            what = "keeps nothing but what at_least says: name a rule, such as daily = 14, or leave keep out"
            raise PydanticCustomError(KEEPS_NOTHING, what)
        return self
