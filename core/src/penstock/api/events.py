"""What happens, told to whoever listens: the CLI's progress, and plugins that implement `penstock_on_event`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["Event", "EventKind"]


class EventKind(StrEnum):
    """The kinds of events, in the order in which an operation gives them."""

    STARTED = "started"
    PROGRESS = "progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CHECKED = "checked"


@dataclass(frozen=True, slots=True)
class Event:
    """One event of one operation (`backup`, `restore`, `check`).

    `subject` is what it is about (a backup's name, a snapshot, an object's key); `stream` the stream at hand.
    `done` and `total` are bytes, `total` an estimate or None. `figures` holds counts by name; `message` is for people.
    None of it holds a secret.
    """

    kind: EventKind
    operation: str
    subject: str = ""
    stream: str = ""
    done: int = 0
    total: int | None = None
    message: str = ""
    figures: Mapping[str, int] = field(default_factory=dict)
