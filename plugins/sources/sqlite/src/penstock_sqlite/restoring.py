"""Writes an image back: beside its place first, checked there, and moved into it in one step."""

import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from pydantic import Field, Json

from penstock.api import (
    Interrupted,
    Report,
    Restore,
    RestoreFailed,
    SourceDenied,
    SourceError,
    StopToken,
    StreamAttributes,
    StreamSpec,
    TargetMissing,
    TargetNotEmpty,
    UsageError,
    say_more,
)
from penstock_sqlite.options import Check, RestoreOptions

__all__ = ["ImageAttributes", "check_place", "restoring"]

_SIDE_FILES = ("-journal", "-wal", "-shm")
_PRAGMAS: dict[str, str] = {"quick": "PRAGMA quick_check(20)", "full": "PRAGMA integrity_check(20)"}
_STEPS_BETWEEN_CALLS = 100_000
# SQLite locks these bytes of a database file (https://www.sqlite.org/src/file?name=src/os.h, PENDING_BYTE).
_LOCK_START = 0x4000_0000
_LOCK_LENGTH = 512


_Count = Annotated[int, Field(ge=0, lt=1 << 32)]


class ImageAttributes(StreamAttributes):
    """What a snapshot says of an image beside its bytes."""

    page_size: Json[_Count] | None = None
    page_count: Json[_Count] | None = None
    #: Octal, as chmod takes it.
    mode: Annotated[str, Field(pattern="^[0-7]{1,6}$")] = "600"


def check_place(path: Path, *, clean: bool) -> None:
    """Raises what `Source.plan_restore` raises about the file that is to be written; changes nothing."""
    place = Path(os.path.realpath(path))
    if not place.parent.is_dir():
        raise TargetMissing(f"the folder {place.parent} does not exist", hint="Create the folder first.")
    if not os.access(place.parent, os.W_OK | os.X_OK):
        raise SourceDenied(
            f"cannot write to the folder {place.parent}", hint="Allow this user to write there, or restore elsewhere."
        )
    with _told(place), suppress(FileNotFoundError):
        if not stat.S_ISREG(place.stat().st_mode):
            raise UsageError(f"{place} is not a file")
    if not clean:
        _refuse_remains(place)
        return
    with _locked(place):
        pass


@contextmanager
def restoring(
    path: Path, options: RestoreOptions, *, clean: bool, stop: StopToken, report: Report
) -> Iterator[Restore]:
    """One restore of the database file at `path`; nothing is left beside it, unless `finish` begins and fails."""
    work = _Work(Path(os.path.realpath(path)), options.check, clean, stop, report)
    try:
        yield Restore(work.write, work.finish)
    finally:
        work.forget()


class _Work:
    """A new database file beside the place that it is for, until it is moved there."""

    def __init__(self, place: Path, check: Check, clean: bool, stop: StopToken, report: Report) -> None:
        self._place = place
        self._check = check
        self._clean = clean
        self._stop = stop
        self._report = report
        self._beside: Path | None = None

    def write(self, spec: StreamSpec, blocks: Iterable[memoryview]) -> None:
        """Write the image beside its place and have it checked.

        It gets the mode and owner of the file that it will replace, or the mode that it was dumped with.
        """
        place = self._place
        with _told(place):
            descriptor, name = tempfile.mkstemp(prefix=".penstock-", suffix=".restoring", dir=place.parent)
        self._beside = Path(name)
        try:
            size = _write(descriptor, place, blocks)
            _refuse_other_size(place, spec, size)
            if self._check != "off":
                _examine(self._beside, place, self._check, self._stop, self._report)
            with _told(place):
                _dress(descriptor, place, spec)
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def finish(self) -> None:
        """Move the new database into its place; until then, the old one is as it was.

        What was restored is kept from here on, whatever fails: the error names it.
        """
        beside, self._beside = self._beside, None
        if beside is None:
            return
        try:
            self._move(beside)
        except BaseException as error:
            if beside.exists() and not self._place.is_symlink():
                kept = f"the restored database is complete, and kept as {beside}"
                say_more(error, f"{kept}; move it to {self._place}, or restore again")
            raise

    def _move(self, beside: Path) -> None:
        with _told(self._place), _locked(self._place):
            if not self._clean:
                _refuse_remains(self._place)
            if self._clean and _has_changes_beside(self._place):
                self._switch(beside)
            else:
                _remove_side_files(self._place)
                beside.rename(self._place)
                _sync_folder(self._place.parent)

    def forget(self) -> None:
        """Remove what is beside the place."""
        if self._beside is not None:
            self._beside.unlink(missing_ok=True)

    def _switch(self, beside: Path) -> None:
        """Replace a database that has changes in a journal or log beside it.

        Without these it is not what it was, and with them the new one would not be what it is: SQLite applies to a
        database whatever has its name. Both have to go at one moment. SQLite names these files after the file behind a
        symbolic link; so a link to the new database takes the place first, in one step, then the old side files go, and
        at last the new file takes the place of the link. Each of the three states is a whole database. Nobody gets into
        the new one meanwhile: it is locked.
        """
        place = self._place
        link = beside.with_suffix(".link")
        with _locked(beside):
            try:
                link.symlink_to(beside.name)
            except OSError as error:
                raise RestoreFailed(
                    f"{place} has changes in files beside it, and cannot be replaced at one moment: {error.strerror}",
                    hint=f"Remove {place.name}-wal and {place.name}-journal first, if the old database is not needed.",
                ) from error
            try:
                link.rename(place)
            except BaseException:
                link.unlink(missing_ok=True)
                raise
            try:
                _sync_folder(place.parent)
                _remove_side_files(place)
                _sync_folder(place.parent)
                beside.rename(place)
                _sync_folder(place.parent)
            except OSError as error:
                raise RestoreFailed(
                    f"{place} is restored, but it is a symbolic link to {beside.name}: {error.strerror}",
                    hint=f"Remove its old -wal, -shm and -journal files, then move {beside.name} over {place.name}.",
                ) from error
            except BaseException as error:  # an interrupt
                say_more(
                    error, f"{place} is restored, but may be a symbolic link to {beside.name}: move that file over it"
                )
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
    recorded = ImageAttributes.of(spec)
    if recorded.page_size is not None and recorded.page_count is not None:
        expected = recorded.page_size * recorded.page_count
        if size != expected:
            raise RestoreFailed(f"{place}: {spec.name} has {size} bytes instead of {expected}")


def _examine(beside: Path, place: Path, check: Check, stop: StopToken, report: Report) -> None:
    """Raises `RestoreFailed` unless SQLite finds the database sound.

    A database may need collations or modules that only its application brings. What cannot be checked for that reason
    is let through with a warning: that the bytes are those of the dump is proven elsewhere.
    """
    import sqlite3  # the command line starts without it

    # Immutable: no locks and no -wal file, and nobody else knows the name.
    connection = sqlite3.connect(f"file:{quote(os.fsencode(beside))}?mode=ro&immutable=1", uri=True)
    connection.text_factory = lambda data: data.decode(errors="replace")
    # Python looks for signals when it runs; without a call now and then, Ctrl-C would wait for the end of the check.
    connection.set_progress_handler(lambda: stop.stopped, _STEPS_BETWEEN_CALLS)
    try:
        lines = tuple(str(row[0]) for row in connection.execute(_PRAGMAS[check]))
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_INTERRUPT:
            raise Interrupted("interrupted") from error
        if code == sqlite3.SQLITE_ERROR:
            report.warn(f"{place}: the structure of the restored database could not be checked here: {error}")
            return
        if code not in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            raise RestoreFailed(f"{place}: the restored database cannot be checked: {error}") from error
        lines = (str(error),)
    finally:
        connection.close()
    if lines != ("ok",):
        raise RestoreFailed(
            f"{place}: the restored database is damaged, and was not put in place",
            hint="Restore an older snapshot, or this one as it is with the option check=off: it was dumped like that.",
            details=lines,
        )


def _umask() -> int:
    """What the operator lets new files have; Linux tells it without setting it, which other threads would see."""
    with suppress(OSError, ValueError), Path("/proc/self/status").open(encoding="ascii") as status:
        return int(next(line for line in status if line.startswith("Umask:")).split()[1], 8)
    return 0o077


def _dress(descriptor: int, place: Path, spec: StreamSpec) -> None:
    try:
        old = place.stat()
    except FileNotFoundError:
        os.fchmod(descriptor, int(ImageAttributes.of(spec).mode, 8) & 0o666 & ~_umask())
        return
    with suppress(PermissionError):
        os.fchown(descriptor, -1, old.st_gid)
    with suppress(PermissionError):  # only the system's administrator gives files away
        os.fchown(descriptor, old.st_uid, -1)
    mode = old.st_mode & 0o777
    if os.fstat(descriptor).st_gid != old.st_gid:
        mode &= ~0o070  # that was for another group
    os.fchmod(descriptor, mode)


def _has_changes_beside(place: Path) -> bool:
    sizes = []
    for suffix in ("-journal", "-wal"):
        with suppress(FileNotFoundError):
            sizes.append(Path(f"{place}{suffix}").stat().st_size)
    return any(sizes)


def _remove_side_files(place: Path) -> None:
    for suffix in _SIDE_FILES:
        Path(f"{place}{suffix}").unlink(missing_ok=True)


def _refuse_remains(place: Path) -> None:
    for suffix in ("", "-journal", "-wal"):
        remains = Path(f"{place}{suffix}")
        with _told(place), suppress(FileNotFoundError):
            if remains.stat().st_size > 0:
                raise TargetNotEmpty(
                    f"{remains} exists", hint="Restore elsewhere, or allow it to be replaced (--clean)."
                )


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Keep other processes from a database, if it exists; raises `TargetNotEmpty` when one has it open.

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
            if error.errno not in {errno.EACCES, errno.EAGAIN}:
                raise SourceDenied(
                    f"cannot lock {place}: {error.strerror}", hint="Restore to a file system that supports file locks."
                ) from error
            raise TargetNotEmpty(f"{place} is in use by another process", hint="Stop its application first.") from error
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
        return RestoreFailed(
            f"{place}: no space left, or too large for its file system", hint="Make room, and restore again."
        )
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return SourceDenied(f"cannot write {place}: {error.strerror}")
    return RestoreFailed(f"cannot write {place}: {error.strerror}")
