"""Each thing that is looked for before a dump has a name, a reason, a switch, and a database that shows it."""

from pathlib import Path
from typing import get_args

import psycopg
import pytest
from plugins.sources.postgres.tests.conftest import MakeSource
from tests.servers.postgres import MAJORS, PostgresServer, PostgresServers, find_binaries
from tests.servers.streams import dump_all

from penstock.api import SourceError
from penstock_postgres import probe
from penstock_postgres.checks import DATABASE_CHECKS, SERVER_CHECKS
from penstock_postgres.client import find_clients
from penstock_postgres.settings import CheckName
from penstock_postgres.source import PostgresSource


def about(source: PostgresSource, check: str) -> list[str]:
    return [warning for warning in source.inspect().warnings if warning.endswith(f" [{check}]")]


def test_the_settings_know_all_names_and_each_has_a_reason() -> None:
    names = (*(check.name for check in SERVER_CHECKS), *(check.name for check in DATABASE_CHECKS))
    assert names == get_args(CheckName)
    assert all((*(check.reason for check in SERVER_CHECKS), *(check.reason for check in DATABASE_CHECKS)))


@pytest.mark.server
def test_a_check_that_is_ignored_says_nothing(newest_postgres: PostgresServer, source_of: MakeSource) -> None:
    with newest_postgres.database("quiet") as name:
        newest_postgres.execute("CREATE TABLE t (i integer)", name)
        some = source_of(newest_postgres, name, exclude_tables="nothing_*").inspect().warnings
        assert [one.rsplit(" ", 1)[1] for one in some] == ["[choice]", "[idle-pattern]"]
        quiet = {"ignore": ["idle-pattern", "choice"]}
        assert source_of(newest_postgres, name, exclude_tables="nothing_*", warnings=quiet).inspect().warnings == ()


@pytest.mark.server
def test_a_client_that_the_servers_own_cannot_follow_is_said(
    postgres_servers: PostgresServers, source_of: MakeSource
) -> None:
    oldest = postgres_servers.get(next(major for major in MAJORS if find_binaries(major)))
    newest = max(find_clients("pg_restore"), key=lambda client: client.major)
    if newest.major == oldest.major:
        pytest.skip("there is one major of PostgreSQL alone")
    with oldest.database("older") as name:
        (told,) = about(source_of(oldest, name, client_path=str(newest.folder)), "newer-client")
        assert f"needs pg_restore {newest.major} or newer" in told
        assert not about(source_of(oldest, name), "newer-client")


@pytest.mark.server
def test_an_index_that_pg_dump_leaves_out_is_named(newest_postgres: PostgresServer, source_of: MakeSource) -> None:
    with newest_postgres.database("invalid") as name:
        newest_postgres.execute("CREATE TABLE t AS SELECT 1 AS i FROM generate_series(1, 2)", name)
        with newest_postgres.connect(name) as connection, pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("CREATE UNIQUE INDEX CONCURRENTLY twice ON t (i)")
        source = source_of(newest_postgres, name, accounts="no")
        (told,) = about(source, "invalid-indexes")
        assert "the index public.twice is invalid" in told
        # It is as pg_dump does; otherwise the warning would be wrong.
        assert b"twice" not in dump_all(source)["invalid.dump"][1]
        assert not about(source_of(newest_postgres, name, exclude_tables="t"), "invalid-indexes")


@pytest.mark.server
def test_damaged_pages_that_the_server_has_met_are_said(newest_postgres: PostgresServer, source_of: MakeSource) -> None:
    server = newest_postgres
    ((folder,),) = server.query("SHOW data_directory")
    if server.query("SHOW data_checksums") != [("on",)] or not Path(folder).is_dir():
        pytest.skip("the server keeps no checksums, or is elsewhere")
    with server.database("sound") as name:
        server.execute("CREATE TABLE t AS SELECT generate_series(1, 100) AS i; CHECKPOINT", name)
        ((path,),) = server.query("SELECT pg_relation_filepath('t')", name)
        with (Path(folder) / path).open("r+b") as file:
            file.seek(4000)
            file.write(b"\xa5" * 64)
        # The server still has the sound page in memory; a copy of the files is read from the disk.
        server.execute("DROP DATABASE IF EXISTS damaged")
        server.execute(f"CREATE DATABASE damaged TEMPLATE {name} STRATEGY file_copy")
        try:
            assert not about(source_of(server, "damaged"), "checksum-failures")
            with server.connect("damaged") as connection, pytest.raises(psycopg.errors.DataCorrupted):
                connection.execute("SELECT count(*) FROM t")
            (told,) = about(source_of(server, "damaged"), "checksum-failures")
            assert "damaged pages in damaged (1 of them" in told
        finally:
            server.execute("DROP DATABASE damaged")


@pytest.mark.server
def test_more_tables_than_the_server_can_lock_are_counted_before_the_dump(
    newest_postgres: PostgresServer, source_of: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    with newest_postgres.database("wide") as name:
        newest_postgres.execute("CREATE TABLE a (i serial); CREATE TABLE b (i integer); CREATE VIEW v AS TABLE a", name)
        assert not about(source_of(newest_postgres, name), "locks")
        monkeypatch.setattr(probe, "room_for_locks", lambda _connection: 2)
        (told,) = about(source_of(newest_postgres, name), "locks")
        assert "locks 3 tables and sequences at once" in told
        assert "max_locks_per_transaction" in told


@pytest.mark.server
def test_roles_whose_names_pg_dumpall_fails_on_are_named_before_the_dump(
    newest_postgres: PostgresServer, source_of: MakeSource
) -> None:
    server = newest_postgres
    with server.database("bytes", " ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0") as name:
        where = {"host": server.host, "port": server.port, "user": "postgres", "dbname": name}
        with psycopg.connect(**where, client_encoding="LATIN1", autocommit=True) as raw:  # type: ignore[arg-type]
            raw.execute('CREATE ROLE "r\xf6le"'.encode("latin-1"))
            try:
                for one in ("postgres", name):
                    with pytest.raises(SourceError, match="tablespace r\ufffdle: the name is not UTF-8") as caught:
                        source_of(server, one).inspect()
                    assert "accounts = no" in (caught.value.hint or "")
                    assert source_of(server, one, accounts="no").inspect().warnings == ()
            finally:
                raw.execute('DROP ROLE "r\xf6le"'.encode("latin-1"))
