"""Writes an image back: beside its place first, checked there, and moved into it in one step."""

import errno
import fcntl
import logging
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from penstock.api import (
    Interrupted,
    RestoreFailed,
    SourceDenied,
    SourceError,
    StreamSpec,
    TargetMissing,
    TargetNotEmpty,
    UsageError,
)
from penstock_sqlite.options import Check

__all__ = ["check_place", "write_database"]

_log = logging.getLogger(__name__)
_SIDE_FILES = ("-journal", "-wal", "-shm")
_PRAGMAS: dict[str, str] = {"quick": "PRAGMA quick_check(20)", "full": "PRAGMA integrity_check(20)"}
_STEPS_BETWEEN_CALLS = 100_000
# SQLite locks these bytes of a database file (https://www.sqlite.org/src/file?name=src/os.h, PENDING_BYTE).
_LOCK_START = 0x4000_0000
_LOCK_LENGTH = 512


def check_place(path: Path, *, clean: bool) -> None:
    """Raises what `Source.check_target` raises about the file that is to be written; changes nothing."""
    place = Path(os.path.realpath(path))
    if not place.parent.is_dir():
        raise TargetMissing(f"there is no folder {place.parent}", hint="make it first")
    if not os.access(place.parent, os.W_OK | os.X_OK):
        raise SourceDenied(f"cannot write to the folder {place.parent}")
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(place.stat().st_mode):
            raise UsageError(f"{place} is not a file")
    if not clean:
        _refuse_remains(place)
        return
    with _locked(place):
        pass


def write_database(path: Path, spec: StreamSpec, blocks: Iterable[memoryview], *, clean: bool, check: Check) -> None:
    """Write the image to `path`, with the mode and owner of the file that it replaces, or the mode it was dumped with.

    On any error the target is as it was, and nothing is left beside it.
    """
    place = Path(os.path.realpath(path))
    with _told(place):
        descriptor, name = tempfile.mkstemp(prefix=".penstock-", suffix=".restoring", dir=place.parent)
    beside = Path(name)
    try:
        try:
            size = _write(descriptor, place, blocks)
            _refuse_other_size(place, spec, size)
            if check != "off":
                _check(beside, place, check)
            with _told(place):
                _dress(descriptor, place, spec)
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        _move(beside, place, clean=clean)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _write(descriptor: int, place: Path, blocks: Iterable[memoryview]) -> int:
    size = 0
    for block in blocks:  # what it raises is not ours to translate
        size += len(block)
        with _told(place):
            rest = block
            while rest:
                rest = rest[os.write(descriptor, rest) :]
    return size


def _refuse_other_size(place: Path, spec: StreamSpec, size: int) -> None:
    attributes = spec.attributes
    if "page_size" in attributes and "page_count" in attributes:
        expected = int(attributes["page_size"]) * int(attributes["page_count"])
        if size != expected:
            raise RestoreFailed(f"{place}: {spec.name} has {size} bytes instead of {expected}")


def _check(beside: Path, place: Path, check: Check) -> None:
    """Raises `RestoreFailed` unless SQLite finds the database sound.

    A database may need collations or modules that only its application brings. What cannot be checked for that reason
    is let through with a warning in the log: that the bytes are those of the dump is proven elsewhere.
    """
    import sqlite3  # the command line starts without it

    # Immutable: no locks and no -wal file, and nobody else knows the name.
    connection = sqlite3.connect(f"file:{quote(os.fsencode(beside))}?mode=ro&immutable=1", uri=True)
    connection.text_factory = lambda data: data.decode(errors="replace")
    # Python looks for signals when it runs; without a call now and then, Ctrl-C would wait for the end of the check.
    connection.set_progress_handler(lambda: False, _STEPS_BETWEEN_CALLS)
    try:
        lines = tuple(str(row[0]) for row in connection.execute(_PRAGMAS[check]))
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_INTERRUPT:
            raise Interrupted("interrupted") from error
        if code == sqlite3.SQLITE_ERROR:
            _log.warning("%s: restored, but its structure could not be checked here: %s", place, error)
            return
        lines = (str(error),)
    finally:
        connection.close()
    if lines != ("ok",):
        raise RestoreFailed(
            f"{place}: the restored database is damaged, and was not put in place",
            hint="it was damaged when it was dumped: restore an older snapshot, or as it is with the option check=off",
            details=lines,
        )


def _dress(descriptor: int, place: Path, spec: StreamSpec) -> None:
    try:
        old = place.stat()
    except FileNotFoundError:
        os.fchmod(descriptor, int(spec.attributes.get("mode", "600"), 8) & 0o666)
        return
    with suppress(PermissionError):  # only the system's administrator gives files away
        os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, old.st_mode & 0o777)


def _move(beside: Path, place: Path, *, clean: bool) -> None:
    with _told(place), _locked(place):
        if clean:
            # Before the move: a journal or log that is left over would be applied to the new database, and ruin it.
            for suffix in _SIDE_FILES:
                Path(f"{place}{suffix}").unlink(missing_ok=True)
            _sync_folder(place.parent)
        else:
            _refuse_remains(place)
        beside.rename(place)
        _sync_folder(place.parent)


def _refuse_remains(place: Path) -> None:
    for suffix in ("", "-journal", "-wal"):
        remains = Path(f"{place}{suffix}")
        with suppress(FileNotFoundError):
            if remains.stat().st_size > 0:
                raise TargetNotEmpty(f"{remains} exists", hint="restore elsewhere, or allow it to be replaced (clean)")


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Keep other processes from the old database, if there is one; raises `TargetNotEmpty` when one has it open.

    That notices every connection in WAL mode, and those within a transaction in rollback-journal mode.
    """
    try:
        descriptor = os.open(place, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield
        return
    except OSError as error:
        raise SourceDenied(f"cannot open {place}: {error.strerror}") from error
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, _LOCK_LENGTH, _LOCK_START)
        except OSError as error:
            raise TargetNotEmpty(f"{place} is in use by another process", hint="stop its application first") from error
        yield
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _told(place: Path) -> Iterator[None]:
    """A `with` block in which `OSError` becomes the error that tells the operator."""
    try:
        yield
    except OSError as error:
        raise _translated(place, error) from error


def _translated(place: Path, error: OSError) -> SourceError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return RestoreFailed(f"{place}: no space left on its file system", hint="nothing was left behind: make room")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return SourceDenied(f"cannot write {place}: {error.strerror}")
    return RestoreFailed(f"cannot write {place}: {error.strerror}")
