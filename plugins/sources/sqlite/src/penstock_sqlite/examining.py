"""The check that a restored database has to pass before it takes its place."""

import os
import time
from pathlib import Path
from urllib.parse import quote

from penstock.api import Interrupted, Report, RestoreFailed, StopToken
from penstock_sqlite.options import Check

__all__ = ["examine"]

_PRAGMAS: dict[str, str] = {"quick": "PRAGMA quick_check(20)", "full": "PRAGMA integrity_check(20)"}
_STEPS_BETWEEN_CALLS = 100_000
#: After so many seconds the operator is told what is going on, and then each time as many have passed again.
_TELL_SECONDS = 5.0


class _Watch:
    """Called during the check: says that it goes on, and ends it at a stop."""

    def __init__(self, place: Path, stop: StopToken, report: Report) -> None:
        self._place = place
        self._stop = stop
        self._report = report
        self._began = time.monotonic()
        self._next = _TELL_SECONDS

    def __call__(self) -> bool:
        passed = time.monotonic() - self._began
        if passed >= self._next:
            self._next = 2 * passed
            self._report.note(f"{self._place}: SQLite checks the restored database, for {passed:.0f} seconds so far")
        return self._stop.stopped


def examine(beside: Path, place: Path, check: Check, stop: StopToken, report: Report) -> None:
    """Raises `RestoreFailed` unless SQLite finds the database sound.

    A database may need collations or modules that only its application brings. What cannot be checked for that reason
    is let through with a warning: that the bytes are those of the dump is proven elsewhere.
    """
    import sqlite3  # the command line starts without it

    # Immutable: no locks and no -wal file, and nobody else knows the name.
    connection = sqlite3.connect(f"file:{quote(os.fsencode(beside))}?mode=ro&immutable=1", uri=True)
    connection.text_factory = lambda data: data.decode(errors="replace")
    # Python looks for signals when it runs; without a call now and then, Ctrl-C would wait for the end of the check.
    connection.set_progress_handler(_Watch(place, stop, report), _STEPS_BETWEEN_CALLS)
    try:
        lines = tuple(str(row[0]) for row in connection.execute(_PRAGMAS[check]))
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_INTERRUPT:
            raise Interrupted("interrupted") from error
        if code == sqlite3.SQLITE_ERROR:
            report.warn(f"{place}: the structure of the restored database could not be checked here: {error}")
            return
        if code not in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            raise RestoreFailed(f"{place}: the restored database cannot be checked: {error}") from error
        lines = (str(error),)
    finally:
        connection.close()
    if lines != ("ok",):
        raise RestoreFailed(
            f"{place}: the restored database is damaged, and was not put in place",
            hint="Restore an older snapshot, or this one as it is with the option check=off: it was dumped like that.",
            details=lines,
        )
