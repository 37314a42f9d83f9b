"""Lists what a database holds, under the dump's own view. Imports nothing outside the standard library."""

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass

from penstock_sqlite.view import View, ViewError

__all__ = ["Item", "examine", "glance", "inventory"]

#: Seconds that counting and measuring may take together.
BUDGET = 2.0
#: Seconds that a check may take that nobody asked for.
GLANCE = 5.0
_STEPS_BETWEEN_CALLS = 20_000


@dataclass(frozen=True, slots=True)
class Item:
    """A table or view, with its exact number of rows and its size in bytes (indexes included), where known."""

    kind: str
    name: str
    rows: int | None = None
    size: int | None = None


def inventory(view: View, *, count: bool, on_wait: Callable[[], None]) -> tuple[list[Item], list[str]]:
    """All tables and views by name, and warnings about those that cannot be read.

    `on_wait` is called now and then; it may raise nothing, and may end the process.
    """
    deadline = time.monotonic() + BUDGET

    def late() -> bool:
        on_wait()
        return time.monotonic() > deadline

    warnings: list[str] = []
    objects = _objects(view)
    view.connection.set_progress_handler(late, _STEPS_BETWEEN_CALLS)
    try:
        rows = {name: _rows(view, name, warnings) for kind, name in objects if kind == "table"} if count else {}
        sizes = _sizes(view) if count else {}
    finally:
        view.connection.set_progress_handler(None, 0)
    return [Item(kind, name, rows.get(name), sizes.get(name)) for kind, name in objects], warnings


def examine(view: View, *, full: bool, on_wait: Callable[[], None]) -> None:
    """Run SQLite's own check over the whole database; raises `ViewError` with what it found."""

    def go_on() -> bool:
        on_wait()
        return False

    if lines := _found(view, "integrity_check" if full else "quick_check", go_on):
        raise ViewError("broken", f"{view.path} is damaged", "Save what `sqlite3 FILE .recover` finds.", lines)


def glance(view: View, *, on_wait: Callable[[], None], seconds: float = GLANCE) -> tuple[tuple[str, ...], str]:
    """Run SQLite's quick check for as long as `seconds`: what it found, and why it could not run, if it could not.

    Both are empty where it found nothing, or not in time.
    """
    deadline = time.monotonic() + seconds

    def late() -> bool:
        on_wait()
        return time.monotonic() > deadline

    try:
        return _found(view, "quick_check", late), ""
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_INTERRUPT:
            return (), ""
        if code == sqlite3.SQLITE_CORRUPT:
            return (str(error),), ""
        return (), str(error)


def _found(view: View, check: str, go_on: Callable[[], bool]) -> tuple[str, ...]:
    view.connection.set_progress_handler(go_on, _STEPS_BETWEEN_CALLS)
    try:
        lines = tuple(str(row[0]) for row in view.connection.execute(f"PRAGMA {check}(20)"))
    finally:
        view.connection.set_progress_handler(None, 0)
    return () if lines == ("ok",) else lines


def _objects(view: View) -> list[tuple[str, str]]:
    rows = view.connection.execute(
        "SELECT type, name, sql LIKE 'CREATE VIRTUAL%' FROM sqlite_master"
        " WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
    )
    return [("virtual table" if virtual else kind, name) for kind, name, virtual in rows]


def _rows(view: View, name: str, warnings: list[str]) -> int | None:
    try:
        row = view.connection.execute('SELECT count(*) FROM "{}"'.format(name.replace('"', '""'))).fetchone()  # noqa: S608
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code != sqlite3.SQLITE_INTERRUPT:
            warnings.append(f"table {name} cannot be read: {error}")
        return None
    return int(row[0])


def _sizes(view: View) -> dict[str, int]:
    """Bytes by table; empty where this SQLite has no `dbstat`, or when time is up."""
    try:
        return dict(
            view.connection.execute(
                "SELECT o.tbl_name, sum(s.pgsize) FROM dbstat s JOIN sqlite_master o ON o.name = s.name GROUP BY 1"
            )
        )
    except sqlite3.Error:
        return {}
