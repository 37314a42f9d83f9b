"""penstock.toml: found, read, validated, and asked for repositories and backups."""

import os
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from penstock.api import PenstockError, Plugin, PluginError, SettingsError, Sink, Source, UsageError
from penstock.plugins import PluginHost
from penstock.settings.models import BackupSettings, Defaults, Document, PluginTable, RepositorySettings
from penstock.settings.paths import anchored
from penstock.settings.problems import Problem, did_you_mean, key_path, raise_for, shape_problems

__all__ = ["FILE_NAME", "Settings", "find_settings", "load_settings"]

FILE_NAME = "penstock.toml"
_LARGEST = 1 << 20
T = TypeVar("T", bound=PluginTable)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one file, or, where `path` is None, the defaults alone.

    `passed_over` says, in a sentence each, why files in the usual places do not count.
    """

    path: Path | None = None
    repositories: Mapping[str, RepositorySettings] = field(default_factory=dict)
    backups: Mapping[str, BackupSettings] = field(default_factory=dict)
    defaults: Defaults = field(default_factory=Defaults)
    passed_over: tuple[str, ...] = ()

    def repository(self, name: str) -> RepositorySettings:
        """The repository of that name; raises `SettingsError`."""
        return self._named("repositories", self.repositories, name)

    def backup(self, name: str) -> BackupSettings:
        """The backup of that name; raises `SettingsError`."""
        return self._named("backups", self.backups, name)

    def repository_of(self, backup: str) -> str:
        """The name of a backup's repository: the one that it names, or the only one, which `load_settings` ensures.

        Raises `SettingsError`.
        """
        return self.backup(backup).repository or next(iter(self.repositories))

    def make_sink(self, name: str, host: PluginHost) -> Sink:
        """The sink of a repository; connects to nothing. Raises `SettingsError`, `PluginNotFound`."""
        return self._made("repositories", name, self.repository(name), host, "sink")  # type: ignore[return-value]

    def make_source(self, name: str, host: PluginHost) -> Source:
        """The source of a backup; connects to nothing. Raises `SettingsError`, `PluginNotFound`."""
        return self._made("backups", name, self.backup(name), host, "source")  # type: ignore[return-value]

    def check_plugins(self, host: PluginHost) -> None:
        """Let each plugin validate its part; connects to nothing. Raises one `SettingsError` with every problem."""
        problems = []
        for name, repository in self.repositories.items():
            problems += list(self._complaints("repositories", name, repository, host, "sink"))
        for name, backup in self.backups.items():
            problems += list(self._complaints("backups", name, backup, host, "source"))
        raise_for(self._file, problems)

    @property
    def _file(self) -> Path:
        return self.path or Path(FILE_NAME)

    def _named(self, table: str, entries: Mapping[str, T], name: str) -> T:
        if name in entries:
            return entries[name]
        if self.path is None:
            raise SettingsError(
                f"{name!r} is not a URL, and no settings file was found to look it up in",
                hint=f"Give a URL, or write a {FILE_NAME}: penstock config init prints one.",
            )
        there = f"there are: {', '.join(entries)}" if entries else "there are none"
        raise SettingsError(f"{self.path}: no [{key_path((table, name))}]; {there}{did_you_mean(name, list(entries))}")

    def _made(
        self, table: str, name: str, entry: PluginTable, host: PluginHost, kind: Literal["source", "sink"]
    ) -> Plugin:
        try:
            return _make(entry, host, kind, self._file.parent)
        except (SettingsError, UsageError, PluginError) as error:
            message = f"{self._file}: {key_path((table, name))}: {error.message}"
            raise type(error)(message, hint=error.hint, details=error.details) from None

    def _complaints(
        self, table: str, name: str, entry: PluginTable, host: PluginHost, kind: Literal["source", "sink"]
    ) -> Iterator[Problem]:
        where = key_path((table, name))
        try:
            _make(entry, host, kind, self._file.parent)
        except SettingsError as error:
            *others, last = error.details or (error.message,)
            yield from (Problem(where, one) for one in others)
            yield Problem(where, _with_hint(last, error))
        except PenstockError as error:
            yield Problem(where, _with_hint(error.message, error))


def _with_hint(text: str, error: PenstockError) -> str:
    return f"{text} ({error.hint})" if error.hint else text


def find_settings(named: Path | None = None, places: Iterable[Path] = ()) -> Settings:
    """The settings of `named`, or of the first of `places` that is a file, or the defaults. Raises `SettingsError`.

    Settings run commands. A file that nobody named counts only if it and its folder belong to this user or to root, and
    nobody else can write them.
    """
    if named is not None:
        return load_settings(named)
    passed_over: list[str] = []
    for place in places:
        with suppress(PermissionError):  # its folder may not be searched: then it is not for this user
            if not place.is_file():
                continue
            stranger = _stranger(place)
            if stranger is None:
                return replace(load_settings(place), passed_over=tuple(passed_over))
            passed_over.append(f"{place.absolute()} does not count: {stranger}; name it with --config if it is yours")
    return Settings(passed_over=tuple(passed_over))


def _stranger(path: Path) -> str | None:
    """Who else can write this file or put another in its place; None if nobody can."""
    real = path.resolve()
    for one in dict.fromkeys((path.absolute().parent, real.parent, real)):
        found = one.stat()
        if found.st_uid not in (os.geteuid(), 0):
            return f"{one} belongs to another user"
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return f"others can write {one}"
    return None


def load_settings(path: Path) -> Settings:
    """Read and validate one file, except for the settings of plugins. Raises `SettingsError` with every problem."""
    path = path.absolute()
    document = _parse(path)
    folder = path.parent
    settings = Document()
    try:
        settings = Document.model_validate(_resolved(document, folder))
    except ValidationError as error:
        problems = shape_problems(error)
    else:
        problems = list(_references(settings))
    # Not chained: pydantic's own error quotes the values.
    raise_for(path, problems)
    return Settings(path, settings.repositories, settings.backups, settings.defaults)


def _parse(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise SettingsError(f"cannot read the settings in {path}: {error.strerror}") from None
    if len(data) > _LARGEST:
        raise SettingsError(f"{path} is larger than 1 MiB", hint="Name a settings file: this is hardly one.")
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}, line {data[: error.start].count(10) + 1}: not UTF-8, as TOML must be") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(
            f"{path} is not valid TOML: {error}", hint="Put texts in quotes, and names of tables in [brackets]."
        ) from None


def _resolved(document: dict[str, Any], folder: Path) -> dict[str, Any]:
    result = dict(document)
    if isinstance(defaults := document.get("defaults"), dict):
        result["defaults"] = anchored(defaults, Defaults, folder)
    if isinstance(repositories := document.get("repositories"), dict):
        result["repositories"] = {
            name: anchored(one, RepositorySettings, folder) if isinstance(one, dict) else one
            for name, one in repositories.items()
        }
    return result


def _references(settings: Document) -> Iterator[Problem]:
    names = list(settings.repositories)
    for name, backup in settings.backups.items():
        where = key_path(("backups", name, "repository"))
        there = f"there are: {', '.join(names)}" if names else "there are none"
        if backup.repository is None and len(names) != 1:
            yield Problem(where, f"must name a repository of this file; {there}")
        elif backup.repository is not None and backup.repository not in names:
            yield Problem(where, f"no repository has that name; {there}{did_you_mean(backup.repository, names)}")


def _make(entry: PluginTable, host: PluginHost, kind: Literal["source", "sink"], folder: Path) -> Plugin:
    own = entry.plugin_settings
    if entry.url is not None:
        plugin: type[Plugin] = host.source_for_url(entry.url) if kind == "source" else host.sink_for_url(entry.url)
        values = plugin.settings_from_url(entry.url)
        if twice := sorted(values.keys() & own.keys()):
            raise SettingsError(f"{twice[0]} is set twice: the url sets it, too")
        own = {**values, **own}
    else:
        assert entry.type is not None
        plugin = host.source(entry.type) if kind == "source" else host.sink(entry.type)
    values = anchored(own, plugin.Settings, folder)
    return host.make_source(plugin.name, values) if kind == "source" else host.make_sink(plugin.name, values)
