"""Whose a restored database file is, and who may read it."""

import grp
import os
import pwd
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from penstock.api import SourceDenied, UsageError
from penstock_sqlite.options import RestoreOptions

__all__ = ["Dress", "dress_for"]


@dataclass(frozen=True, slots=True)
class Dress:
    """The owner, the group and the mode that the new file gets; `like` says after what, for people."""

    uid: int
    gid: int
    mode: int
    like: str

    def __str__(self) -> str:
        return f"owner {_name_of(self.uid)}:{_group_of(self.gid)}, mode {self.mode:o}, {self.like}"

    def put_on(self, descriptor: int) -> None:
        """Give them to the open file, as far as this user may; a mode for a group is given to that group alone."""
        with suppress(PermissionError):
            os.fchown(descriptor, -1, self.gid)
        with suppress(PermissionError):  # only the system's administrator gives files away
            os.fchown(descriptor, self.uid, -1)
        mode = self.mode
        if os.fstat(descriptor).st_gid != self.gid:
            mode &= ~0o070
        os.fchmod(descriptor, mode)


def dress_for(place: Path, options: RestoreOptions, recorded_mode: int) -> Dress:
    """What the file at `place` gets: as the options say, or as the file that it replaces.

    A new file has the mode that it was dumped with, as far as the umask goes. When the system's administrator restores,
    it belongs to whom its folder belongs: nobody else has a use for it. Raises `UsageError` for an unknown name, and
    `SourceDenied` for an owner to whom this user may not give it.
    """
    try:
        old: os.stat_result | None = place.stat()
    except FileNotFoundError:
        old = None
    uid, gid, like = _owner(place, old, options.owner)
    mode = stat.S_IMODE(old.st_mode) & 0o777 if old else recorded_mode & 0o666 & ~_umask()
    if options.mode:
        mode = int(options.mode, 8)
    return Dress(uid, gid, mode, like)


def _owner(place: Path, old: os.stat_result | None, owner: str) -> tuple[int, int, str]:
    if owner not in ("auto", "self"):
        uid, gid = _named(owner)
        if os.geteuid() != 0 and uid != os.geteuid():
            raise SourceDenied(
                f"this user may not give {place} to {owner}", hint="Restore as that user, or as the administrator."
            )
        return uid, gid, "as the option owner says"
    if old and owner == "auto":
        return old.st_uid, old.st_gid, "as the file that it replaces"
    folder = place.parent.stat()
    # In a folder with that bit, files belong to its group.
    gid = folder.st_gid if folder.st_mode & stat.S_ISGID else os.getegid()
    if os.geteuid() == 0 and owner == "auto":
        return folder.st_uid, folder.st_gid, "as its folder"
    return os.geteuid(), gid, "as the user who restores"


def _named(owner: str) -> tuple[int, int]:
    name, colon, group = owner.partition(":")
    try:
        user = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
        uid, gid = user.pw_uid, user.pw_gid
    except KeyError:
        if not (name.isdigit() and colon):
            raise UsageError(
                f"there is no user {name}", hint="Set the option owner to user, user:group, or two numbers uid:gid."
            ) from None
        uid, gid = int(name), -1
    if colon:
        try:
            gid = int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
        except KeyError:
            raise UsageError(f"there is no group {group}", hint="Set the option owner to user:group.") from None
    return uid, gid


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_of(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _umask() -> int:
    """What the operator lets new files have; Linux tells it without setting it, which other threads would see."""
    with suppress(OSError, ValueError), Path("/proc/self/status").open(encoding="ascii") as status:
        return int(next(line for line in status if line.startswith("Umask:")).split()[1], 8)
    return 0o077
