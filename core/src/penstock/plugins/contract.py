"""The checks that a class must pass before the host lets anyone use it."""

import inspect
import re
from collections.abc import Iterator

from penstock.api import API_VERSION, Capability, Plugin, PluginSettings, Source

__all__ = ["violations"]

#: What has to change in a plugin written for an earlier contract.
_CHANGES = {
    "source": "dump() yields a Dump with the plan and a function that opens streams, restore() yields a Restore with "
    "write and finish, open() is now attach(), and capabilities is now a method beside possible_capabilities",
    "sink": "capabilities is now a method beside the class variable possible_capabilities",
}

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_VERSION = re.compile(r"\d+\.\d+")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")  # RFC 3986, section 3.1


def violations(candidate: object, base: type[Plugin]) -> Iterator[str]:
    """The reasons, one sentence each, why `candidate` is not a usable subclass of `base` (`Source` or `Sink`)."""
    if not (isinstance(candidate, type) and issubclass(candidate, base)):
        yield f"{_shown(candidate)} is not a subclass of {base.__name__}"
        return
    if outdated := _outdated(candidate):
        yield outdated
        return
    if inspect.isabstract(candidate):
        missing = ", ".join(sorted(candidate.__abstractmethods__))
        yield f"{_shown(candidate)} does not implement {missing}"
    # Read as plain attributes: in third-party code, declarations may be missing or of any type.
    yield from _version(candidate, getattr(candidate, "api_version", None))
    yield from _name(candidate, getattr(candidate, "name", None))
    yield from _schemes(candidate, getattr(candidate, "schemes", None))
    yield from _settings(candidate, getattr(candidate, "Settings", None))
    yield from _capabilities(candidate, getattr(candidate, "possible_capabilities", None))


def _version(candidate: type[Plugin], version: object) -> Iterator[str]:
    if not (isinstance(version, str) and _VERSION.fullmatch(version)):
        yield f'{_shown(candidate)}: api_version must be a string such as "{API_VERSION}"'
    elif _major(version) != _major(API_VERSION):
        yield f"{_shown(candidate)} was written for version {version} of the plugin API, not for {API_VERSION}"


def _outdated(candidate: type[Plugin]) -> str | None:
    """A sentence about a class written for an earlier contract, whether or not it says so; else None."""
    version = getattr(candidate, "api_version", None)
    if not (isinstance(version, str) and _VERSION.fullmatch(version)):
        return None
    if _looks_like_version_1(candidate):
        version = "1.0"
    if _major(version) >= _major(API_VERSION):
        return None
    what = _CHANGES["source" if issubclass(candidate, Source) else "sink"]
    return f"{_shown(candidate)} was written for version {version} of the plugin API, not for {API_VERSION}: {what}"


def _looks_like_version_1(candidate: type[Plugin]) -> bool:
    """A class without `api_version` inherits the installed one, so judge by its shape."""
    if isinstance(getattr(candidate, "capabilities", None), frozenset):
        return True
    restore = getattr(candidate, "restore", None)
    return callable(restore) and "blocks" in inspect.signature(restore).parameters


def _major(version: str) -> int:
    return int(version.partition(".")[0])


def _name(candidate: type[Plugin], name: object) -> Iterator[str]:
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        yield f"{_shown(candidate)}: its name must consist of lower-case letters, digits and hyphens"


def _schemes(candidate: type[Plugin], schemes: object) -> Iterator[str]:
    if not isinstance(schemes, tuple) or not all(isinstance(one, str) and _SCHEME.fullmatch(one) for one in schemes):
        yield f"{_shown(candidate)}: schemes must be a tuple of lower-case URL schemes"
    elif schemes and "settings_from_url" not in _defined_below_plugin(candidate):
        yield f"{_shown(candidate)} declares schemes but has no settings_from_url"


def _settings(candidate: type[Plugin], settings: object) -> Iterator[str]:
    if not (isinstance(settings, type) and issubclass(settings, PluginSettings)):
        yield f"{_shown(candidate)}: Settings must be a subclass of PluginSettings"


def _capabilities(candidate: type[Plugin], capabilities: object) -> Iterator[str]:
    if not (isinstance(capabilities, frozenset) and all(isinstance(one, Capability) for one in capabilities)):
        yield f"{_shown(candidate)}: possible_capabilities must be a frozenset of Capability"


def _defined_below_plugin(candidate: type[Plugin]) -> set[str]:
    return {name for ancestor in candidate.__mro__ if ancestor not in Plugin.__mro__ for name in vars(ancestor)}


def _shown(candidate: object) -> str:
    return candidate.__qualname__ if isinstance(candidate, type) else f"an object of type {type(candidate).__name__}"
