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
├── WorkerDied                   70   a process that wrote a stream died, twice (a retry can help)
└── Interrupted                 130   Ctrl-C or SIGTERM
"""

from penstock.api.errors.base import PenstockError
from penstock.api.errors.base import say_more as say_more  # not an error, so not in __all__
from penstock.api.errors.keys import (
    KeyMissing,
    KeyProblem,
    RoleForbids,
    WrongKey,
    WrongPassphrase,
)
from penstock.api.errors.outcomes import (
    BackedUpInPart,
    Interrupted,
    PartialFailure,
    RepairedInPart,
    ReplicatedInPart,
    RestoredInPart,
    WorkerDied,
)
from penstock.api.errors.repositories import (
    CheckFailed,
    DamagedObject,
    MissingObject,
    NotCopied,
    NothingKept,
    OtherHistory,
    OtherRepository,
    PruneRunning,
    RepositoryError,
    RepositoryExists,
    RepositoryMissing,
    SessionLost,
    SnapshotHeld,
    SnapshotNotFound,
    UnsupportedFormat,
)
from penstock.api.errors.sinks import (
    ObjectExists,
    ObjectLocked,
    ObjectMissing,
    SinkDenied,
    SinkError,
    SinkFull,
    SinkUnreachable,
)
from penstock.api.errors.sources import (
    ClientMissing,
    ClientTooOld,
    DumpFailed,
    DumpStalled,
    RestoreFailed,
    SourceDenied,
    SourceError,
    SourceUnreachable,
    TargetMissing,
    TargetNotEmpty,
)
from penstock.api.errors.surroundings import (
    NoPolicy,
    PluginClash,
    PluginError,
    PluginNotFound,
    PolicyKeepsNothing,
    SecretUnavailable,
    SettingsError,
    UsageError,
)

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
    "WorkerDied",
    "WrongKey",
    "WrongPassphrase",
]
