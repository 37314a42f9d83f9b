"""The plugin host: discovers plugins on first use, and makes sources and sinks for the engine and the CLI."""

import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from pydantic.errors import PydanticInvalidForJsonSchema

from penstock.api import NEVER, Capability, Event, Plugin, PluginError, Sink, Source, StopToken, UsageError
from penstock.plugins.contract import violations
from penstock.plugins.loading import BrokenPlugin, LoadedPlugin, load
from penstock.plugins.registry import Kind, Registered, Registry
from penstock.plugins.settings import validated

__all__ = ["PluginHost", "PluginInfo"]

_GROUP = "penstock.plugins"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
P = TypeVar("P", bound=Plugin)


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """A description of one usable class, for listings and documentation.

    `settings_schema` is the JSON schema of its settings. `clashes` lists names and schemes that another distribution
    also claims: asking for one raises `PluginClash`, while the rest of the plugin can be used.
    """

    name: str
    kind: Kind
    distribution: str
    version: str
    api_version: str
    schemes: tuple[str, ...]
    capabilities: frozenset[Capability]
    settings_schema: Mapping[str, Any] = field(repr=False)
    summary: str = ""
    clashes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Found:
    loaded: tuple[LoadedPlugin, ...]
    broken: tuple[BrokenPlugin, ...]
    sources: Registry[Source]
    sinks: Registry[Sink]


class PluginHost:
    """Knows the installed plugins. Imports nothing before first use, and each plugin once.

    A plugin that cannot be imported or breaks the contract is reported by `broken()` and otherwise treated as absent.
    Thread-safe.
    """

    def __init__(
        self,
        *,
        installed: Iterable[EntryPoint] | None = None,
        extra: Iterable[type[Source] | type[Sink]] = (),
        stop: StopToken = NEVER,
    ) -> None:
        """`installed` replaces the entry points of this Python; `extra` classes need no distribution.

        `stop` stops all sources and sinks made here.
        """
        self._stop = stop
        self._installed = installed
        self._extra = tuple(extra)
        self._lock = threading.Lock()

    def source(self, name: str) -> type[Source]:
        """The source with that name. Raises `PluginNotFound`, `PluginClash`."""
        return self._found.sources.named(name)

    def sink(self, name: str) -> type[Sink]:
        """The sink with that name. Raises `PluginNotFound`, `PluginClash`."""
        return self._found.sinks.named(name)

    def source_for_url(self, url: str) -> type[Source]:
        """The source for the URL's scheme. Raises `UsageError`, `PluginNotFound`, `PluginClash`."""
        return self._found.sources.answering(_scheme(url))

    def sink_for_url(self, url: str) -> type[Sink]:
        """The sink for the URL's scheme. Raises `UsageError`, `PluginNotFound`, `PluginClash`."""
        return self._found.sinks.answering(_scheme(url))

    def make_source(self, name: str, settings: Mapping[str, Any]) -> Source:
        """A source with these settings; does not connect. Raises what `source` does, and `SettingsError`."""
        return self._made("source", self.source(name), settings)

    def make_sink(self, name: str, settings: Mapping[str, Any]) -> Sink:
        """A sink with these settings; does not connect. Raises what `sink` does, and `SettingsError`."""
        return self._made("sink", self.sink(name), settings)

    def make_source_from_url(self, url: str, settings: Mapping[str, Any] | None = None) -> Source:
        """The source that `url` describes; `settings` add to it and take precedence."""
        plugin = self.source_for_url(url)
        return self._made("source", plugin, {**plugin.settings_from_url(url), **(settings or {})})

    def make_sink_from_url(self, url: str, settings: Mapping[str, Any] | None = None) -> Sink:
        """The sink that `url` describes; `settings` add to it and take precedence."""
        plugin = self.sink_for_url(url)
        return self._made("sink", plugin, {**plugin.settings_from_url(url), **(settings or {})})

    def plugins(self) -> tuple[PluginInfo, ...]:
        """All usable classes, sources first, by name."""
        return (*_infos(self._found.sources), *_infos(self._found.sinks))

    def broken(self) -> tuple[BrokenPlugin, ...]:
        """The installed plugins that cannot be used, each with the reason."""
        return self._found.broken

    def notify(self, event: Event) -> None:
        """Pass the event to every listening plugin; none can stop the others, or the caller."""
        for plugin in self._found.loaded:
            plugin.notify(event)

    def _made(self, kind: Kind, plugin: type[P], settings: Mapping[str, Any]) -> P:
        made = plugin(validated(kind, plugin, settings))
        made.stop = self._stop
        return made

    @property
    def _found(self) -> _Found:
        with self._lock:
            return self._discovered

    @cached_property
    def _discovered(self) -> _Found:
        installed = entry_points(group=_GROUP) if self._installed is None else self._installed
        results = [load(one) for one in sorted(installed, key=lambda one: (one.name, one.value))]
        loaded = tuple(one for one in results if isinstance(one, LoadedPlugin))
        broken = tuple(one for one in results if isinstance(one, BrokenPlugin))
        sources = [Registered(one, by.distribution, by.version) for by in loaded for one in by.sources]
        sinks = [Registered(one, by.distribution, by.version) for by in loaded for one in by.sinks]
        for one in self._extra:
            if problems := list(violations(one, Source if issubclass(one, Source) else Sink)):
                raise PluginError("; ".join(problems))
            if issubclass(one, Source):
                sources.append(Registered(one, one.__module__, ""))
            else:
                sinks.append(Registered(one, one.__module__, ""))
        return _Found(loaded, broken, Registry("source", sources, broken), Registry("sink", sinks, broken))


def _scheme(url: str) -> str:
    match = _SCHEME.match(url)
    if match is None:  # not quoted: it may be anything, even a password
        raise UsageError("not a URL: it has no scheme", hint="Write file:///srv/backups for a folder.")
    return match.group(1).lower()


def _infos(registry: Registry[P]) -> Iterable[PluginInfo]:
    for entry in sorted(registry.entries, key=lambda entry: (entry.plugin.name, entry.distribution)):
        plugin = entry.plugin
        yield PluginInfo(
            name=plugin.name,
            kind=registry.kind,
            distribution=entry.distribution,
            version=entry.version,
            api_version=plugin.api_version,
            schemes=plugin.schemes,
            capabilities=plugin.possible_capabilities,
            settings_schema=_schema(plugin),
            summary=(plugin.__doc__ or "").strip().partition("\n")[0],
            clashes=registry.clashes(entry),
        )


def _schema(plugin: type[Plugin]) -> dict[str, Any]:
    try:
        return plugin.Settings.model_json_schema()
    except PydanticInvalidForJsonSchema:  # the plugin can still be used
        return {}
