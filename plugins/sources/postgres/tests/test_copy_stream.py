"""The stream of one table: what happens to the table, to the server and to the reader while it is read."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from threading import Thread
from typing import Any

import psycopg
import pytest
from plugins.sources.postgres.tests.conftest import MakeSource
from tests.servers.postgres import PostgresServer, PostgresServers
from tests.servers.streams import dump_all, read_all

from penstock.api import Dump, DumpFailed, DumpStalled, DumpStream, Interrupted, StopToken, StreamSpec
from penstock_postgres import copy_stream, dumping, dumps, views
from penstock_postgres.settings import PostgresSettings
from penstock_postgres.source import PostgresSource
from penstock_postgres.views import TablesChanged

pytestmark = pytest.mark.server

#: More than the buffers of a connection hold: while nobody reads, the server cannot have ended.
FILL = "CREATE TABLE filled AS SELECT i, repeat(md5(i::text), 20) AS filler FROM generate_series(1, 60000) AS i"
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND wait_event_type = 'Lock'"
#: What every snapshot sees at once.
UNPROTECTED = (
    "TRUNCATE filled",
    "DROP TABLE filled",
    "ALTER TABLE filled ALTER i TYPE bigint",
    "ALTER TABLE filled RENAME TO other",
)


@pytest.fixture
def name(newest_postgres: PostgresServer) -> Iterator[str]:
    with newest_postgres.database("filled") as name:
        newest_postgres.execute(FILL, name)
        yield name


@pytest.fixture
def source(newest_postgres: PostgresServer, source_of: MakeSource, name: str) -> PostgresSource:
    return source_of(newest_postgres, name, accounts="no", layout="tables")


def of_table(held: Dump) -> StreamSpec:
    (spec,) = [spec for spec in held.plan.streams if spec.name == "data/public.filled"]
    return spec


def begin(stream: DumpStream) -> None:
    assert stream.readinto(memoryview(bytearray(1000))) == 1000


def exhaust(stream: DumpStream) -> None:
    buffer = memoryview(bytearray(1 << 20))
    while stream.readinto(buffer):
        pass


def backend_of(server: PostgresServer) -> int:
    ((pid,),) = server.query('SELECT pid FROM pg_stat_activity WHERE query LIKE \'COPY "public"."filled"%\'')
    return int(pid)


def open_elsewhere(settings: PostgresSettings, spec: StreamSpec) -> bytes:
    return read_all(PostgresSource(settings).attach(spec))


@pytest.mark.slow
def test_another_process_may_open_each_stream_of_the_plan(
    newest_postgres: PostgresServer, source: PostgresSource, name: str
) -> None:
    newest_postgres.execute("CREATE SEQUENCE s; SELECT lo_from_bytea(0, 'large')", name)
    with source.dump() as held, ProcessPoolExecutor(1, get_context("spawn")) as pool:
        newest_postgres.execute("INSERT INTO filled VALUES (0, 'after')", name)
        for spec in held.plan.streams:
            there = pool.submit(open_elsewhere, source.settings, spec).result()
            here = read_all(held.open(spec))
            assert len(there) == len(here) > 0
            assert spec.format.startswith("pg_dump") or there == here


@pytest.mark.parametrize("statement", UNPROTECTED)
def test_a_change_of_a_table_waits_for_the_dump_as_for_a_plain_one(
    newest_postgres: PostgresServer, source: PostgresSource, name: str, statement: str
) -> None:
    with source.dump() as held, newest_postgres.connect(name) as other:
        other.execute("SET lock_timeout = 100")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute(statement.encode())
        assert read_all(held.open(of_table(held))).count(b"\n") == 60000


@pytest.mark.parametrize("statement", UNPROTECTED)
def test_one_between_the_snapshot_and_the_locks_begins_the_dump_again(
    newest_postgres: PostgresServer,
    source: PostgresSource,
    name: str,
    statement: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lock = views.lock_tables

    def late(*arguments: Any) -> None:
        newest_postgres.execute(statement, name)
        lock(*arguments)

    monkeypatch.setattr(dumps, "lock_tables", late)
    with pytest.raises(TablesChanged) as caught, source.dump():
        pass
    assert caught.value.retryable


@contextmanager
def queued(server: PostgresServer, name: str, statement: str) -> Iterator[None]:
    """A statement that waits for the locks of the dump."""
    with server.connect(name) as other:
        thread = Thread(target=lambda: other.execute(statement.encode()))
        thread.start()
        while server.query(WAITING.format(name)) == [(0,)]:
            time.sleep(0.02)
        yield
    thread.join()


@pytest.mark.parametrize("stream", ["data/public.filled", "schema.dump"])
def test_one_that_waits_when_a_stream_begins_is_let_through_and_the_dump_begins_again(
    newest_postgres: PostgresServer,
    source: PostgresSource,
    name: str,
    stream: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (copy_stream, dumping):
        monkeypatch.setattr(module, "QUEUE_SECONDS", 0.2)
    waiting = queued(newest_postgres, name, "TRUNCATE filled")
    with source.dump() as held:
        waiting.__enter__()
        (spec,) = [spec for spec in held.plan.streams if spec.name == stream]
        with pytest.raises(TablesChanged, match=r"lock|wait"):
            read_all(held.open(spec))
    waiting.__exit__(None, None, None)
    assert newest_postgres.query("SELECT count(*) FROM filled", name) == [(0,)]


def test_a_view_that_ends_takes_no_row_along_in_silence(
    newest_postgres: PostgresServer, source: PostgresSource, name: str
) -> None:
    with source.dump() as held:
        newest_postgres.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE datname = '{name}' AND application_name = 'penstock'"
        )
        newest_postgres.execute("TRUNCATE filled", name)
        with pytest.raises(DumpFailed, match="snapshot"):
            held.open(of_table(held))


def test_a_table_that_is_not_the_views_is_no_stream(
    newest_postgres: PostgresServer, source: PostgresSource, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dumps, "lock_tables", lambda *arguments: None)  # as if its locks were lost
    with source.dump() as held:
        newest_postgres.execute("TRUNCATE filled", name)
        with pytest.raises(TablesChanged, match="truncated"):
            held.open(of_table(held))


def test_a_killed_session_is_a_failed_dump(newest_postgres: PostgresServer, source: PostgresSource) -> None:
    with source.dump() as held:
        stream = held.open(of_table(held))
        begin(stream)
        newest_postgres.query(f"SELECT pg_terminate_backend({backend_of(newest_postgres)})")
        with pytest.raises(DumpFailed, match=r"COPY of filled: public\.filled"):
            exhaust(stream)
        stream.abort()


@pytest.mark.slow
def test_a_server_that_hangs_stalls_the_dump(newest_postgres: PostgresServer, source_of: MakeSource, name: str) -> None:
    source = source_of(newest_postgres, name, accounts="no", layout="tables", stall_timeout=0.5)
    with source.dump() as held:
        stream = held.open(of_table(held))
        begin(stream)
        pid = backend_of(newest_postgres)
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(DumpStalled):
                exhaust(stream)
        finally:
            os.kill(pid, signal.SIGCONT)
        stream.abort()


@pytest.mark.slow
def test_an_abort_wakes_who_waits_and_ends_the_session(newest_postgres: PostgresServer, source: PostgresSource) -> None:
    with source.dump() as held:
        stream = held.open(of_table(held))
        begin(stream)
        pid = backend_of(newest_postgres)
        os.kill(pid, signal.SIGSTOP)
        caught: list[BaseException] = []

        def read() -> None:
            try:
                exhaust(stream)
            except DumpFailed as error:
                caught.append(error)

        thread = Thread(target=read)
        try:
            thread.start()
            stream.abort()
            thread.join()
        finally:
            os.kill(pid, signal.SIGCONT)
        stream.abort()
    assert "stopped before its end" in str(caught[0])
    while newest_postgres.query(f"SELECT FROM pg_stat_activity WHERE pid = {pid}"):
        time.sleep(0.02)


def test_a_stopped_run_ends_it(source: PostgresSource) -> None:
    source.stop = StopToken()
    with source.dump() as held:
        stream = held.open(of_table(held))
        begin(stream)
        source.stop.stop()
        with pytest.raises(Interrupted):
            exhaust(stream)
        stream.abort()


def test_one_that_is_closed_before_its_end_is_a_failed_dump(source: PostgresSource) -> None:
    with source.dump() as held:
        stream = held.open(of_table(held))
        begin(stream)
        with pytest.raises(DumpFailed, match="closed before its end"):
            stream.close()
        again = held.open(of_table(held))  # as after an abort
        assert read_all(again).count(b"\n") == 60000
        again.close()


def test_streams_that_follow_one_another_share_a_session_and_none_of_its_locks(
    newest_postgres: PostgresServer, source: PostgresSource, name: str
) -> None:
    newest_postgres.execute("".join(f"CREATE TABLE t{number} AS SELECT {number} AS i;" for number in range(20)), name)
    sessions = f"SELECT pid FROM pg_stat_activity WHERE datname = '{name}' AND application_name = 'penstock'"
    locks = f"SELECT count(*) FROM pg_locks WHERE pid IN ({sessions}) AND relation = 't3'::regclass"
    with source.dump() as held:
        specs = [spec for spec in held.plan.streams if spec.name.startswith("data/public.t")]
        assert len(specs) == 20
        side_by_side = [held.open(spec) for spec in specs[:2]]
        assert [read_all(stream) for stream in side_by_side] == [b"0\n", b"1\n"]
        rows = b"".join(read_all(held.open(spec)) for spec in specs[2:])
        assert len(rows.splitlines()) == 18
        assert len(newest_postgres.query(sessions)) == 3  # the view's, and those of two streams
        assert newest_postgres.query(locks, name) == [(1,)]  # the view's
    assert newest_postgres.query(sessions) == []


def test_a_session_that_was_lost_meanwhile_is_replaced(newest_postgres: PostgresServer, source: PostgresSource) -> None:
    with source.dump() as held:
        read_all(held.open(of_table(held)))
        ((lost,),) = newest_postgres.query(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE query LIKE 'ROLLBACK TO SAVEPOINT penstock%'"
        )
        assert lost == 1
        assert read_all(held.open(of_table(held))).count(b"\n") == 60000


@pytest.mark.slow
def test_a_standby_is_read_as_its_primary_but_for_unlogged_rows(
    newest_postgres: PostgresServer, postgres_servers: PostgresServers, source_of: MakeSource, name: str
) -> None:
    newest_postgres.execute("CREATE UNLOGGED TABLE u AS SELECT 1 AS i; CREATE SEQUENCE s START 5", name)
    standby = postgres_servers.standby_of(newest_postgres)
    there = dump_all(source_of(standby, name, accounts="no", layout="tables"))
    here = dump_all(source_of(newest_postgres, name, accounts="no", layout="tables"))
    assert set(here) - set(there) == {"data/public.u"}
    for stream in ("data/public.filled", "sequences.sql"):
        assert there[stream][1] == here[stream][1]


def test_sequences_that_are_aborted_or_closed_too_early_leave_no_session(
    newest_postgres: PostgresServer, source: PostgresSource, name: str
) -> None:
    newest_postgres.execute("CREATE SEQUENCE s", name)
    sessions = f"SELECT pid FROM pg_stat_activity WHERE datname = '{name}' AND application_name = 'penstock'"
    with source.dump() as held:
        (spec,) = [spec for spec in held.plan.streams if spec.name == "sequences.sql"]
        stream = held.open(spec)
        stream.readinto(memoryview(bytearray(10)))
        with pytest.raises(DumpFailed, match="closed before its end"):
            stream.close()
        stream = held.open(spec)
        stream.abort()
        with pytest.raises(DumpFailed):
            stream.readinto(memoryview(bytearray(10)))
        while len(newest_postgres.query(sessions)) > 1:
            time.sleep(0.02)
        assert b"setval" in read_all(held.open(spec))


@pytest.mark.slow
@pytest.mark.parametrize("size", [10, 8000, 16000, 40000, 3_000_000])
def test_rows_of_any_size_come_whole_through_tls(
    postgres_servers: PostgresServers, source_of: MakeSource, size: int
) -> None:
    server = postgres_servers.tls()
    with server.database("secure_rows") as name:
        server.execute(f"CREATE TABLE filled AS SELECT repeat('x', {size}) AS t FROM generate_series(1, 7)", name)
        source = source_of(server, name, accounts="no", layout="tables", tls="require")
        with source.dump() as held:
            stream, data = held.open(of_table(held)), bytearray()
            buffer = memoryview(bytearray(5000))
            while count := stream.readinto(buffer):
                data += buffer[:count]
            stream.close()
    assert data == 7 * (b"x" * size + b"\n")
