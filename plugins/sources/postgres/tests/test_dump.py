import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psycopg
import pytest
from plugins.sources.postgres.tests.conftest import MakeSource
from tests.processes import descendants, running
from tests.servers.postgres import PASSWORD, PostgresServer, PostgresServers
from tests.servers.streams import dump_all, read_all

from penstock.api import (
    DumpFailed,
    DumpStalled,
    Interrupted,
    InventoryItem,
    RestoreTarget,
    SourceDenied,
    StopToken,
    StreamOutcome,
    StreamSpec,
)
from penstock.testing.hearing import Heard
from penstock_postgres import archive_stream, dumping
from penstock_postgres.settings import PostgresSettings
from penstock_postgres.source import PostgresSource

pytestmark = pytest.mark.server

#: More than the pipe and the buffers of a connection hold: while nobody reads, neither child nor server can have ended.
FILL = "CREATE TABLE filled AS SELECT i, repeat(md5(i::text), 20) AS filler FROM generate_series(1, 60000) AS i"


def test_a_plan_has_the_accounts_first_and_the_database_after(postgres: PostgresServer, source_of: MakeSource) -> None:
    with postgres.database("näme/with spaces") as name:
        dump = dump_all(source_of(postgres, name))
    (accounts, sql), (archive, data) = dump.values()
    assert (accounts.name, accounts.format, accounts.phase, accounts.optional) == ("accounts.sql", "sql", 0, True)
    assert (archive.name, archive.format, archive.phase) == ("näme%2Fwith%20spaces.dump", "pg_dump-custom", 1)
    assert b"CREATE ROLE postgres" in sql
    assert data.startswith(b"PGDMP")


def test_two_dumps_of_the_same_content_differ_in_the_time_alone(
    postgres: PostgresServer, source_of: MakeSource
) -> None:
    with postgres.database("same") as name:
        postgres.fill_nasty(name)
        source = source_of(postgres, name)
        first = dump_all(source)[f"{name}.dump"][1]
        time.sleep(1.1)
        second = dump_all(source)[f"{name}.dump"][1]
    assert len(first) == len(second)
    different = [place for place, (a, b) in enumerate(zip(first, second, strict=True)) if a != b]
    assert len(different) <= 8
    assert all(place < 64 for place in different)


def test_the_streams_hold_what_was_there_when_the_dump_began(postgres: PostgresServer, source_of: MakeSource) -> None:
    with postgres.database("moving") as name:
        postgres.execute("CREATE TABLE t AS SELECT 'before-' || generate_series(1, 3) AS what", name)
        source = source_of(postgres, name)
        with source.dump() as held:
            postgres.execute("INSERT INTO t SELECT 'after-' || generate_series(1, 5)", name)
            stream = held.open(held.plan.streams[-1])
            data = read_all(stream)
            assert InventoryItem("table", "public.t", 3, 8192, exact=True) in stream.outcome().inventory
    assert data.count(b"before-") == 3
    assert b"after-" not in data


def open_elsewhere(settings: PostgresSettings, spec: StreamSpec) -> tuple[bytes, StreamOutcome]:
    stream = PostgresSource(settings).attach(spec)
    return read_all(stream), stream.outcome()


def test_another_process_may_open_a_stream_of_the_plan(newest_postgres: PostgresServer, source_of: MakeSource) -> None:
    with newest_postgres.database("elsewhere") as name:
        newest_postgres.execute("CREATE TABLE t AS SELECT 'before' AS what", name)
        source = source_of(newest_postgres, name, accounts="no")
        with (
            source.dump() as held,
            ProcessPoolExecutor(1, get_context("spawn")) as pool,
        ):
            newest_postgres.execute("INSERT INTO t VALUES ('after')", name)
            data, outcome = pool.submit(open_elsewhere, source.settings, held.plan.streams[0]).result()
    assert b"before" in data
    assert b"after" not in data
    assert InventoryItem("table", "public.t", 1, 8192, exact=True) in outcome.inventory


def test_another_process_notices_what_was_truncated_before_it_began(
    newest_postgres: PostgresServer, source_of: MakeSource
) -> None:
    with newest_postgres.database("elsewhere") as name:
        newest_postgres.execute("CREATE TABLE t AS SELECT 'before' AS what", name)
        source = source_of(newest_postgres, name, accounts="no")
        with source.dump() as held:
            newest_postgres.execute("TRUNCATE t; INSERT INTO t VALUES ('after')", name)
            other = PostgresSource(source.settings)
            other.report = heard = Heard()
            data = read_all(other.attach(held.plan.streams[0]))
    assert b"after" in data
    assert len(heard.retries) == 1


def test_no_secret_is_in_any_command_line_and_the_dump_has_the_password_all_the_same(
    postgres_servers: PostgresServers, source_of: MakeSource
) -> None:
    server = postgres_servers.newest(auth="scram")
    with server.database("secretive") as name:
        server.execute(FILL, name)
        source = source_of(server, name)
        seen: list[bytes] = []
        with source.dump() as held:
            for spec in held.plan.streams:
                stream = held.open(spec)
                stream.readinto(memoryview(bytearray(10)))
                seen.extend(process.arguments for process in descendants())
                stream.abort()
            assert PASSWORD not in repr(held.plan)
    assert any(b"pg_dump\0--format=custom" in command for command in seen)
    assert not any(PASSWORD.encode() in command for command in seen)


def test_a_killed_pg_dump_is_a_failed_dump(newest_postgres: PostgresServer, source_of: MakeSource) -> None:
    with newest_postgres.database("killed") as name:
        newest_postgres.execute(FILL, name)
        source = source_of(newest_postgres, name, accounts="no")
        with source.dump() as held:
            stream = held.open(held.plan.streams[0])
            assert stream.readinto(memoryview(bytearray(1000))) == 1000
            (pid,) = running("pg_dump")
            os.kill(pid, signal.SIGKILL)
            buffer = memoryview(bytearray(1 << 20))
            while stream.readinto(buffer):
                pass
            with pytest.raises(DumpFailed, match=r"pg_dump of killed was killed by SIGKILL"):
                stream.close()
    assert not running("pg_dump")


def test_what_pg_dump_says_last_is_in_the_error(newest_postgres: PostgresServer, source_of: MakeSource) -> None:
    with newest_postgres.database("cut off") as name:
        newest_postgres.execute(FILL, name)
        source = source_of(newest_postgres, name, accounts="no")
        with source.dump() as held:
            stream = held.open(held.plan.streams[0])
            stream.readinto(memoryview(bytearray(1000)))
            newest_postgres.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY public.filled%'"
            )
            buffer = memoryview(bytearray(1 << 20))
            while stream.readinto(buffer):
                pass
            with pytest.raises(DumpFailed) as caught:
                stream.close()
    assert "pg_dump: error" in "\n".join(caught.value.details)


def test_a_stopped_run_ends_pg_dump_and_its_stream(newest_postgres: PostgresServer, source_of: MakeSource) -> None:
    with newest_postgres.database("stopped") as name:
        newest_postgres.execute(FILL, name)
        source = source_of(newest_postgres, name, accounts="no")
        source.stop = StopToken()
        with source.dump() as held:
            stream = held.open(held.plan.streams[0])
            stream.readinto(memoryview(bytearray(1000)))
            source.stop.stop()
            with pytest.raises(Interrupted):
                read_all(stream)
            assert not running("pg_dump")


def test_an_aborted_stream_leaves_no_process(newest_postgres: PostgresServer, source_of: MakeSource) -> None:
    with newest_postgres.database("aborted") as name:
        newest_postgres.execute(FILL, name)
        source = source_of(newest_postgres, name, accounts="no")
        with source.dump() as held:
            stream = held.open(held.plan.streams[0])
            stream.readinto(memoryview(bytearray(1000)))
            assert running("pg_dump")
            stream.abort()
            assert not running("pg_dump")
        with pytest.raises(DumpFailed):
            read_all(held.open(held.plan.streams[0]))  # the snapshot is gone


#: What every snapshot sees at once.
UNPROTECTED = ("TRUNCATE t", "DROP TABLE t", "ALTER TABLE t ALTER what TYPE varchar(9)")


class TestWhatNoSnapshotProtectsFrom:
    @pytest.fixture
    def name(self, newest_postgres: PostgresServer) -> Iterator[str]:
        with newest_postgres.database("held") as name:
            newest_postgres.execute("CREATE TABLE t AS SELECT 'still-' || generate_series(1, 3) AS what", name)
            yield name

    def test_it_waits_for_pg_dump_as_it_does_for_a_plain_one(
        self, newest_postgres: PostgresServer, source_of: MakeSource, name: str
    ) -> None:
        newest_postgres.execute(FILL, name)  # so that pg_dump is still at work
        source = source_of(newest_postgres, name, accounts="no")
        with source.dump() as held, newest_postgres.connect(name) as other:
            stream = held.open(held.plan.streams[0])
            start = bytearray(5)
            assert stream.readinto(memoryview(start)) == 5
            other.execute("SET lock_timeout = 100")
            for statement in UNPROTECTED:
                with pytest.raises(psycopg.errors.LockNotAvailable):
                    other.execute(statement.encode())
            assert read_all(stream).count(b"still-") == 3

    @pytest.mark.parametrize("several", [False, True])
    @pytest.mark.parametrize("statement", UNPROTECTED, ids=lambda one: one[:8])
    def test_before_that_it_waits_for_nothing_and_the_dump_begins_again(
        self, newest_postgres: PostgresServer, source_of: MakeSource, name: str, statement: str, several: bool
    ) -> None:
        where: dict[str, Any] = {"databases": [name]} if several else {}
        source = source_of(newest_postgres, None if several else name, accounts="no", **where)
        source.report = said = Heard()
        with source.dump() as held, newest_postgres.connect(name) as other:
            other.execute("SET lock_timeout = 100")
            streams = [held.open(held.plan.streams[0])] if several else []
            other.execute(statement.encode())
            other.execute("CREATE TABLE IF NOT EXISTS t (what text)")
            other.execute("INSERT INTO t VALUES ('then')")
            stream = streams[0] if streams else held.open(held.plan.streams[0])
            data = read_all(stream)
            rows = {item.name: item.rows for item in stream.outcome().inventory}
        there = 4 if statement.startswith("ALTER") else 1
        assert (data.count(b"still-") + data.count(b"then\n"), rows[f"{name}.public.t" if several else "public.t"]) == (
            there, there
        )  # fmt: skip
        assert len(said.retries) == 1

    def test_a_database_that_changes_all_the_time_is_given_up_with_what_to_do(
        self, newest_postgres: PostgresServer, source_of: MakeSource, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        start = dumping.start_dump

        def changing(*arguments: Any, **words: Any) -> Any:
            newest_postgres.execute("TRUNCATE t", name)
            return start(*arguments, **words)

        monkeypatch.setattr(archive_stream, "start_dump", changing)
        source = source_of(newest_postgres, name, accounts="no")
        source.report = said = Heard()
        with source.dump() as held, pytest.raises(DumpFailed, match=r"public\.t .*truncated, rewritten or dropped"):
            read_all(held.open(held.plan.streams[0]))
        assert len(said.retries) == 2
        assert not running("pg_dump")


def test_a_lock_that_comes_after_the_plan_stalls_or_fails_the_dump(
    newest_postgres: PostgresServer, source_of: MakeSource
) -> None:
    with newest_postgres.database("blocked") as name:
        newest_postgres.execute("CREATE TABLE t (i integer)", name)
        for settings, error in (({"stall_timeout": 0.3}, DumpStalled), ({"lock_timeout": 0.3}, DumpFailed)):
            source = source_of(newest_postgres, name, accounts="no", row_counts="off", **settings)
            with source.dump() as held, newest_postgres.connect(name, autocommit=False) as holder:
                holder.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
                with pytest.raises(error) as caught:
                    read_all(held.open(held.plan.streams[0]))
            assert "lock_timeout" in (caught.value.hint or "") or error is DumpStalled


def test_tables_whose_names_are_not_utf8_are_looked_at_again(
    newest_postgres: PostgresServer, source_of: MakeSource
) -> None:
    with newest_postgres.database("bytes", " ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0") as name:
        table = '"n\xe4me"'.encode("latin-1")
        with newest_postgres.connect(name) as connection:
            connection.execute("SET client_encoding = 'SQL_ASCII'")
            connection.execute(b"CREATE TABLE %b AS SELECT 'gone' AS i" % table)
            source = source_of(newest_postgres, name, accounts="no")
            source.report = said = Heard()
            assert b"gone" in dump_all(source)["bytes.dump"][1]
            with source.dump() as held:
                connection.execute(b"TRUNCATE %b" % table)
                connection.execute(b"INSERT INTO %b VALUES ('come')" % table)
                data = read_all(held.open(held.plan.streams[0]))
            assert (b"gone" in data, b"come" in data, len(said.retries)) == (False, True, 1)


class TestPasswordsThatEnd:
    def test_each_child_and_connection_asks_for_its_own(
        self, postgres_servers: PostgresServers, source_of: MakeSource, tmp_path: Path
    ) -> None:
        server = postgres_servers.newest("scram")
        token = tmp_path / "token"
        server.execute("DROP ROLE IF EXISTS cloudy; CREATE ROLE cloudy LOGIN SUPERUSER PASSWORD 'first-token'")
        token.write_text("first-token", encoding="utf-8")
        with server.database("hosted") as name:
            server.execute("CREATE TABLE t AS SELECT 'row' AS what", name)
            source = source_of(server, name, user="cloudy", password={"command": ["cat", str(token)]})
            with source.dump() as held:
                server.execute("ALTER ROLE cloudy PASSWORD 'second-token'")
                token.write_text("second-token", encoding="utf-8")
                streams = {spec.name: read_all(held.open(spec)) for spec in held.plan.streams}
        assert b"row" in streams["hosted.dump"]
        assert b"CREATE ROLE cloudy" in streams["accounts.sql"]
        server.execute("DROP ROLE cloudy")


def test_accounts_without_their_end_are_a_failed_dump(
    newest_postgres: PostgresServer, source_of: MakeSource, tmp_path: Path
) -> None:
    assert newest_postgres.bin is not None
    for program in ("pg_dump", "pg_restore"):
        (tmp_path / program).symlink_to(newest_postgres.bin / program)
    (tmp_path / "pg_dumpall").write_text("#!/bin/sh\necho 'CREATE ROLE half;'\n", encoding="utf-8")
    (tmp_path / "pg_dumpall").chmod(0o755)
    source = source_of(newest_postgres, "postgres", client_path=tmp_path)
    with source.dump() as held, pytest.raises(DumpFailed, match="end marker"):
        read_all(held.open(held.plan.streams[0]))


def test_a_standby_can_be_dumped_but_lacks_unlogged_rows_and_takes_no_restore(
    newest_postgres: PostgresServer, postgres_servers: PostgresServers, source_of: MakeSource
) -> None:
    with newest_postgres.database("replicated") as name:
        newest_postgres.execute(
            "CREATE TABLE t AS SELECT 'here' AS what; CREATE UNLOGGED TABLE u AS SELECT 1 AS i", name
        )
        standby = postgres_servers.standby_of(newest_postgres)
        dump = dump_all(source_of(standby, name))
        assert b"here" in dump["replicated.dump"][1]
        warnings = source_of(standby, name).inspect().warnings
        assert any("is a standby" in warning for warning in warnings)
        assert any("public.u" in warning for warning in warnings)
        with pytest.raises(SourceDenied, match="is a standby"):
            source_of(standby, name).plan_restore([spec for spec, _ in dump.values()], RestoreTarget())


def test_a_dump_that_the_replay_of_a_standby_cancels_tells_so(
    newest_postgres: PostgresServer, postgres_servers: PostgresServers, source_of: MakeSource, tmp_path: Path
) -> None:
    assert newest_postgres.bin is not None
    # Waits until it is told to go on, as one that has many tables to look at.
    program, go = tmp_path / "pg_dump", tmp_path / "go"
    real = newest_postgres.bin / "pg_dump"
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *--version*) ;; *) until [ -e "{go}" ]; do sleep 0.05; done;; esac\n'
        f'exec "{real}" "$@"\n',
        encoding="utf-8",
    )
    program.chmod(0o755)
    with newest_postgres.database("replayed") as name:
        newest_postgres.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i", name)
        standby = postgres_servers.standby_of(newest_postgres)
        where = f"host={newest_postgres.host} port={newest_postgres.port} user={newest_postgres.user}"
        standby.execute(f"ALTER SYSTEM SET primary_conninfo = '{where}'")
        standby.execute("ALTER SYSTEM SET max_standby_streaming_delay = 0")
        standby.execute("SELECT pg_reload_conf()")

        def replay(condition: str) -> None:
            newest_postgres.execute(f"DELETE FROM t WHERE {condition}", name)
            newest_postgres.execute("VACUUM t", name)
            ((place,),) = newest_postgres.query("SELECT pg_current_wal_flush_lsn()::text")
            for _ in range(600):
                if standby.query(f"SELECT pg_last_wal_replay_lsn() >= '{place}'") == [(True,)]:
                    return
                time.sleep(0.1)
            pytest.fail("the standby does not follow")

        source = source_of(standby, name, accounts="no", client_path=tmp_path)
        with source.dump() as held:
            replay("i > 500")
            with pytest.raises(DumpFailed, match="due to conflict with recovery") as early:
                held.open(held.plan.streams[0])
        with source.dump() as held:
            stream = held.open(held.plan.streams[0])
            replay("i > 1")
            go.touch()
            with pytest.raises(DumpFailed) as late:
                read_all(stream)
        assert any("due to conflict with recovery" in line for line in late.value.details)
        for caught in (early, late):
            assert "max_standby_streaming_delay" in (caught.value.hint or "")


def test_what_does_not_begin_as_an_archive_is_a_failed_dump(
    newest_postgres: PostgresServer, source_of: MakeSource, tmp_path: Path
) -> None:
    assert newest_postgres.bin is not None
    program = tmp_path / "pg_dump"
    version = f'case "$*" in *--version*) exec "{newest_postgres.bin / "pg_dump"}" --version;; esac'
    program.write_text(f"#!/bin/sh\n{version}\necho 'pg_dump: nothing here'\n", encoding="utf-8")
    program.chmod(0o755)
    source = source_of(newest_postgres, "postgres", accounts="no", client_path=tmp_path)
    with source.dump() as held, pytest.raises(DumpFailed, match=r"postgres\.dump does not begin"):
        read_all(held.open(held.plan.streams[0]))


def test_roles_are_dumped_without_passwords_by_who_may_not_read_them(
    newest_postgres: PostgresServer, source_of: MakeSource
) -> None:
    with newest_postgres.database("plain") as name:
        newest_postgres.execute(
            "DROP ROLE IF EXISTS reader; DROP ROLE IF EXISTS keeper; CREATE ROLE reader LOGIN; "
            "CREATE ROLE keeper PASSWORD 'hidden'"
        )
        try:
            weak = dump_all(source_of(newest_postgres, name, user="reader"))["accounts.sql"][1]
            strong = dump_all(source_of(newest_postgres, name))["accounts.sql"][1]
            assert "accounts.sql" not in dump_all(source_of(newest_postgres, name, accounts=False))
        finally:
            newest_postgres.execute("DROP ROLE reader; DROP ROLE keeper")
    assert b"CREATE ROLE keeper" in weak
    assert b"SCRAM-SHA-256" not in weak
    assert b"SCRAM-SHA-256" in strong
