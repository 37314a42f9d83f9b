"""Writes an image back: beside its place first, checked there, and moved into it in one step."""

import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, Json

from penstock.api import (
    Need,
    Report,
    Restore,
    RestoreFailed,
    RestorePlan,
    RestoreStep,
    RestoreTarget,
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
from penstock_sqlite.dress import Dress, dress_for
from penstock_sqlite.examining import examine
from penstock_sqlite.options import RestoreOptions

__all__ = ["ImageAttributes", "check_place", "plan_for", "restoring"]

_SIDE_FILES = ("-journal", "-wal", "-shm")
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
    #: What the check before the dump found.
    damaged: Literal["yes", "no"] = "no"

    @property
    def size(self) -> int | None:
        """Bytes of the image."""
        if self.page_size is None or self.page_count is None:
            return None
        return self.page_size * self.page_count


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


def plan_for(path: Path, spec: StreamSpec, target: RestoreTarget, options: RestoreOptions) -> RestorePlan:
    """What a restore to `path` would do, once `check_place` let it through.

    Raises `RestoreFailed` for an image that is known not to pass the check.
    """
    place, recorded = Path(os.path.realpath(path)), ImageAttributes.of(spec)
    if recorded.damaged == "yes" and options.check != "off":
        raise RestoreFailed(
            f"{spec.name} was damaged when it was dumped",
            hint="Restore an older snapshot, or this one as it is with the option check=off.",
        )
    with _told(place):
        dress = dress_for(place, options, int(recorded.mode, 8))
        file_system = os.statvfs(place.parent)
    steps = [RestoreStep(f"write the database beside {place}, in the same folder", spec.name)]
    if options.check != "off":
        steps.append(RestoreStep(f"have SQLite check it ({options.check})"))
    steps.append(RestoreStep(f"{'replace' if place.exists() else 'make'} {place}: {dress}"))
    size = recorded.size or spec.size_estimate
    free = file_system.f_bavail * file_system.f_frsize
    if size is None:
        return RestorePlan((spec,), target, tuple(steps))
    # What is free changes all the time: it is said only where it is too little.
    met = free >= size
    need = Need("free space", f"{size} bytes in {place.parent}", met, "" if met else f"{free} bytes are free")
    full = f"{place.parent} has {free} bytes left, and the database {size}: the restore will end with no space left"
    return RestorePlan((spec,), target, tuple(steps), needs=(need,), warnings=() if need.met else (full,))


@contextmanager
def restoring(
    path: Path, options: RestoreOptions, *, clean: bool, stop: StopToken, report: Report
) -> Iterator[Restore]:
    """One restore of the database file at `path`; nothing is left beside it, unless `finish` begins and fails."""
    work = _Work(Path(os.path.realpath(path)), options, clean, stop, report)
    try:
        yield Restore(work.write, work.finish)
    finally:
        work.forget()


class _Work:
    """A new database file beside the place that it is for, until it is moved there."""

    def __init__(self, place: Path, options: RestoreOptions, clean: bool, stop: StopToken, report: Report) -> None:
        self._place = place
        self._options = options
        self._clean = clean
        self._stop = stop
        self._report = report
        self._beside: Path | None = None
        self._mode = 0o600

    def write(self, spec: StreamSpec, blocks: Iterable[memoryview]) -> None:
        """Write the image beside its place, where nobody else may read it."""
        place = self._place
        with _told(place):
            descriptor, name = tempfile.mkstemp(prefix=".penstock-", suffix=".restoring", dir=place.parent)
        self._beside = Path(name)
        try:
            size = _write(descriptor, place, blocks)
            _refuse_other_size(place, spec, size)
            self._mode = int(ImageAttributes.of(spec).mode, 8)
            with _told(place):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def finish(self) -> None:
        """Have the new database checked and move it into its place; until then, the old one is as it was.

        It gets the mode and owner of the file that it replaces, or as the options say. What passed the check is kept,
        whatever fails then: the error names it.
        """
        if self._beside is None:
            return
        if self._options.check != "off":
            examine(self._beside, self._place, self._options.check, self._stop, self._report)
        with _told(self._place):
            dress = dress_for(self._place, self._options, self._mode)
            _wear(dress, self._beside)
        beside, self._beside = self._beside, None
        try:
            self._move(beside)
        except BaseException as error:
            if beside.exists() and not self._place.is_symlink():
                kept = f"the restored database is complete, and kept as {beside}"
                say_more(error, f"{kept}; move it to {self._place}, or restore again")
            raise
        self._report.note(f"{self._place} is restored: {dress}")

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
    expected = ImageAttributes.of(spec).size
    if expected is not None and size != expected:
        raise RestoreFailed(f"{place}: {spec.name} has {size} bytes instead of {expected}")


def _wear(dress: Dress, beside: Path) -> None:
    descriptor = os.open(beside, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        dress.put_on(descriptor)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
