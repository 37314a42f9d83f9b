"""The classes of one kind, found by name or by URL scheme."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Generic, Literal, TypeVar

from penstock.api import Plugin, PluginClash, PluginNotFound
from penstock.plugins.loading import BrokenPlugin

__all__ = ["Kind", "Registered", "Registry"]

Kind = Literal["source", "sink"]
P = TypeVar("P", bound=Plugin)

#: The extra of the distribution `penstock` that provides a name or scheme; "" if `penstock` itself does.
_EXTRAS: dict[Kind, dict[str, str]] = {
    "source": {
        "sqlite": "",
        "postgres": "postgres",
        "postgresql": "postgres",
        "mysql": "mysql",
        "mariadb": "mysql",
        "mongodb": "mongodb",
        "mongodb+srv": "mongodb",
    },
    "sink": {"filesystem": "", "file": "", "s3": "s3", "gcs": "gcs", "gs": "gcs", "azure": "azure", "az": "azure"},
}


@dataclass(frozen=True, slots=True)
class Registered(Generic[P]):
    """A class and the distribution that registered it."""

    plugin: type[P]
    distribution: str
    version: str


class Registry(Generic[P]):
    """Classes of one kind. Two claims to one name or scheme are an error only when somebody asks for it."""

    def __init__(self, kind: Kind, entries: Sequence[Registered[P]], broken: Sequence[BrokenPlugin]) -> None:
        self.kind = kind
        # A class registered by two entry points counts once.
        self.entries = tuple({entry.plugin: entry for entry in entries}.values())
        self._broken = broken

    def named(self, name: str) -> type[P]:
        """The class with that name. Raises `PluginNotFound` and `PluginClash`."""
        return self._only(f"the {self.kind} {name!r}", name, [e for e in self.entries if e.plugin.name == name])

    def answering(self, scheme: str) -> type[P]:
        """The class for URLs with `scheme`. Raises `PluginNotFound` and `PluginClash`."""
        found = [entry for entry in self.entries if scheme in entry.plugin.schemes]
        return self._only(f"a {self.kind} for {scheme}: URLs", scheme, found)

    def clashes(self, entry: Registered[P]) -> tuple[str, ...]:
        """The names and schemes of `entry` that another distribution also claims, in words."""
        others = [other for other in self.entries if other is not entry]
        names = [
            f"the name {entry.plugin.name} (also {o.distribution})"
            for o in others
            if o.plugin.name == entry.plugin.name
        ]
        schemes = [
            f"the scheme {scheme}: (also {other.distribution})"
            for scheme in entry.plugin.schemes
            for other in others
            if scheme in other.plugin.schemes
        ]
        return (*names, *schemes)

    def _only(self, wanted: str, word: str, found: list[Registered[P]]) -> type[P]:
        if not found:
            raise self._not_found(wanted, word)
        if len(found) > 1:
            claims = sorted(f"{entry.plugin.__name__} of {entry.distribution} {entry.version}" for entry in found)
            raise PluginClash(
                f"more than one plugin claims to be {wanted}: {' and '.join(claims)}",
                hint="Uninstall all but one of these distributions.",
            )
        return found[0].plugin

    def _not_found(self, wanted: str, word: str) -> PluginNotFound:
        names = sorted({entry.plugin.name for entry in self.entries})
        words = {*names, *(scheme for entry in self.entries for scheme in entry.plugin.schemes)}
        message = f"no plugin provides {wanted}; installed: {', '.join(names) or 'none'}"
        extra = _EXTRAS[self.kind].get(word)
        hint = "Run penstock plugins to list them; install other plugins as distributions of their own."
        for broken in self._broken:
            if word == broken.name or broken.distribution == f"penstock-{extra or word}":
                hint = f"Reinstall {broken.distribution} {broken.version}: it is broken: {broken.reason.rstrip('.')}."
                return PluginNotFound(message, hint=hint)
        if extra is not None:
            hint = f"Run pip install 'penstock[{extra}]'." if extra else "Run pip install penstock."
        elif close := get_close_matches(word, {*words, *_EXTRAS[self.kind]}, n=1):
            hint = f"Try {close[0]} instead."
        return PluginNotFound(message, hint=hint)
