"""Work on many collections of a target, several at once: what is refused is named, and costs nothing else."""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from pymongo.errors import AutoReconnect

from penstock.api import Interrupted, LeftOut, StopToken

__all__ = ["WORKERS", "Outcome", "persistently", "run_jobs"]

#: As many collections at once as mongorestore restores.
WORKERS = 4
_ATTEMPTS = 3


@dataclass(slots=True)
class Outcome:
    """What became of one job. An `error` is of the server as a whole, and ends all of them."""

    left_out: list[LeftOut] = field(default_factory=list)
    #: A sentence about each thing that had to be changed.
    changed: list[str] = field(default_factory=list)
    error: Exception | None = None


def run_jobs(
    jobs: Sequence[Callable[[], Outcome]],
    *,
    on_left_out: Callable[[LeftOut], None],
    on_changed: Callable[[str], None] = lambda _: None,
    stop: StopToken,
    workers: int = WORKERS,
) -> None:
    """Do all of them, `workers` at once; what the target refuses goes to `on_left_out`, whose error ends it.

    `on_changed` gets a sentence about each thing that had to be changed. Raises `Interrupted`, or `PyMongoError` when
    the server is gone. A job that was begun is then left to whoever drops the database.
    """
    waiting: SimpleQueue[Callable[[], Outcome]] = SimpleQueue()
    for job in jobs:
        waiting.put(job)
    outcomes: SimpleQueue[Outcome | None] = SimpleQueue()
    ended = threading.Event()

    def work() -> None:
        with suppress(Empty):
            while not ended.is_set():
                job = waiting.get_nowait()
                try:
                    outcome = job()
                except Exception as error:  # noqa: BLE001 - raised again by who waits for it
                    outcome = Outcome(error=error)
                outcomes.put(outcome)

    # They die with the process: a server may take hours for one index, and be asked to stop.
    for _ in range(min(workers, len(jobs))):
        threading.Thread(target=work, daemon=True).start()
    try:
        with stop.on_stop(lambda: outcomes.put(None)):
            for _ in jobs:
                outcome = outcomes.get()
                if outcome is None:
                    raise Interrupted("interrupted")
                if outcome.error is not None:
                    raise outcome.error
                for sentence in outcome.changed:
                    on_changed(sentence)
                for left in outcome.left_out:
                    on_left_out(left)
    finally:
        ended.set()


def persistently(call: Callable[[], object]) -> None:
    """Make a call that may be repeated, again where the connection is lost."""
    for attempt in range(_ATTEMPTS):
        try:
            call()
        except AutoReconnect:
            if attempt + 1 == _ATTEMPTS:
                raise
        else:
            return
