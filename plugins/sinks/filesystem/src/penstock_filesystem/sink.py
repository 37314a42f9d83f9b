"""A folder as a sink: each object is one file, written aside, synced, and moved into its place."""

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from pydantic import Field

from penstock.api import (
    Capability,
    ObjectExists,
    ObjectInfo,
    ObjectLocked,
    ObjectMissing,
    PluginSettings,
    PolicyText,
    Rights,
    Sink,
    SinkDenied,
    SinkError,
    UsageError,
    validate_key,
    validate_prefix,
)
from penstock_filesystem.attributes import keeps
from penstock_filesystem.durable import DurableFolders, Unfinished
from penstock_filesystem.placing import place_new
from penstock_filesystem.policy import policy_of
from penstock_filesystem.refusals import translated

__all__ = ["FilesystemSettings", "FilesystemSink"]

#: Without this much space not even a backup that finds everything known can succeed. How much more it takes, only the
#: backup itself finds out: most nights store little.
_LEAST_FREE_BYTES = 2**20


class FilesystemSettings(PluginSettings):
    """Settings of the filesystem sink."""

    path: Path = Field(description="the folder that holds the repository, from the root: /srv/backups/shop")
    # Measured on a local disk: four syncs at once reach nine tenths of what eight do, and twice what one does alone.
    connections: int = Field(default=4, ge=1, le=1000, description="files at once")

    def model_post_init(self, context: object, /) -> None:
        """Refuse a relative path, which would mean another folder wherever Penstock is started."""
        del context
        if not self.path.is_absolute():
            raise ValueError("path must be absolute: it starts with '/'")


class FilesystemSink(Sink):
    """Keeps each object as a file of its key's name below one folder.

    The folder, and folders in it, are made by the first `put` that needs them (mode 0700; objects 0600). Once this
    sink has seen its folder, a missing folder or another one, as after an unmount, is an error, not an absence of
    objects: otherwise a backup would fill the disk below the mount point, and a check would find everything missing.

    Unfinished objects are in `.unfinished~`, which is not a valid key. The file system must have hard links, or a
    rename that replaces nothing (Linux: FAT, exFAT and most others have one of the two).
    """

    name = "filesystem"
    schemes = ("file",)
    Settings = FilesystemSettings
    #: `link` and `renameat2` decide between hosts as well; NFS has the former.
    possible_capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.CONDITIONAL_PUT})

    settings: FilesystemSettings

    def __init__(self, settings: FilesystemSettings) -> None:
        super().__init__(settings)
        self._root = settings.path
        self._seen: tuple[int, int] | None = None
        self._unfinished = Unfinished(self._root)
        self._folders = DurableFolders(self._root)

    @classmethod
    def settings_from_url(cls, url: str) -> dict[str, Any]:
        """`file:///srv/backups` as settings; `%20` and the like are decoded. Raises `UsageError`."""
        try:
            parts = urlsplit(url)
        except ValueError:
            raise UsageError("the file: URL cannot be parsed", hint="Write file:///srv/backups.") from None
        if parts.netloc:
            raise UsageError(
                "a file: URL names no host",
                hint="Write file:///srv/backups, with three slashes and a path from the root.",
            )
        if parts.query or parts.fragment:
            raise UsageError("a file: URL takes no query", hint="Write '?' in a path as %3F and '#' as %23.")
        try:
            path = unquote(parts.path, errors="strict")
        except UnicodeDecodeError:
            raise UsageError("the path of a file: URL must be UTF-8") from None
        if not path.startswith("/") or "\0" in path:
            raise UsageError("a file: URL needs a path from the root", hint="Write file:///srv/backups.")
        return {"path": path}

    @property
    def location(self) -> str:
        """The folder."""
        return str(self._root)

    @property
    def connections(self) -> int:
        """The setting `connections`."""
        return self.settings.connections

    def preflight(self) -> None:
        """See that the folder, or the one that it would be made in, takes files and has space for some.

        Raises `SinkError`, `SinkDenied` and `SinkFull`.
        """
        folder = self._root
        if not self._root_exists(""):
            folder = next(parent for parent in self._root.parents if parent.is_dir())
        with translated(""):
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, f"{folder} is not writable")
            found = os.statvfs(folder)
            if found.f_flag & os.ST_RDONLY:
                raise OSError(errno.EROFS, f"{folder} is on a file system that is mounted read-only")
            free = found.f_bavail * found.f_frsize
            if found.f_blocks and free < _LEAST_FREE_BYTES:
                raise OSError(errno.ENOSPC, f"{folder} has {free // 1024} KiB left")
            if found.f_files and not found.f_favail:
                raise OSError(errno.ENOSPC, f"{folder} has no inodes left")

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
        """Store `data`: written aside, synced, then linked or renamed; the folder's entry is synced as well."""
        validate_key(key)
        place = self._root / key
        self._root_exists(key)
        with translated(key):
            if if_absent and place.exists():
                raise _in_the_way(place, key)  # before megabytes are written in vain
            self._folders.ensure(place.parent)
            self._root_exists(key)
            with self._unfinished.file(data) as written:
                if if_absent:
                    _place(written, place, key)
                else:
                    written.replace(place)
            self._folders.sync(place.parent)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """The object's bytes, or a range of them."""
        validate_key(key)
        if start < 0 or (length is not None and length < 0):
            raise SinkError(key, "a range of bytes cannot be negative")
        with translated(key, absent=self._absent):
            descriptor = os.open(self._root / key, os.O_RDONLY | os.O_CLOEXEC)
            try:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode):
                    raise self._absent(key)
                rest = max(found.st_size - start, 0)
                return _read(descriptor, start, rest if length is None else min(length, rest))
            finally:
                os.close(descriptor)

    def stat(self, key: str) -> ObjectInfo:
        """The object's size and the time of its last write."""
        validate_key(key)
        with translated(key, absent=self._absent):
            found = (self._root / key).stat()
        if not stat.S_ISREG(found.st_mode):
            raise self._absent(key)
        return _info(key, found)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """All objects with that prefix, folder by folder; files whose names are not valid keys are passed over."""
        validate_prefix(prefix)
        if self._root_exists(prefix):
            folder = prefix.rpartition("/")[0]
            yield from self._walk(f"{folder}/" if folder else "", prefix)

    def delete(self, key: str) -> None:
        """Remove the file; folders stay, since another writer may be about to use them."""
        validate_key(key)
        if (folder := self._unlinked(key)) is None:
            self._root_exists(key)
            return
        with translated(key), suppress(FileNotFoundError):
            self._folders.sync(folder)

    def delete_many(self, keys: Iterable[str]) -> None:
        """Remove the files; each folder is synced once."""
        touched: dict[Path, str] = {}
        locked: dict[str, datetime | None] = {}
        last = None
        for key in keys:
            validate_key(key)
            try:
                folder = self._unlinked(key)
            except ObjectLocked as error:
                locked |= error.locked
                last = error
                continue
            if folder is not None:
                touched[folder] = key
        self._root_exists("")
        for folder, key in touched.items():
            with translated(key), suppress(FileNotFoundError):
                self._folders.sync(folder)
        if last is not None:
            raise last if last.locked == locked else ObjectLocked.of(locked) from last

    def policy(self, rights: Sequence[Rights]) -> tuple[PolicyText, ...]:
        """An account of its own, and what that is worth."""
        return policy_of(self._root, rights)

    def close(self) -> None:
        """Remove what puts that an interrupted run left behind have written so far: they fail, and store nothing."""
        self._unfinished.close()

    def _unlinked(self, key: str) -> Path | None:
        """The folder that the file was removed from; None where there was none."""
        place = self._root / key
        with translated(key):
            try:
                place.unlink()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None
            except PermissionError as error:
                if error.errno == errno.EPERM and keeps(place):
                    reason = "locked by an attribute of the file or of its folder (immutable or append-only)"
                    raise ObjectLocked(key, reason, hint="Let root remove it with chattr, if it is to go.") from error
                raise
        return place.parent

    def _walk(self, folder: str, prefix: str) -> Iterator[ObjectInfo]:
        with translated(prefix):
            try:
                # One folder as a whole, since the caller may delete what it is given, and a folder that changes
                # while it is read may skip names.
                with os.scandir(self._root / folder) as reading:
                    entries = list(reading)
            except (FileNotFoundError, NotADirectoryError):
                self._root_exists(prefix)
                return
            for entry in entries:
                key = folder + entry.name
                if not key.startswith(prefix) or not _is_valid(key):
                    continue
                # Links are followed, as `get` follows them: what can be read must be listed.
                if entry.is_dir():
                    yield from self._walk(f"{key}/", prefix)
                elif entry.is_file():
                    with suppress(FileNotFoundError):  # deleted since the folder was read
                        yield _info(key, entry.stat())

    def _absent(self, key: str) -> ObjectMissing:
        if self._root_exists(key):
            return ObjectMissing(key, "no such object")
        return ObjectMissing(
            key, f"no such object, and no folder {self._root}", hint="Check that its volume is mounted."
        )

    def _root_exists(self, key: str) -> bool:
        """Whether the folder exists; raises `SinkError` when it is not the one that this sink saw before."""
        seen = self._seen  # read first: another thread may be making the folder now
        try:
            found = self._root.stat()
        except FileNotFoundError:
            now = None
        except PermissionError as error:
            hint = "Give the user that runs Penstock access to the folder and to those above it."
            raise SinkDenied(key, f"{self._root} cannot be read: {error.strerror}", hint=hint) from error
        except OSError as error:
            raise SinkError(key, f"{self._root} cannot be read: {error.strerror}") from error
        else:
            if not stat.S_ISDIR(found.st_mode):
                raise SinkError(key, f"{self._root} is not a folder")
            now = (found.st_dev, found.st_ino)
        if seen is None:
            self._seen = now or self._seen
        elif seen != now:
            raise SinkError(
                key, f"the folder {self._root} is gone or was replaced", hint="Check that its volume is still mounted."
            )
        return now is not None


def _place(written: Path, place: Path, key: str) -> None:
    try:
        place_new(written, place)
    except FileExistsError:
        raise _in_the_way(place, key) from None


def _in_the_way(place: Path, key: str) -> SinkError:
    if place.is_dir():
        return SinkError(key, "the key is a folder of other objects")
    return ObjectExists(key, "the object exists already")


def _read(descriptor: int, start: int, length: int) -> bytes:
    block = os.pread(descriptor, length, start)
    if len(block) == length:
        return block
    # Linux reads at most 2 GiB at once, and a network file system may give less: only an empty answer means the end.
    blocks = [block]
    while block and length > len(block):
        start, length = start + len(block), length - len(block)
        block = os.pread(descriptor, length, start)
        blocks.append(block)
    return b"".join(blocks)


def _is_valid(key: str) -> bool:
    try:
        validate_key(key)
    except SinkError:
        return False
    return True


def _info(key: str, found: os.stat_result) -> ObjectInfo:
    try:
        modified = datetime.fromtimestamp(found.st_mtime, UTC)
    except (ValueError, OverflowError, OSError):  # whoever may write to the folder may set any time
        modified = None
    return ObjectInfo(key, found.st_size, modified)
