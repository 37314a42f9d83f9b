"""Events of a run, for listeners: the command's progress, and plugins that implement `penstock_on_event`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol

from penstock.api.models import LeftOut

__all__ = ["Event", "EventKind", "Report", "SilentReport"]


class EventKind(StrEnum):
    """The kinds of events. `STARTED` comes first, then any of the others, and `COMPLETED` or `FAILED` last."""

    STARTED = "started"
    #: A phase of the operation begins; `done` and `total` count from here.
    PHASE = "phase"
    PROGRESS = "progress"
    #: Something worth knowing.
    NOTE = "note"
    #: Something that deserves attention but stops nothing.
    WARNING = "warning"
    #: A dump or a restore leaves an object out.
    LEFT_OUT = "left-out"
    #: A request or a stream is tried again.
    RETRY = "retry"
    #: An object was found damaged or missing.
    FINDING = "finding"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Event:
    """One event of one run of an operation (`backup`, `restore`, `check`).

    `run` identifies the run (32 hexadecimal digits), `time` is when the event happened (UTC). `subject` is what the
    run is about (a backup's name, a snapshot) or, for a finding, an object's key; `stream` is the one that the
    event is about, of which `stream_done` bytes are processed: several may be at work at once. `phase` is what the
    operation is doing (`preparing`, `dumping`, `committing`, `verifying`, `restoring`, `listing`, `reading`,
    `checking`). `done` and `total` are bytes of the phase, `total` an estimate or None. `retries` counts the run's
    retried requests and streams so far. `figures` holds counts by name; `message` is for people. No field contains
    a secret.
    """

    kind: EventKind
    operation: str
    subject: str = ""
    stream: str = ""
    done: int = 0
    total: int | None = None
    message: str = ""
    figures: Mapping[str, int] = field(default_factory=dict)
    phase: str = ""
    retries: int = 0
    run: str = ""
    stream_done: int = 0
    time: datetime = field(default_factory=lambda: datetime.now(UTC))


class Report(Protocol):
    """Takes messages of a plugin during its work; the core turns them into events. Thread-safe; never raises.

    A message is one sentence for people, without a secret.
    """

    def note(self, message: str) -> None:
        """Something worth knowing."""

    def warn(self, message: str) -> None:
        """Something that deserves attention but stops nothing; also part of the run's result."""

    def retry(self, message: str) -> None:
        """Something is being retried, and why."""

    def left_out(self, one: LeftOut) -> None:
        """A dump or a restore leaves an object out; also part of the run's result."""


class SilentReport:
    """A `Report` that discards everything."""

    def note(self, message: str) -> None:
        """Do nothing."""

    def warn(self, message: str) -> None:
        """Do nothing."""

    def retry(self, message: str) -> None:
        """Do nothing."""

    def left_out(self, one: LeftOut) -> None:
        """Do nothing."""
