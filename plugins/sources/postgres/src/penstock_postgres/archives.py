"""The restore of pg_dump's archives into one database: pg_restore makes SQL of them, which is run here."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress

import psycopg
from psycopg import sql

from penstock.api import Report, RestoreFailed, StopToken, StreamSpec, env_for_child, filtered, say_more
from penstock_postgres.attributes import ArchiveAttributes
from penstock_postgres.client import Client, client_for_restore
from penstock_postgres.connection import Connection, cancelled_by, connect, rows, said_by, translated
from penstock_postgres.loading import Loading, loading
from penstock_postgres.options import RestoreOptions
from penstock_postgres.script import Script
from penstock_postgres.settings import PostgresSettings

__all__ = ["Into", "restoring_into"]

_ANALYZED_AT_ONCE = 1000


class Into:
    """One database that is restored into: a session in it, and what makes SQL of archives."""

    def __init__(
        self, connection: Connection, client: Client, options: RestoreOptions, work: Loading, stop: StopToken
    ) -> None:
        self.connection = connection
        self.work = work
        self._program = client.program("pg_restore")
        self._options = options
        self._stop = stop

    def run(
        self, name: str, blocks: Iterable[memoryview], *words: str, clean: bool = False, only_drops: bool = False
    ) -> None:
        """Run what pg_restore makes of the archive `name`; `words` are further options.

        With `clean` what it holds is dropped first, with `only_drops` nothing is done after that.
        """
        script = filtered(
            [*_command(self._program, self._options, clean=clean), *words],
            blocks,
            name=f"pg_restore of {name}",
            env=env_for_child({}),
            stop=self._stop,
        )
        with closing(script):
            statements = Script(script)
            # They stand before the first entry.
            self.work.run((one for one in statements if one.entry is None) if only_drops else statements)


@contextmanager
def restoring_into(
    settings: PostgresSettings,
    spec: StreamSpec,
    database: str,
    options: RestoreOptions,
    clients: Sequence[Client],
    *,
    final: str,
    atomic: bool,
    strict: bool,
    stop: StopToken,
    report: Report,
) -> Iterator[Into]:
    """A session in `database`, for the archive `spec`; what the server refuses is told to `report`, or raised.

    With `atomic` nothing is committed before the block has ended well: whatever fails, the database is as it was.
    `final` is the name that the database will have, for what is told. Raises `RestoreFailed`, also with `strict` for
    the first thing that the server refuses.
    """
    recorded = ArchiveAttributes.of(spec)
    with connect(settings, database=database) as connection:
        server = connection.info.parameter_status("server_version") or "unknown"
        client = client_for_restore(recorded.client_version, server, clients)
        doing = f"cannot restore into {final}"
        with translated(doing, RestoreFailed):
            _make_own(connection)
        with (
            _schemas(connection, recorded),
            translated(doing, RestoreFailed),
            cancelled_by(stop, connection),
            loading(connection, options, final=final, atomic=atomic, strict=strict, stop=stop, report=report) as work,
        ):
            yield Into(connection, client, options, work, stop)
        if options.analyze == "yes":
            # The data is there, and autovacuum will do the same later: no reason to call the restore a failure.
            with suppress(psycopg.Error), cancelled_by(stop, connection):
                if connection.info.parameter_status("server_encoding") != "SQL_ASCII":
                    connection.execute("RESET client_encoding")  # the dump's, in which names would not be read
                _analyze(connection)


@contextmanager
def _schemas(connection: Connection, recorded: ArchiveAttributes) -> Iterator[None]:
    """Make the schemas that chosen tables need, and drop them again if the block fails."""
    there = {name for (name,) in rows(connection, "SELECT nspname FROM pg_catalog.pg_namespace")}
    made = [sql.Identifier(name) for name in recorded.needs_schemas if name not in there]
    with translated("cannot make the schemas of the chosen tables", RestoreFailed):
        for name in made:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(name))
    try:
        yield
    except BaseException as error:
        for name in made:
            try:
                connection.execute(sql.SQL("DROP SCHEMA {}").format(name))
            except psycopg.Error as refused:
                shown = name.as_string(None)
                say_more(error, f"the schema {shown}, which the restore had made, is left: {said_by(refused)}")
        raise


def _analyze(connection: Connection) -> None:
    """ANALYZE, but for the system catalogs: those of an empty database take longer than most tables.

    A partitioned table stands for its partitions.
    """
    query = """
    SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'
        AND n.nspname <> 'information_schema'
    """
    tables = rows(connection, query)
    for begin in range(0, len(tables), _ANALYZED_AT_ONCE):
        some = tables[begin : begin + _ANALYZED_AT_ONCE]
        connection.execute(sql.SQL("ANALYZE {}").format(sql.SQL(", ").join(sql.Identifier(*one) for one in some)))


def _command(program: str, options: RestoreOptions, *, clean: bool) -> list[str]:
    words = {
        "--clean": clean,
        "--if-exists": clean,
        "--no-owner": options.owners == "no",
        "--no-privileges": options.privileges == "no",
        "--no-tablespaces": options.tablespaces == "no",
    }
    return [program, "--file=-", *(word for word, wanted in words.items() if wanted)]


def _make_own(connection: Connection) -> None:
    """Undo what settings of the database would change: who acts, and that what is reported is on the disk."""
    connection.execute("SET ROLE NONE")
    if rows(connection, "SHOW synchronous_commit") == [("off",)]:
        connection.execute("SET synchronous_commit = on")
