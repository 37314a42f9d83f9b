"""Errors that sources raise, and those about the programs of a database engine."""

from penstock.api.errors.base import PenstockError

__all__ = [
    "ClientMissing",
    "ClientTooOld",
    "DumpFailed",
    "DumpStalled",
    "RestoreFailed",
    "SourceDenied",
    "SourceError",
    "SourceUnreachable",
    "TargetMissing",
    "TargetNotEmpty",
]


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
