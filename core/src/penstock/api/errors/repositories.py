"""Errors about a repository and the objects in it."""

from penstock.api.errors.base import PenstockError

__all__ = [
    "CheckFailed",
    "DamagedObject",
    "MissingObject",
    "NotCopied",
    "NothingKept",
    "OtherHistory",
    "OtherRepository",
    "PruneRunning",
    "RepositoryError",
    "RepositoryExists",
    "RepositoryMissing",
    "SessionLost",
    "SnapshotHeld",
    "SnapshotNotFound",
    "UnsupportedFormat",
]


class RepositoryError(PenstockError):
    """A problem with the objects of a repository."""

    exit_code = 10


class RepositoryMissing(RepositoryError):
    """No repository exists at that place."""


class RepositoryExists(RepositoryError):
    """`init` found a repository, or the remains of one."""

    exit_code = 11


class UnsupportedFormat(RepositoryError):
    """The repository, or an object in it, has a later format than this version reads."""

    exit_code = 12


class _AboutObject(RepositoryError):
    def __init__(self, key: str, reason: str, *, hint: str | None = None, details: tuple[str, ...] = ()) -> None:
        super().__init__(f"{key}: {reason}", hint=hint, details=details)
        self.key = key
        self.reason = reason


class DamagedObject(_AboutObject):
    """The object under `key` is not what was written there: changed, truncated, swapped or forged."""

    exit_code = 13


class MissingObject(_AboutObject):
    """The object under `key` is gone, although another object needs it."""

    exit_code = 14


class SnapshotNotFound(RepositoryError):
    """No snapshot, or no stream in it, has that name."""

    exit_code = 15


class CheckFailed(RepositoryError):
    """`check` found damaged or missing objects, or `verify` a stream that does not come out; `details` names each."""

    exit_code = 16


class SnapshotHeld(RepositoryError):
    """Somebody holds a snapshot that was to be forgotten."""

    exit_code = 17


class NothingKept(RepositoryError):
    """What was asked for would leave a backup without any snapshot that can be restored."""

    exit_code = 18


class SessionLost(RepositoryError):
    """A run slept, or did not reach the store, for longer than its lease: others may have deleted what it relied on."""

    exit_code = 19


class NotCopied(RepositoryError):
    """Snapshots that `copy` was to store elsewhere do not come out whole where they are; `details` names each."""

    exit_code = 56


class PruneRunning(RepositoryError):
    """Another prune is at work in the domain."""

    exit_code = 60


class OtherRepository(RepositoryError):
    """The target of a replication holds another repository."""

    exit_code = 61


class OtherHistory(RepositoryError):
    """The target of a replication holds what its original does not know: somebody writes there, or it lost that."""

    exit_code = 62
