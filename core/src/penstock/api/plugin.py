"""What sources and sinks have in common: a name, URL schemes, typed settings and declared capabilities."""

from abc import ABC
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from penstock.api.errors import UsageError
from penstock.api.events import Report, SilentReport
from penstock.api.former import FORMER_NAME, name_now
from penstock.api.stopping import NEVER, StopToken

__all__ = ["API_VERSION", "Capability", "Plugin", "PluginSettings"]

#: The version of this contract. A plugin states the one it was written for; the host accepts the same major number.
API_VERSION = "2.0"

_SILENT = SilentReport()


class Capability(StrEnum):
    """Optional abilities. They are declared, never guessed; an undeclared one is never assumed."""

    #: sink: the storage itself decides `put(if_absent=True)`, between hosts too.
    CONDITIONAL_PUT = "conditional-put"
    #: sink: objects can be kept from deletion until a date.
    OBJECT_LOCK = "object-lock"
    #: source: all streams of a dump share one view of the database.
    CONSISTENT = "consistent"
    #: source: streams of one dump may be read at the same time, by threads of the process that holds it.
    CONCURRENT_STREAMS = "concurrent-streams"
    #: source: the same, and in other processes too (`Source.attach`).
    PARALLEL_STREAMS = "parallel-streams"


class PluginSettings(BaseModel):
    """Base of every plugin's settings: unknown keys are refused, values are frozen.

    Secrets are fields of type `SecretRef`, never of type `str`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    #: Names that these settings do not have, such as former ones, each with the setting to use: they are refused.
    former: ClassVar[dict[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _refuse_former_names(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and (found := name_now(cls.former, values)):
            raise PydanticCustomError(FORMER_NAME, f"{found[0]} is not a setting; use {found[1]}")
        return values


class Plugin(ABC):
    """Base of `Source` and `Sink`. Creating an instance opens no file and makes no connection."""

    #: Unique among plugins of its kind; lower case, digits and hyphens. It is the `type` in penstock.toml.
    name: ClassVar[str]
    #: The `API_VERSION` that the plugin was written for.
    api_version: ClassVar[str] = API_VERSION
    #: Its URL schemes in lower case: ("postgres", "postgresql").
    schemes: ClassVar[tuple[str, ...]] = ()
    #: The model of its settings.
    Settings: ClassVar[type[PluginSettings]]
    #: What instances may be able to do; `capabilities()` says what a given one can.
    possible_capabilities: ClassVar[frozenset[Capability]] = frozenset()

    #: Stops when the run should end: every wait in the plugin goes through it. Set by the host before first use.
    stop: StopToken = NEVER
    #: Takes messages of the plugin during its work. Set by the host before first use.
    report: Report = _SILENT

    def __init__(self, settings: PluginSettings) -> None:
        self.settings = settings

    def capabilities(self) -> frozenset[Capability]:
        """What this instance can do with its settings and its service: a subset of `possible_capabilities`.

        May ask the service, and raise what that raises. The core asks before the work begins; if the answer costs a
        request, the plugin keeps it.
        """
        return self.possible_capabilities

    @classmethod
    def settings_from_url(cls, url: str) -> dict[str, Any]:
        """Translate a URL with one of `schemes` to keyword arguments of `Settings`.

        Raises `UsageError` for an invalid URL, and for one with a password: everyone on the host can read a command
        line.
        """
        raise UsageError(f"the plugin {cls.name} does not accept URLs: {url.split(':', 1)[0]}:…")

    @property
    def location(self) -> str:
        """Where this instance reads or writes, for people and logs; contains no secret."""
        return self.name
