"""Statements of a restore that may fail: each costs itself alone, and is tried again when others have made its way."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from pymysql import err

from penstock.api import LeftOut
from penstock_mysql.connection import is_lost, said_by

__all__ = ["Attempt", "run_all", "said_of"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """What `run` makes, as `one` says it where that fails with one of the driver's errors."""

    one: LeftOut
    run: Callable[[], None]


def run_all(attempts: Iterable[Attempt]) -> list[LeftOut]:
    """Run all of them, and those that failed again as long as one more succeeds; gives what cannot be made.

    Raises the driver's error when the connection is lost.
    """
    waiting = list(attempts)
    while True:
        failed: list[tuple[Attempt, str]] = []
        for attempt in waiting:
            try:
                attempt.run()
            except err.Error as error:
                if is_lost(error):
                    raise
                failed.append((attempt, said_of(error, secret=attempt.one.secret)))
        if len(failed) in (0, len(waiting)):
            return [replace(attempt.one, reason=reason) for attempt, reason in failed]
        waiting = [attempt for attempt, _ in failed]


def said_of(error: err.Error, *, secret: bool) -> str:
    """What the server says, without what it quotes of a secret statement."""
    return re.sub(r" near '.*", "", said_by(error), flags=re.DOTALL) if secret else said_by(error)
