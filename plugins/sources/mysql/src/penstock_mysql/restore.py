"""A restore that is going on: databases that are made for it, and the accounts that the server lacks."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain

from pymysql import err

from penstock.api import (
    PenstockError,
    Report,
    Restore,
    RestoreFailed,
    RestoreTarget,
    StopToken,
    StreamSpec,
    UsageError,
)
from penstock.api.servers import undone_unless_finished
from penstock_mysql.accounts import restore_accounts
from penstock_mysql.attributes import DatabaseAttributes
from penstock_mysql.connection import Connection, connect, execute, is_lost, quoted, rows, said_by, translated
from penstock_mysql.feeding import feed_database
from penstock_mysql.options import RestoreOptions
from penstock_mysql.privileges import granted
from penstock_mysql.settings import MySQLSettings
from penstock_mysql.survey import ACCOUNTS, DATABASE
from penstock_mysql.target import database_exists, may_make_accounts, target_name

__all__ = ["restoring"]

_WHY = "MySQL and MariaDB cannot undo what changes tables"


@contextmanager
def restoring(settings: MySQLSettings, target: RestoreTarget, *, stop: StopToken, report: Report) -> Iterator[Restore]:
    """One restore; when the block is left without `finish`, the databases that it had made are dropped again.

    The engine cannot undo what changes tables: of a database that was there and empty, the error says what is left in
    it; and with `clean`, what a database held before was dropped when the first bytes of the new one came.
    """
    for warning in settings.tls_warnings:
        report.warn(warning)
    with undone_unless_finished(_Work(settings, target, stop, report)) as restore:
        yield restore


class _Work:
    """What one restore has written to: names of databases, and whether it has made them or found them empty."""

    def __init__(self, settings: MySQLSettings, target: RestoreTarget, stop: StopToken, report: Report) -> None:
        self._settings = settings
        self._stop = stop
        self._report = report
        self._clean = target.clean
        self._options = RestoreOptions.of(target)
        self._touched: dict[str, bool] = {}
        self._replaced: set[str] = set()

    def write(self, spec: StreamSpec, blocks: Iterable[memoryview]) -> None:
        """Restore one stream."""
        if spec.format == DATABASE:
            self._write_database(spec, blocks)
        elif spec.format == ACCOUNTS:
            self._write_accounts(blocks)
        else:
            raise UsageError(f"{spec.name} has the format {spec.format}, which is not one of MySQL's")

    def finish(self) -> None:
        """Keep everything."""
        self._touched.clear()
        self._replaced.clear()

    def undo(self) -> tuple[str, ...]:
        """Leave nothing half restored where that is possible; says what is left, and what is gone."""
        touched, self._touched = self._touched, {}
        lines = [self._undone(name, made=made) for name, made in touched.items()]
        lines += [
            f"{name} was being dropped: look whether it is still there" for name in self._replaced - touched.keys()
        ]
        return tuple(filter(None, lines))

    def _write_database(self, spec: StreamSpec, blocks: Iterable[memoryview]) -> None:
        rest = iter(blocks)
        first = next((bytes(block) for block in rest if block), b"")
        recorded = DatabaseAttributes.of(spec)
        with connect(self._settings) as connection:
            name = target_name(self._settings, spec, self._options)
            with translated(f"cannot prepare the database {name}", RestoreFailed):
                exists = database_exists(connection, name)
                if exists and self._clean:
                    self._drop_old(connection, name)
                made = not exists or self._clean
                self._touched[name] = made
                if made:
                    execute(connection, _create(connection, name, recorded))
            feed_database(self._settings, connection, spec, chain([memoryview(first)], rest), name, self._stop)

    def _drop_old(self, connection: Connection, name: str) -> None:
        self._replaced.add(name)  # before: the server goes on with a DROP that is interrupted here
        try:
            execute(connection, f"DROP DATABASE {quoted(name)}")
        except err.Error as error:
            if not is_lost(error):  # refused: it is as it was
                self._replaced.discard(name)
            raise

    def _write_accounts(self, blocks: Iterable[memoryview]) -> None:
        wish = self._options.accounts
        with connect(self._settings) as connection, translated("cannot restore the accounts", RestoreFailed):
            if wish == "no" or (wish == "auto" and not may_make_accounts(granted(connection))):
                if wish == "auto":
                    self._report.warn("accounts are left out: the account that restores may not make others")
                for _ in blocks:
                    pass
                return
            restore_accounts(connection, blocks, keep=connection.user)

    def _undone(self, name: str, *, made: bool) -> str:
        gone = "; what it held before is gone" if name in self._replaced else ""
        try:
            with connect(self._settings) as connection:
                if made:
                    execute(connection, f"DROP DATABASE IF EXISTS {quoted(name)}")
                    return f"the database {name}, which the restore had made, was dropped again{gone}"
                query = "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s"
                ((count,),) = rows(connection, query, [name])
                what = "1 table or view is" if count == 1 else f"{count} tables and views are"
                return f"{_WHY}: {what} left in the database {name}" if count else ""
        except (PenstockError, err.Error) as error:  # its password may have no source any more
            reason = error.message if isinstance(error, PenstockError) else said_by(error)
            if made:
                return f"the database {name}, which the restore had made, could not be dropped again{gone}: {reason}"
            return f"{_WHY}: a part of the dump is left in the database {name}{gone} ({reason})"


def _create(connection: Connection, name: str, recorded: DatabaseAttributes) -> str:
    statement = f"CREATE DATABASE {quoted(name)} CHARACTER SET {recorded.character_set} COLLATE {recorded.collation}"
    if recorded.comment and connection.is_mariadb:
        statement += f" COMMENT {connection.driver.escape(recorded.comment)}"
    return statement
