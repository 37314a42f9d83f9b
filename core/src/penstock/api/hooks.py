"""The pluggy hooks. They only register classes and observe; the contracts are the abstract classes."""

from collections.abc import Iterable

import pluggy

from penstock.api.events import Event
from penstock.api.sink import Sink
from penstock.api.source import Source

__all__ = ["PROJECT", "HookSpecs", "hookimpl", "hookspec"]

PROJECT = "penstock"

hookspec = pluggy.HookspecMarker(PROJECT)
#: Marks the functions of a plugin module that implement a hook.
hookimpl = pluggy.HookimplMarker(PROJECT)


class HookSpecs:
    """All hooks. A plugin implements any of them in the module named by its `penstock.plugins` entry point."""

    @hookspec
    def penstock_register_source(self) -> Iterable[type[Source]]:  # type: ignore[empty-body]  # a specification
        """The source classes of this plugin. Called once, at discovery; must be cheap and import no SDK."""

    @hookspec
    def penstock_register_sink(self) -> Iterable[type[Sink]]:  # type: ignore[empty-body]  # a specification
        """The sink classes of this plugin. Called once, at discovery; must be cheap and import no SDK."""

    @hookspec
    def penstock_on_event(self, event: Event) -> None:
        """Observe an event. Called in the thread where it happened, so be quick; errors are logged and ignored."""
