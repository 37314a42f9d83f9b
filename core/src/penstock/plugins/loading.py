"""Loads one entry point: gives the classes that it registers, or the reason why it cannot be used."""

import logging
from dataclasses import dataclass
from importlib.metadata import EntryPoint

import pluggy

from penstock.api import Event, Plugin, Sink, Source
from penstock.api.hooks import PROJECT, HookSpecs
from penstock.plugins.contract import violations

__all__ = ["BrokenPlugin", "LoadedPlugin", "load"]

_log = logging.getLogger(__name__)
_LONGEST_REASON = 300


@dataclass(frozen=True, slots=True)
class BrokenPlugin:
    """An installed plugin that cannot be used: its entry point, its distribution, and the reason in one line."""

    name: str
    distribution: str
    version: str
    reason: str


class LoadedPlugin:
    """One plugin module with its own pluggy manager.

    One manager per plugin keeps plugins from disturbing each other: an implementation that raises ends the whole hook
    call of its manager, and a wrapper sees every other implementation.
    """

    def __init__(self, name: str, distribution: str, version: str, module: object) -> None:
        self.name = name
        self.distribution = distribution
        self.version = version
        self._observer_failed = False
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(HookSpecs)
        self._manager.register(module, name)
        self._manager.check_pending()
        implemented = {caller.name for caller in self._manager.get_hookcallers(module) or ()}
        #: Functions named like hooks that pluggy would silently ignore.
        self._unmarked = sorted(
            name
            for name in vars(HookSpecs)
            if name.startswith(PROJECT) and hasattr(module, name) and name not in implemented
        )
        self.sources: tuple[type[Source], ...] = tuple(
            one for many in self._manager.hook.penstock_register_source() for one in many
        )
        self.sinks: tuple[type[Sink], ...] = tuple(
            one for many in self._manager.hook.penstock_register_sink() for one in many
        )

    def problems(self) -> list[str]:
        """All contract violations of the module and of the classes that it registers."""
        unmarked = [f"{name} is not marked with @hookimpl" for name in self._unmarked]
        bases: list[tuple[type[Plugin], object]] = [(Source, one) for one in self.sources]
        bases += [(Sink, one) for one in self.sinks]
        return unmarked + [problem for base, one in bases for problem in violations(one, base)]

    def notify(self, event: Event) -> None:
        """Pass `event` to the plugin; errors are logged, the first as a warning, and not raised."""
        try:
            self._manager.hook.penstock_on_event(event=event)
        except Exception as error:  # noqa: BLE001 - third-party code must not make a backup fail
            level = logging.DEBUG if self._observer_failed else logging.WARNING
            self._observer_failed = True
            _log.log(level, "the plugin %s failed to handle an event, ignored: %s", self.name, _one_line(error))


def load(entry_point: EntryPoint) -> LoadedPlugin | BrokenPlugin:
    """Import `entry_point` and ask it for its classes. Never raises, whatever the plugin does."""
    distribution = entry_point.dist
    name, version = (distribution.name, distribution.version) if distribution else ("unknown", "")
    try:
        plugin = LoadedPlugin(entry_point.name, name, version, entry_point.load())
    except (Exception, SystemExit) as error:  # noqa: BLE001 - third-party code; the other plugins must still load
        _log.debug("the plugin %s of %s cannot be loaded", entry_point.name, name, exc_info=True)
        return BrokenPlugin(entry_point.name, name, version, _one_line(error))
    if problems := plugin.problems():
        return BrokenPlugin(entry_point.name, name, version, "; ".join(problems))
    return plugin


def _one_line(error: BaseException) -> str:
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 1]}…"
