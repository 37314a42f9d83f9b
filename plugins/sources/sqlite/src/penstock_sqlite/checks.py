"""What is looked for before a dump: it prevents none, but should be known. One list."""

from collections.abc import Iterator, Mapping
from typing import Any

from penstock.api import Check

__all__ = ["CHECKS"]

#: What the reader process tells of its view.
Answer = Mapping[str, Any]


def _leaves_files(answer: Answer) -> Iterator[str]:
    if answer["leaves_files"]:
        yield (
            "the database is in WAL mode and was not in use: this user is not its owner, and the -wal and -shm files "
            "that reading it makes may keep the owner from writing. Run the backup as the owner"
        )


def _writers_wait(answer: Answer) -> Iterator[str]:
    if answer["journal_mode"] != "wal" and not answer["copied"] and not answer["immutable"]:
        yield (
            "the database is in rollback-journal mode: for the length of the dump its writers cannot commit. "
            "WAL mode ends that; the setting copy_to shortens it to the length of a copy"
        )


def _damaged(answer: Answer) -> Iterator[str]:
    if lines := answer["damage"]:
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        yield (
            f"the database is damaged, and backed up as it is: {' '.join(lines[0].split())}{more}. Save what "
            "`sqlite3 FILE .recover` finds, and keep the snapshots from before"
        )


def _unreadable(answer: Answer) -> Iterator[str]:
    yield from answer["unreadable"]


def _unchecked(answer: Answer) -> Iterator[str]:
    if answer["unchecked"]:
        yield (
            f"the database could not be checked here: {answer['unchecked']}. Who restores it needs the application "
            "that brings it along"
        )


#: In the order in which they are said; `settings.CheckName` has their names.
CHECKS: tuple[Check[Answer], ...] = (
    Check("leaves-files", "files of another user beside a database keep its owner out", _leaves_files),
    Check("writers-wait", "a read transaction in rollback-journal mode keeps writers from committing", _writers_wait),
    Check("damaged", "a damaged database is restored with an option alone", _damaged),
    Check("unreadable-table", "a table that cannot be read is in the snapshot, and cannot be read there", _unreadable),
    Check("unchecked", "collations, functions and modules of an application are not in the file", _unchecked),
)
