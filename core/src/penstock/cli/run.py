"""One run of one command: its settings, plugins and repositories, each made when it is first asked for."""

import os
import re
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import unquote

from penstock.api import Event, Sink, Source, UsageError
from penstock.cli import files
from penstock.cli.options import Options
from penstock.cli.output.console import Output
from penstock.plugins import PluginHost
from penstock.settings import BackupSettings, RepositorySettings, Settings, find_settings, parse_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.cli.unlock import Need
    from penstock.repository import Repository

__all__ = ["Place", "Plan", "Run", "is_url", "name_of"]

DEFAULT_MEMORY = 128 * 1024 * 1024
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


@dataclass(frozen=True)
class Place:
    """Where a repository is, and what the settings say of it; `shown` is for people."""

    shown: str
    sink: Sink
    settings: RepositorySettings | None = None


@dataclass(frozen=True)
class Plan:
    """One backup that is to be made: its name, its source, and what the settings say of it."""

    name: str
    source: Source
    repository: str | None
    settings: BackupSettings | None = None


class Run:
    """What the commands work with. Closes every sink at its end."""

    def __init__(self, options: Options, output: Output) -> None:
        self.options = options
        self.output = output
        self._places: dict[str, Place] = {}
        self._open: dict[tuple[str, Need], Repository] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @cached_property
    def settings(self) -> Settings:
        """penstock.toml, or nothing but defaults."""
        return find_settings(self.options.config)

    @cached_property
    def host(self) -> PluginHost:
        """The plugins."""
        return PluginHost()

    @property
    def cache_dir(self) -> Path:
        """The folder of the local cache."""
        return self.options.cache_dir or self.settings.defaults.cache or files.cache_folder()

    def memory(self, backup: BackupSettings | None = None) -> int:
        """How much memory buffers may take, in bytes: the option, the backup's own, the default's, or 128 MiB."""
        if self.options.memory is not None:
            try:
                return parse_size(self.options.memory)
            except ValueError as error:
                raise UsageError(f"--memory {error}") from None
        return (backup.memory if backup else None) or self.settings.defaults.memory or DEFAULT_MEMORY

    def compression(self, backup: BackupSettings | None = None) -> "Literal['auto'] | int":
        """How hard to compress: the backup's own word, the default's, or `auto`."""
        return (backup.compression if backup else None) or self.settings.defaults.compression or "auto"

    def place(self, named: str | None = None) -> Place:
        """The repository that is named: here, by --repo, in the environment, or by being the settings' only one."""
        name = named or self.options.repo or os.environ.get("PENSTOCK_REPOSITORY") or self._only_repository()
        if name not in self._places:
            if is_url(name):
                sink, settings = self.host.make_sink_from_url(name), None
            else:
                sink, settings = self.settings.make_sink(name, self.host), self.settings.repository(name)
            self._stack.callback(sink.close)
            self._places[name] = Place(sink.location if settings is None else name, sink, settings)
        return self._places[name]

    def repository(self, need: "Need", named: str | None = None) -> "Repository":
        """Open it with the key or passphrase that is at hand; see `unlock`."""
        from penstock.cli.unlock import unlock

        place = self.place(named)
        key = (str(id(place)), need)
        if key not in self._open:
            self._open[key] = unlock(place, self.options, self.output, need)
        return self._open[key]

    def plan(self, text: str, name: str | None = None) -> Plan:
        """What `text` means as a backup: a name in the settings, or the URL of a source."""
        if is_url(text):
            return Plan(name or name_of(text), self.host.make_source_from_url(text), self.options.repo)
        source = self.settings.make_source(text, self.host)
        repository = self.options.repo or self.settings.repository_of(text)
        return Plan(name or text, source, repository, self.settings.backup(text))

    @contextmanager
    def listening(self) -> "Iterator[Callable[[Event], None]]":
        """What takes events for the length of the block: progress, and the plugins that listen."""
        with self.output.progress() as show:

            def listen(event: Event) -> None:
                show(event)
                self.host.notify(event)

            yield listen

    def _only_repository(self) -> str:
        names = list(self.settings.repositories)
        if len(names) == 1:
            return names[0]
        there = f"the settings have {', '.join(names)}" if names else "no settings file names one"
        raise UsageError(f"which repository? {there}", hint="--repo takes a name in the settings, or a URL.")


def is_url(text: str) -> bool:
    """Whether `text` begins with a URL scheme; names in the settings have no colon."""
    return _URL.match(text) is not None


def name_of(url: str) -> str:
    """The name of a backup that nobody named: the last part of its URL's path, without its ending, or the scheme."""
    scheme, _, rest = url.partition(":")
    path = unquote(re.split(r"[?#]", rest.removeprefix("//"), maxsplit=1)[0])
    path = path.rpartition("@")[2]  # a password that does not belong there must not become a name
    last = path.rstrip("/").rpartition("/")[2] if "/" in path or not rest.startswith("//") else ""
    stem = re.sub(r"\.[A-Za-z0-9]{1,8}$", "", last)
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-.") or scheme.lower()
