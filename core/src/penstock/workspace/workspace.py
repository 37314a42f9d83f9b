"""One run's settings, plugins, sinks and repositories, each made when it is first asked for."""

import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, timedelta, tzinfo
from functools import cached_property
from pathlib import Path
from typing import Literal, Self, TypedDict

from penstock.api import NEVER, KeyProblem, Secret, Sink, Source, StopToken, UsageError
from penstock.engine.dumping.side_by_side import LEAST_MEMORY, Jobs
from penstock.plugins import PluginHost
from penstock.repository import Repository
from penstock.repository.read.budget import DEFAULT_MEMORY
from penstock.repository.upkeep.retention import Policy
from penstock.settings import BackupSettings, Keep, RepositorySettings, Settings, find_settings
from penstock.workspace.folders import Folders
from penstock.workspace.names import is_url, name_of
from penstock.workspace.sinks.metering import Figures, MeteringSink
from penstock.workspace.unlock import OTHER, Credentials, Need, Prompts, Unlocker
from penstock.workspace.workplace import HostWorkplace, limiting

__all__ = ["REPOSITORY_VARIABLE", "Overrides", "Place", "Plan", "Storing", "Workspace"]

REPOSITORY_VARIABLE = "PENSTOCK_REPOSITORY"
#: How long the sinks of a stopped run may take to close (seconds); one of them may hang.
_CLOSING_SECONDS = 1.0
_CHECK_WITHIN = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the caller wants other than the settings and the environment say. Sizes in bytes, limits per second."""

    settings_file: Path | None = None
    repository: str | None = None
    cache: Path | None = None
    memory: int | None = None
    jobs: int | None = None
    limit_upload: int | None = None
    limit_download: int | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a repository is, and what the settings say about it.

    `shown` names it for people. `sink` is the plugin's, metered and limited; `meter` counts what goes through it.
    """

    shown: str
    sink: Sink
    meter: MeteringSink
    settings: RepositorySettings | None = None


class Storing(TypedDict):
    """What whoever stores dumps is told by the caller and the settings, by the names that the engine has for it."""

    cache_dir: Path
    cache_size: int | None
    pack_size: int | None
    memory: int
    compression: Literal["auto"] | int


@dataclass(frozen=True, slots=True)
class Plan:
    """One backup to be made: its name, its source, and what the settings say about it."""

    name: str
    source: Source
    repository: str | None
    settings: BackupSettings | None = None


class Workspace:
    """Assembles what an operation works with. Use as a context manager: it closes every sink at its end.

    `environ` stands for the environment: PENSTOCK_REPOSITORY, PENSTOCK_PASSPHRASE, PENSTOCK_TO_PASSPHRASE and the
    variables that the settings of repositories refer to are looked up in it. (Plugins resolve the secrets in their own
    settings.) `stop` stops all sources and sinks; a `host` that is handed in must have been made with it. `warn` takes
    one sentence that deserves attention. For one thread.
    """

    def __init__(
        self,
        folders: Folders,
        *,
        environ: Mapping[str, str] | None = None,
        credentials: Credentials | None = None,
        prompts: Prompts | None = None,
        overrides: Overrides | None = None,
        host: PluginHost | None = None,
        stop: StopToken = NEVER,
        warn: Callable[[str], object] = lambda _: None,
    ) -> None:
        self.folders = folders
        self.overrides = overrides or Overrides()
        self.host = host or PluginHost(stop=stop)
        self._stop = stop
        self._warn = warn
        self._environ = dict(environ or {})
        self._unlocker = Unlocker(credentials or Credentials(), self._environ, folders, prompts, warn)
        self._places: dict[str, Place] = {}
        self._open: dict[tuple[int, Need], Repository] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all sinks. After a stop it waits a second for them at most: requests may hang."""
        places = list(self._places.values())
        self._open.clear()
        try:
            if not self._stop.stopped:
                _close(places)
                return
            closing = threading.Thread(target=_close_quietly, args=(places,), name="penstock-closing", daemon=True)
            closing.start()
            closing.join(_CLOSING_SECONDS)
        finally:
            self._places.clear()  # not before: `requesting` has to see a close that hangs

    @cached_property
    def settings(self) -> Settings:
        """penstock.toml, or nothing but defaults. Raises `SettingsError`."""
        found = find_settings(self.overrides.settings_file, self.folders.settings)
        for one in found.passed_over:
            self._warn(one)
        return found

    @property
    def cache_dir(self) -> Path | None:
        """The folder of the local cache; None if the user has no home and nobody names one."""
        return self.overrides.cache or self.settings.defaults.cache or self.folders.cache

    def cache_to_write(self) -> Path:
        """The folder of the local cache. Raises `UsageError` if there is none: each night would be a first one."""
        if (folder := self.cache_dir) is None:
            raise UsageError(
                "this user has no home, and no folder for the local cache was named",
                hint="Give --cache-dir FOLDER, or set PENSTOCK_CACHE_DIR, HOME, or cache in the settings' defaults.",
            )
        return folder

    def memory(self, backup: BackupSettings | None = None, jobs: int = 1) -> int:
        """How much memory buffers may take, in bytes: the caller's word, the backup's, the default's, or 128 MiB.

        Where nobody says it, it is as much as so many `jobs` take at least, if that is more.
        """
        own = backup.memory if backup else None
        said = self.overrides.memory or own or self.settings.defaults.memory
        return said or max(DEFAULT_MEMORY, jobs * LEAST_MEMORY)

    def jobs(self, backup: BackupSettings | None = None) -> int:
        """How many streams are dumped at once: the caller's word, the backup's, the default's, or 1."""
        own = backup.jobs if backup else None
        return self.overrides.jobs or own or self.settings.defaults.jobs or 1

    def executor(self, backup: BackupSettings | None = None) -> Literal["threads", "processes"]:
        """Who dumps them: the backup's own setting, the default's, or processes."""
        own = backup.executor if backup else None
        return own or self.settings.defaults.executor or "processes"

    def workers(self, plan: "Plan", repository: Repository) -> Jobs:
        """Those of a backup into a repository that is open."""
        count = self.jobs(plan.settings)
        place = self.place(plan.repository)
        plugin = place.meter.inner
        upload, download = (limit and max(1, limit // count) for limit in self.limits(place.settings))
        workplace = HostWorkplace(
            type(plugin),
            plugin.settings,
            type(plan.source),
            plan.source.settings,
            repository.access.to_key_file(),
            limit_upload=upload,
            limit_download=download,
        )
        return Jobs(count, self.executor(plan.settings), workplace, place.meter.add)

    def compression(self, backup: BackupSettings | None = None) -> Literal["auto"] | int:
        """The level of compression: the backup's own, the default's, or `auto`."""
        own = backup.compression if backup else None
        return own or self.settings.defaults.compression or "auto"

    def cache_size(self, backup: BackupSettings | None = None) -> int | None:
        """What may be remembered of a dump, in bytes: the backup's own, the default's, or None."""
        own = backup.cache_size if backup else None
        return own if own is not None else self.settings.defaults.cache_size

    def renew_every(self, backup: BackupSettings | None = None) -> timedelta | None:
        """How often a backup stores everything anew: its own setting, the default's, or None."""
        own = backup.renew_every if backup else None
        return own or self.settings.defaults.renew_every

    def storing(self, repository: str | None, backup: BackupSettings | None = None, jobs: int = 1) -> Storing:
        """How to store in that repository, all of it, with so many jobs.

        Raises what `cache_to_write` and `place` raise.
        """
        return Storing(
            cache_dir=self.cache_to_write(),
            cache_size=self.cache_size(backup),
            pack_size=self.pack_size(repository),
            memory=self.memory(backup, jobs),
            compression=self.compression(backup),
        )

    def policy(self, name: str) -> Policy | None:
        """What is kept of the backup of that name: its own `keep`, the default's, or None where nothing is said."""
        keep = self.keep(name)
        if keep is None:
            return None
        said = {field: value for field, value in keep if value is not None}
        return Policy(**{**said, "tags": frozenset(keep.tags), "zone": self.zone(name)})

    def keep(self, name: str | None = None) -> Keep | None:
        """The rules of `policy`, as the settings say them; without a name, the default's."""
        own = self.settings.backups.get(name) if name else None
        return (own.keep if own else None) or self.settings.defaults.keep

    def zone(self, name: str | None = None) -> tzinfo:
        """Whose days, weeks and months they go by: the backup's own, the default's, or UTC."""
        own = self.settings.backups.get(name) if name else None
        return (own.timezone if own else None) or self.settings.defaults.timezone or UTC

    def check_within(self, named: str | None = None) -> timedelta:
        """How long it takes to read a repository once, part by part: its own setting, the default's, or 30 days."""
        own = self.place(named).settings
        return (own.check_within if own else None) or self.default_check_within

    @property
    def default_check_within(self) -> timedelta:
        """That of a repository without a setting of its own."""
        return self.settings.defaults.check_within or _CHECK_WITHIN

    def pack_size(self, named: str | None = None) -> int | None:
        """How large packs of a repository get, in bytes: its own setting, the default's, or None."""
        own = self.place(named).settings
        return (own.pack_size if own else None) or self.settings.defaults.pack_size

    def limits(self, repository: RepositorySettings | None = None) -> tuple[int | None, int | None]:
        """Bytes per second of uploads and of downloads: the caller's word, the repository's, the default's, or None."""
        said = [one for one in (self.overrides, repository, self.settings.defaults) if one is not None]
        upload = next((one.limit_upload for one in said if one.limit_upload), None)
        return upload, next((one.limit_download for one in said if one.limit_download), None)

    def place(self, named: str | None = None) -> Place:
        """The repository that is named: here, by the caller, in the environment, or as the only one of the settings.

        Raises `UsageError` if there is none or a choice, and what the settings and the plugin raise.
        """
        name = named or self.overrides.repository or self._environ.get(REPOSITORY_VARIABLE) or self._only_repository()
        if name not in self._places:
            if is_url(name):
                sink, settings = self.host.make_sink_from_url(name), None
            else:
                sink, settings = self.settings.make_sink(name, self.host), self.settings.repository(name)
            upload, download = self.limits(settings)
            meter = MeteringSink(sink)
            limited = limiting(meter, upload, download)
            self._places[name] = Place(sink.location if settings is None else name, limited, meter, settings)
        return self._places[name]

    def repository(self, need: Need, named: str | None = None) -> Repository:
        """Open it with the key or passphrase at hand. Raises what `Unlocker.unlock` and `place` raise."""
        place = self.place(named)
        key = (id(place), need)
        if key not in self._open:
            self._open[key] = self._unlocker.unlock(place.sink, place.shown, place.settings, need)
        return self._open[key]

    def other_repository(self, need: Need, named: str, credentials: Credentials) -> Repository:
        """Open the second repository of an operation, with these `credentials`; the environment has its own variable.

        What was handed in for the first one is not tried on it. Raises what `repository` raises.
        """
        place = self.place(named)
        unlocker = replace(self._unlocker, credentials=credentials, ways=OTHER)
        return unlocker.unlock(place.sink, place.shown, place.settings, need)

    def given_passphrase(self, place: Place) -> Secret | None:
        """The passphrase of a repository that is known without asking, or None. Raises `SecretUnavailable`."""
        return self._unlocker.given_passphrase(place.settings)

    def new_passphrase(self, purpose: str) -> Secret | None:
        """A new passphrase, if somebody can be asked for one. Raises `UsageError`."""
        prompts = self._unlocker.prompts
        return None if prompts is None else prompts.new_passphrase(purpose)

    def tried(self, place: Place) -> bool:
        """Whether somebody who was asked typed a passphrase that opens the repository."""
        prompts = self._unlocker.prompts

        def works(passphrase: Secret) -> bool:
            try:
                Repository.open(place.sink, passphrase)
            except KeyProblem:
                return False
            return True

        return prompts is not None and prompts.tried(place.shown, works)

    def new_key_file(self, place: Place, repository: bytes) -> Path:
        """Where a key of this host is to be written, to be found later: the settings' place, or the default one.

        Raises what `require_place_for_key` raises.
        """
        self.require_place_for_key(place)
        configured = place.settings.key if place.settings else None
        if configured is not None and not _exists(configured):
            return configured
        default = self.folders.default_key(repository)
        assert default is not None
        return default

    def require_place_for_key(self, place: Place) -> None:
        """Raise `UsageError` if no key of this host could be kept: the user has no home, the settings name no file."""
        configured = place.settings.key if place.settings else None
        if self.folders.config is None and (configured is None or _exists(configured)):
            raise UsageError(
                "this user has no home to keep this host's writer key in",
                hint="Set HOME, name a new file with key in the repository's settings, or give --no-writer-key.",
            )

    def plan(self, text: str, name: str | None = None) -> Plan:
        """What `text` means as a backup: a name in the settings, or the URL of a source."""
        if is_url(text):
            return Plan(name or name_of(text), self.host.make_source_from_url(text), self.overrides.repository)
        source = self.settings.make_source(text, self.host)
        repository = self.overrides.repository or self.settings.repository_of(text)
        return Plan(name or text, source, repository, self.settings.backup(text))

    def requesting(self) -> frozenset[int]:
        """The idents of the threads that are in the middle of a request to a sink; for any thread to ask."""
        return frozenset(thread for place in list(self._places.values()) for thread in place.meter.requesting)

    def figures(self) -> dict[str, Figures]:
        """What went through all sinks so far, by method."""
        total: dict[str, Figures] = {}
        for place in self._places.values():
            for method, figures in place.meter.figures.items():
                total[method] = total.get(method, Figures()) + figures
        return total

    def _only_repository(self) -> str:
        names = list(self.settings.repositories)
        if len(names) == 1:
            return names[0]
        there = f"the settings have {', '.join(names)}" if names else "no settings file names one"
        raise UsageError(f"which repository? {there}", hint="Give --repo with a name in the settings, or a URL.")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:  # writing it will fail, and say so
        return False


def _close(places: list[Place]) -> None:
    with ExitStack() as stack:
        for place in places:
            stack.callback(place.sink.close)


def _close_quietly(places: list[Place]) -> None:
    with suppress(Exception):  # the run has been stopped, and says so
        _close(places)
