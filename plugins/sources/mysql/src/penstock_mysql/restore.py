"""A restore that is going on: tables first, those of all databases, then accounts, programs, and grants at the end."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain

from pymysql import err

from penstock.api import (
    LeftOut,
    PenstockError,
    Report,
    Restore,
    RestoreFailed,
    RestorePlan,
    StopToken,
    StreamSpec,
    UsageError,
    found_by,
)
from penstock.api.servers import leave_out, listed, undone_unless_finished
from penstock_mysql.accounts import AccountScript
from penstock_mysql.attempts import run_all
from penstock_mysql.attributes import DatabaseAttributes
from penstock_mysql.checks import RESTORE_CHECKS
from penstock_mysql.client import client_for_restore, find_clients
from penstock_mysql.connection import Connection, connect, execute, is_lost, quoted, rows, said_by, translated
from penstock_mysql.dialect import server_version
from penstock_mysql.feeding import ADVICE, TableFeed, adapted, invalid_dates_kept, passed_over, sequences_renamed
from penstock_mysql.foresight import session_settings
from penstock_mysql.options import RestoreOptions
from penstock_mysql.placing import Placement, database_exists, move_tables, place
from penstock_mysql.privileges import granted
from penstock_mysql.programs import ProgramMaker
from penstock_mysql.settings import MySQLSettings
from penstock_mysql.splitting import Program, Splitter
from penstock_mysql.storing import Storing
from penstock_mysql.survey import ACCOUNTS, DATABASE
from penstock_mysql.tablespaces import changed, without
from penstock_mysql.target import MayNotReplace, may_make_accounts, target_name

__all__ = ["restoring"]

_WHY = "MySQL and MariaDB cannot undo what changes tables"


@contextmanager
def restoring(settings: MySQLSettings, plan: RestorePlan, *, stop: StopToken, report: Report) -> Iterator[Restore]:
    """One restore; when the block is left without `finish`, the databases that it had made are dropped again.

    A database that is there is loaded beside under another name. When the tables of all databases are whole, the old
    one is dropped and they are moved to its name. The engine cannot undo what changes tables: where there was no right
    to load beside, the error says what is left.
    """
    for warning in found_by(RESTORE_CHECKS, settings, settings.warnings):
        report.warn(warning)
    with undone_unless_finished(_Work(settings, plan, stop, report)) as restore:
        yield restore


class _Work:
    """What one restore has written to: the places of databases, and which of these took the place of an old one."""

    def __init__(self, settings: MySQLSettings, plan: RestorePlan, stop: StopToken, report: Report) -> None:
        self._settings = settings
        self._stop = stop
        self._report = report
        self._clean = plan.target.clean
        self._strict = plan.target.strict
        self._known = {(one.kind, one.database, one.name) for one in plan.left_out}
        self._known_grants = {(one.kind, one.name) for one in plan.left_out}
        self._options = RestoreOptions.of(plan.target)
        self._connection: Connection | None = None
        self._feed: TableFeed | None = None
        self._places: dict[str, Placement] = {}
        self._programs: dict[str, list[Program]] = {}
        self._accounts: AccountScript | None = None
        self._storing = Storing(self._options.tablespaces)
        #: Databases whose DROP was sent, and those whose new tables are in their place.
        self._dropping: set[str] = set()
        self._moved: set[str] = set()

    def write(self, spec: StreamSpec, blocks: Iterable[memoryview]) -> None:
        """Restore one stream."""
        if spec.format == DATABASE:
            self._write_database(spec, blocks)
        elif spec.format == ACCOUNTS:
            self._write_accounts(blocks)
        else:
            raise UsageError(f"{spec.name} has the format {spec.format}, which is not one of MySQL's")

    def finish(self) -> None:
        """Make what needs the tables of all databases, and keep everything."""
        if self._feed:
            self._feed.finish()
        with translated("cannot complete the restore", RestoreFailed):
            connection = self._session()
            missing: list[LeftOut] = []
            if self._accounts:
                missing += self._accounts.make(connection)
                self._leave_out(missing)
                if self._accounts.kept:
                    kept = listed(self._accounts.kept, "account", "accounts")
                    self._report.note(f"{kept}: the server has it already, and it stays as it is")
            if self._strict:
                self._rehearse()
            for one in self._places.values():
                self._put_in_place(connection, one)
            self._make_programs(connection)
        self._places.clear()
        self._storing.made.clear()
        if self._accounts:
            self._accounts.keep()

    def undo(self) -> tuple[str, ...]:
        """Leave nothing half restored where that is possible; says what is left, and what is gone."""
        if self._feed:
            self._feed.abort()
        places, self._places = self._places, {}
        lines = [self._undone(one) for one in places.values()]
        accounts, self._accounts = self._accounts, None
        if accounts:
            try:
                lines.append(accounts.undo(self._session()))
            except (PenstockError, err.Error):
                lines.append("accounts that the restore had made may be left: look for them")
        if self._storing.made:
            try:
                lines += self._storing.undo(self._session())
            except (PenstockError, err.Error):
                lines.append(f"tablespaces that the restore had made may be left: {', '.join(self._storing.made)}")
        if self._connection:
            self._connection.close()
        return tuple(filter(None, lines))

    def _session(self) -> Connection:
        """The connection of this restore, or a new one where the server has ended it."""
        if self._connection:
            try:
                rows(self._connection, "SELECT 1")
            except err.Error:
                self._connection.close()
                self._connection = None
        self._connection = self._connection or connect(self._settings)
        return self._connection

    def _write_database(self, spec: StreamSpec, blocks: Iterable[memoryview]) -> None:
        rest = iter(blocks)
        first = next((bytes(block) for block in rest if block), b"")
        recorded = DatabaseAttributes.of(spec)
        connection = self._session()
        name = target_name(self._settings, spec, self._options)
        with translated(f"cannot prepare the database {name}", RestoreFailed):
            one = place(connection, granted(connection), name, self._options, clean=self._clean)
            if one is None:
                raise MayNotReplace(name)
            if one.how == "replace":
                self._drop_old(connection, name)
            self._places[name] = one
            if one.how != "into":
                execute(connection, _create(connection, one.work, recorded))
            refused = self._storing.refused(connection, one.work, recorded, beside=one.how == "beside")
            while self._storing.warnings:
                self._report.warn(self._storing.warnings.pop())
            self._feed = self._feed or self._new_feed(connection, spec)
        splitter = Splitter(spec.name)
        whole = chain([memoryview(first)], rest)
        text = invalid_dates_kept(adapted(passed_over(whole, recorded.too_large), recorded.database, name))
        if refused:
            text = changed(text, partial(without, refused=refused))
        if name != recorded.database and recorded.server_version.startswith("MariaDB"):
            text = sequences_renamed(text, recorded.database, name)
        self._feed.feed(splitter.tables(text), one.work, spec.name)
        self._programs[name] = [
            program for program in splitter.programs if (program.kind, name, program.name) not in self._known
        ]

    def _new_feed(self, connection: Connection, spec: StreamSpec) -> TableFeed:
        clients = find_clients("restore", self._settings.client_path, self._stop)
        client = client_for_restore(connection.version, clients, server_version(spec.attributes["server_version"]))
        return TableFeed(self._settings, client, session_settings(connection), self._stop)

    def _write_accounts(self, blocks: Iterable[memoryview]) -> None:
        wish = self._options.accounts
        with translated("cannot restore the accounts", RestoreFailed):
            may_not = wish == "auto" and not may_make_accounts(granted(self._session()))
        if wish == "no" or may_not:
            if may_not:
                self._report.warn("accounts are left out: the account that restores may not make others")
            for _ in blocks:
                pass
            return
        self._accounts = AccountScript(blocks)

    def _rehearse(self) -> None:
        """Make all programs beside the old databases, which are lost as soon as these are replaced."""
        beside = {one.work: self._programs[name] for name, one in self._places.items() if one.how == "beside"}
        with connect(self._settings) as connection:
            maker = ProgramMaker(connection, beside, own=self._options.definers == "mine")
            maker.make_placeholders()
            attempts = (attempt for attempt in maker.attempts() if attempt.one.kind != "event")
            leave_out(run_all(attempts), self._report, strict=True, advice=ADVICE)
            maker.drop_triggers()

    def _put_in_place(self, connection: Connection, one: Placement) -> None:
        if one.how != "beside":
            return
        execute(connection, "SET SESSION foreign_key_checks = 0")
        ((_, create),) = rows(connection, f"SHOW CREATE DATABASE {quoted(one.work if self._clean else one.name)}")
        if self._clean:
            self._drop_old(connection, one.name)
            execute(connection, str(create).replace(quoted(one.work), quoted(one.name), 1))
        move_tables(connection, one.work, one.name)
        self._moved.add(one.name)
        execute(connection, f"DROP DATABASE IF EXISTS {quoted(one.work)}")

    def _drop_old(self, connection: Connection, name: str) -> None:
        self._dropping.add(name)  # before: the server goes on with a DROP that is interrupted here
        try:
            execute(connection, f"DROP DATABASE {quoted(name)}")
        except err.Error as error:
            if not is_lost(error):  # refused: it is as it was
                self._dropping.discard(name)
            raise

    def _make_programs(self, connection: Connection) -> None:
        grants = self._accounts.grants(connection, self._known_grants) if self._accounts else []
        with connect(self._settings) as other:
            maker = ProgramMaker(other, self._programs, own=self._options.definers == "mine")
            maker.make_placeholders()
            missing = run_all(chain(maker.attempts(), grants))
            maker.drop_placeholders(missing)
            if missing:
                missing += maker.broken_views(missing)
        self._leave_out(missing)

    def _leave_out(self, found: Iterable[LeftOut]) -> None:
        leave_out(found, self._report, strict=self._strict, advice=ADVICE)

    def _undone(self, one: Placement) -> str:
        gone = "; what it held before is gone" if one.name in self._dropping else ""
        made = one.how in ("make", "replace")
        try:
            connection = self._session()
            if one.how == "beside":
                return self._undone_beside(connection, one)
            if made:
                execute(connection, f"DROP DATABASE IF EXISTS {quoted(one.name)}")
                return f"the database {one.name}, which the restore had made, was dropped again{gone}"
            query = "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s"
            ((count,),) = rows(connection, query, [one.name])
            what = "1 table or view is" if count == 1 else f"{count} tables and views are"
            return f"{_WHY}: {what} left in the database {one.name}" if count else ""
        except (PenstockError, err.Error) as error:  # its password may have no source any more
            reason = error.message if isinstance(error, PenstockError) else said_by(error)
            if one.how == "beside":
                return f"the database {one.work}, which the restore had made, could not be dropped again: {reason}"
            if made:
                return (
                    f"the database {one.name}, which the restore had made, could not be dropped again{gone}: {reason}"
                )
            return f"{_WHY}: a part of the dump is left in the database {one.name}{gone} ({reason})"

    def _undone_beside(self, connection: Connection, one: Placement) -> str:
        if one.name in self._moved:
            return (
                f"{_WHY}: the database {one.name} holds the tables of the dump"
                f"{'; what it held before is gone' if self._clean else ''}"
            )
        if one.name in self._dropping and not database_exists(connection, one.name):
            return (
                f"{one.name} was being dropped: what was restored is whole in the database {one.work}, "
                "from where RENAME TABLE takes it"
            )
        execute(connection, f"DROP DATABASE IF EXISTS {quoted(one.work)}")
        return f"{one.name} was being dropped: look whether it is still there" if one.name in self._dropping else ""


def _create(connection: Connection, name: str, recorded: DatabaseAttributes) -> str:
    statement = f"CREATE DATABASE {quoted(name)} CHARACTER SET {recorded.character_set} COLLATE {recorded.collation}"
    if recorded.comment and connection.is_mariadb:
        statement += f" COMMENT {connection.driver.escape(recorded.comment)}"
    return statement
