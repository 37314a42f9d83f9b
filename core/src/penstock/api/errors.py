"""The one tree of errors, and the exit code of each.

PenstockError                     1
├── UsageError                    2   the command line or a call is invalid
├── SettingsError                 3   penstock.toml, or a plugin's settings
│   ├── PolicyKeepsNothing        7   `keep` has no rule that keeps anything
│   └── NoPolicy                  8   `forget` without any `keep` to go by
├── SecretUnavailable             4   a reference to a secret cannot be resolved
├── PluginError
│   ├── PluginNotFound            5   no plugin with that name or URL scheme
│   └── PluginClash               6   two plugins claim one name
├── RepositoryError
│   ├── RepositoryMissing        10   no repository at that place
│   ├── RepositoryExists         11   init where a repository already exists
│   ├── UnsupportedFormat        12   written by a newer Penstock
│   ├── DamagedObject            13   an object is not what was written
│   ├── MissingObject            14   an object that others need is gone
│   ├── SnapshotNotFound         15   no such snapshot or stream
│   ├── CheckFailed              16   `check` found damage
│   ├── SnapshotHeld             17   somebody holds what was to be forgotten
│   ├── NothingKept              18   a backup would be left without a snapshot
│   ├── SessionLost              19   a run fell silent for longer than its lease
│   ├── NotCopied                56   a snapshot does not come out whole for a copy
│   ├── PruneRunning             60   another prune is at work
│   ├── OtherRepository          61   the target holds another repository
│   └── OtherHistory             62   the target went on without its original
├── KeyProblem
│   ├── KeyMissing               20   no key file, no passphrase slot
│   ├── WrongKey                 21   the key belongs to another repository, or was revoked
│   ├── WrongPassphrase          22   the passphrase opens no slot
│   └── RoleForbids              23   the key's role does not allow it
├── SinkError                    30
│   ├── SinkUnreachable          31   (a retry can help)
│   ├── SinkDenied               32   credentials or permissions
│   ├── SinkFull                 33   no space, or a quota
│   ├── ObjectMissing            34   no object under that key
│   ├── ObjectExists             35   put(if_absent) found an object
│   └── ObjectLocked             36   a lock or a hold keeps the object
├── SourceError                  40
│   ├── SourceUnreachable        41   (a retry can help)
│   ├── SourceDenied             42   wrong password, or a missing privilege
│   ├── ClientMissing            43   the engine's dump or restore program is not installed
│   ├── ClientTooOld             44   that program is older than the server
│   ├── DumpFailed               45   the dump did not complete: nothing was committed
│   │   └── DumpStalled          46   no byte for longer than the stall timeout
│   ├── TargetNotEmpty           47   restore would overwrite data
│   ├── TargetMissing            48   nothing to restore into
│   └── RestoreFailed            49   the engine rejected the restored data
├── PartialFailure               50   only some parts succeeded, which is a failure
│   ├── RestoredInPart           51   a restore is in place, without what it names
│   ├── BackedUpInPart           52   a backup is committed, without what it names
│   ├── ReplicatedInPart         53   a replica lacks what it names
│   └── RepairedInPart           54   what a repair could not bring back
└── Interrupted                 130   Ctrl-C or SIGTERM
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import ClassVar, Self

__all__ = [
    "BackedUpInPart",
    "CheckFailed",
    "ClientMissing",
    "ClientTooOld",
    "DamagedObject",
    "DumpFailed",
    "DumpStalled",
    "Interrupted",
    "KeyMissing",
    "KeyProblem",
    "MissingObject",
    "NoPolicy",
    "NotCopied",
    "NothingKept",
    "ObjectExists",
    "ObjectLocked",
    "ObjectMissing",
    "OtherHistory",
    "OtherRepository",
    "PartialFailure",
    "PenstockError",
    "PluginClash",
    "PluginError",
    "PluginNotFound",
    "PolicyKeepsNothing",
    "PruneRunning",
    "RepairedInPart",
    "ReplicatedInPart",
    "RepositoryError",
    "RepositoryExists",
    "RepositoryMissing",
    "RestoreFailed",
    "RestoredInPart",
    "RoleForbids",
    "SecretUnavailable",
    "SessionLost",
    "SettingsError",
    "SinkDenied",
    "SinkError",
    "SinkFull",
    "SinkUnreachable",
    "SnapshotHeld",
    "SnapshotNotFound",
    "SourceDenied",
    "SourceError",
    "SourceUnreachable",
    "TargetMissing",
    "TargetNotEmpty",
    "UnsupportedFormat",
    "UsageError",
    "WrongKey",
    "WrongPassphrase",
]


#: How many locked objects the lines of an error name.
_NAMED = 20


class PenstockError(Exception):
    """Base of all expected errors; shown to the operator without a traceback.

    `message` says what failed and on which stream or key; `hint` says what to do next; `details` holds further lines,
    such as the last output of a child process. None of them may contain a secret.
    """

    exit_code: ClassVar[int] = 1
    #: Whether the same call may succeed if simply repeated.
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str | None = None, details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details

    def __reduce__(self) -> tuple[object, ...]:
        # Worker processes pass errors on. By default, unpickling calls the class with the message alone, which fails
        # for classes that take more arguments, and brings down the whole pool of workers.
        return _without_init, (type(self), self.args), vars(self)


def _without_init(kind: type[PenstockError], args: tuple[object, ...]) -> PenstockError:
    return kind.__new__(kind, *args)


def say_more(error: BaseException, *lines: str) -> None:
    """Let an error that passes by tell more: in its `details`, or in the notes of one that is not a `PenstockError`.

    For what is left behind, or gone. The notes of an interrupt are shown to the operator, as details are.
    """
    if isinstance(error, PenstockError):
        error.details += lines
        return
    for line in lines:
        error.add_note(line)


class UsageError(PenstockError):
    """The command line or a call is invalid."""

    exit_code = 2


class SettingsError(PenstockError):
    """A settings file or a plugin's settings are invalid; names the file, the key and what is allowed."""

    exit_code = 3


class PolicyKeepsNothing(SettingsError):
    """A `keep` of the settings has no rule that keeps anything, so that `forget` would let go of nearly everything."""

    exit_code = 7


class NoPolicy(SettingsError):
    """`forget` was to go by the settings, and no backup that it is about has a `keep` there."""

    exit_code = 8


class SecretUnavailable(PenstockError):
    """A reference to a secret (variable, file, command) cannot be resolved."""

    exit_code = 4


class PluginError(PenstockError):
    """A problem with plugins."""

    exit_code = 5


class PluginNotFound(PluginError):
    """No plugin with that name, kind or URL scheme is installed."""


class PluginClash(PluginError):
    """Two plugins claim one name or scheme."""

    exit_code = 6


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


class KeyProblem(PenstockError):
    """A problem with keys, roles or passphrases."""

    exit_code = 20


class KeyMissing(KeyProblem):
    """No key file or passphrase slot to open the repository with."""


class WrongKey(KeyProblem):
    """The key belongs to another repository, or was revoked."""

    exit_code = 21


class WrongPassphrase(KeyProblem):
    """The passphrase opens no slot of the repository."""

    exit_code = 22


class RoleForbids(KeyProblem):
    """The key's role does not allow the operation."""

    exit_code = 23


class SinkError(PenstockError):
    """A sink failed; `key` is the object's key (or the prefix, or ""), and the cause is the SDK's error."""

    exit_code = 30

    def __init__(self, key: str, reason: str, *, hint: str | None = None, details: tuple[str, ...] = ()) -> None:
        super().__init__(f"{key}: {reason}" if key else reason, hint=hint, details=details)
        self.key = key
        self.reason = reason


class SinkUnreachable(SinkError):
    """The sink did not answer, or was too busy, until the deadline."""

    exit_code = 31
    retryable = True


class SinkDenied(SinkError):
    """The sink refused the credentials, or they lack a permission."""

    exit_code = 32


class SinkFull(SinkError):
    """The sink has no space left, or a quota is used up."""

    exit_code = 33


class ObjectMissing(SinkError):
    """No object exists under that key."""

    exit_code = 34


class ObjectExists(SinkError):
    """`put(if_absent=True)` found an object under that key."""

    exit_code = 35


class ObjectLocked(SinkError):
    """A lock, a retention policy or a hold keeps the object from being deleted or replaced.

    `locked` has every object that the call left for that reason, and when its lock ends: None where nobody knows, as of
    a legal hold. `key` is the one that stays the longest.
    """

    exit_code = 36

    def __init__(self, key: str, reason: str, *, hint: str | None = None, details: tuple[str, ...] = ()) -> None:
        super().__init__(key, reason, hint=hint, details=details)
        self.locked: Mapping[str, datetime | None] = {key: None}

    @classmethod
    def of(cls, locked: Mapping[str, datetime | None]) -> Self:
        """The error about these objects, one or more; times have a time zone."""
        unknown = datetime.max.replace(tzinfo=UTC)
        key, *others = sorted(locked, key=lambda key: (locked[key] is None, locked[key] or unknown, key), reverse=True)
        named = [f"{other}: {_locked_until(locked[other])}" for other in islice(others, _NAMED)]
        if len(others) > _NAMED:
            named.append(f"and {len(others) - _NAMED} more")
        hint = "Find out in the service what holds it: a legal hold, or a policy." if locked[key] is None else None
        error = cls(key, _locked_until(locked[key]), hint=hint, details=tuple(named))
        error.locked = dict(locked)
        return error

    @property
    def until(self) -> datetime | None:
        """When the lock of `key` ends; None where nobody knows."""
        return self.locked[self.key]


def _locked_until(until: datetime | None) -> str:
    return (
        "locked, and nobody knows until when"
        if until is None
        else f"locked until {until.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    )


class SourceError(PenstockError):
    """A source failed."""

    exit_code = 40


class SourceUnreachable(SourceError):
    """The database server did not answer."""

    exit_code = 41
    retryable = True


class SourceDenied(SourceError):
    """The database refused the credentials, or they lack a privilege."""

    exit_code = 42


class ClientMissing(SourceError):
    """The engine's dump or restore program is not installed."""

    exit_code = 43


class ClientTooOld(SourceError):
    """The installed dump or restore program is too old for the server or the dump."""

    exit_code = 44


class DumpFailed(SourceError):
    """A stream of the dump did not complete; `details` holds the child's last lines."""

    exit_code = 45


class DumpStalled(DumpFailed):
    """A stream of the dump produced no data for longer than the stall timeout."""

    exit_code = 46


class TargetNotEmpty(SourceError):
    """The target of a restore already holds data."""

    exit_code = 47


class TargetMissing(SourceError):
    """The target of a restore does not exist and may not be created."""

    exit_code = 48


class RestoreFailed(SourceError):
    """The engine rejected the restored stream; `details` holds its last lines."""

    exit_code = 49


class PartialFailure(PenstockError):
    """Some parts of the work failed while others succeeded; counts as a failure. `details` names each part."""

    exit_code = 50


class RestoredInPart(PartialFailure):
    """A restore is complete but for the objects that `details` names: the target could not take them."""

    exit_code = 51


class BackedUpInPart(PartialFailure):
    """A backup is committed, without the objects that `details` names: the source could not dump them."""

    exit_code = 52


class ReplicatedInPart(PartialFailure):
    """A replica is up to date, without the snapshots and objects that `details` names: they cannot be copied."""

    exit_code = 53


class RepairedInPart(PartialFailure):
    """A repair is done, and the snapshots that `details` names still cannot be restored whole."""

    exit_code = 54


class Interrupted(PenstockError):
    """The operator or the system ended the run."""

    exit_code = 130
