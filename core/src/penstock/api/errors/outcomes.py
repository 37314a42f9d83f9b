"""Errors of work that was done in part, or was interrupted."""

from penstock.api.errors.base import PenstockError

__all__ = [
    "BackedUpInPart",
    "Interrupted",
    "PartialFailure",
    "RepairedInPart",
    "ReplicatedInPart",
    "RestoredInPart",
    "WorkerDied",
]


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


class WorkerDied(PenstockError):
    """A process that wrote a stream of a dump died, and so did the one that tried again. Nothing was committed."""

    exit_code = 70
    retryable = True


class Interrupted(PenstockError):
    """The operator or the system ended the run."""

    exit_code = 130
