"""The end of a clean restore: the restored database takes the place of the old one, and something is in the way."""

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Self

import pytest
from plugins.sources.postgres.tests.conftest import MakeSource
from tests.servers.postgres import PostgresServer, PostgresServers
from tests.servers.streams import Dump, blocks_of, dump_all, read_all, restore_all

from penstock.api import (
    Interrupted,
    Restore,
    RestoreFailed,
    RestorePlan,
    RestoreTarget,
    SecretUnavailable,
    SourceUnreachable,
    StopToken,
)
from penstock.testing.hearing import Heard
from penstock_postgres import database, replacing
from penstock_postgres import restore as postgres_restore
from penstock_postgres.source import PostgresSource

pytestmark = pytest.mark.server

CLEAN = RestoreTarget(clean=True)


class AnswerLost:
    """A way to a server on which, once armed, the answer to COMMIT is lost; `for_good` lets nobody through again."""

    def __init__(self, server: PostgresServer, *, for_good: bool = False) -> None:
        self._target = (server.host, server.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ended = threading.Event()
        self.port: int = self._listener.getsockname()[1]
        self._armed = False
        self._for_good = for_good
        self.lost = 0

    def __enter__(self) -> Self:
        self._listener.settimeout(0.05)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(10)
        self._listener.close()

    def arm(self) -> None:
        """The next one."""
        self._armed = True

    def _accept(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._listener.accept()
                if self.lost and self._for_good:
                    client.close()
                else:
                    threading.Thread(target=partial(self._carry, client), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server, contextlib.suppress(OSError):
            while not self._ended.is_set():
                for end in select.select([client, server], [], [], 0.05)[0]:
                    if not (block := end.recv(65536)):
                        return
                    (server if end is client else client).sendall(block)
                    if end is client and self._armed and b"COMMIT" in block:
                        server.recv(65536)  # it is done by then
                        self.lost += 1
                        self._armed = False
                        return


@pytest.fixture(scope="module")
def server(postgres_servers: PostgresServers) -> PostgresServer:
    """A server with autovacuum, and with prepared transactions: they keep a database from being renamed."""
    settings = ("max_prepared_transactions=5", "autovacuum=on", "autovacuum_naptime=1")
    return postgres_servers.private(settings=settings)


@pytest.fixture
def name(server: PostgresServer) -> Iterator[str]:
    """A database with something old in it."""
    with server.database('old "näme"') as made:
        server.execute("CREATE TABLE t AS SELECT 'old' AS what", made)
        yield made
        for (left,) in server.query("SELECT datname FROM pg_database WHERE datname LIKE '%penstock%'"):
            server.execute(f'ALTER DATABASE "{left.replace(chr(34), chr(34) * 2)}" IS_TEMPLATE false')
            server.drop(left)


@pytest.fixture
def dump(server: PostgresServer, source_of: MakeSource) -> Dump:
    """Something new to restore."""
    with server.database("dumped") as made:
        server.execute("CREATE TABLE t AS SELECT 'new' AS what", made)
        return dump_all(source_of(server, made, accounts="no"))


def content(server: PostgresServer, name: str) -> str:
    return str(server.query("SELECT what FROM t", name)[0][0])


def beside(server: PostgresServer) -> list[str]:
    return [str(name) for (name,) in server.query("SELECT datname FROM pg_database WHERE datname LIKE '%penstock%'")]


def write_all(restoring: Restore, dump: Dump) -> None:
    for spec, data in dump.values():
        restoring.write(spec, blocks_of(data))


def wait_for_autovacuum(server: PostgresServer, name: str) -> None:
    query = "SELECT datname FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'"
    until = time.monotonic() + 60
    while (name,) not in server.query(query):
        assert time.monotonic() < until, "autovacuum does not come"
        time.sleep(0.05)


def restore(source: PostgresSource, dump: Dump, before_the_end: Callable[[], object]) -> None:
    """Restore it all, and do something between the last byte and the end."""
    with source.restore(RestorePlan((), CLEAN)) as restoring:
        write_all(restoring, dump)
        before_the_end()
        restoring.finish()


def test_nothing_old_is_touched_before_everything_is_restored(
    server: PostgresServer, source_of: MakeSource, name: str, dump: Dump
) -> None:
    with source_of(server, name).restore(RestorePlan((), CLEAN)) as restoring:
        write_all(restoring, dump)
        assert content(server, name) == "old"
        restoring.finish()
    assert content(server, name) == "new"
    assert beside(server) == []


def test_a_restore_that_is_left_before_its_end_leaves_nothing(
    server: PostgresServer, source_of: MakeSource, name: str, dump: Dump
) -> None:
    with source_of(server, name).restore(RestorePlan((), CLEAN)) as restoring:
        write_all(restoring, dump)
    assert (content(server, name), beside(server)) == ("old", [])


def test_a_restore_is_kept_when_only_its_last_step_failed(
    server: PostgresServer, source_of: MakeSource, name: str, dump: Dump
) -> None:
    with server.connect(name) as holding:
        holding.execute("BEGIN; INSERT INTO t VALUES ('pending'); PREPARE TRANSACTION 'holding'")
    try:
        with pytest.raises(RestoreFailed, match="cannot put the restored database in the place") as caught:
            restore_all(source_of(server, name), dump, CLEAN)
        (kept,) = beside(server)
        assert f"kept as {kept}" in "\n".join(caught.value.details)
        assert (content(server, name), content(server, kept)) == ("old", "new")
    finally:
        with server.connect(name) as holding:
            holding.execute("ROLLBACK PREPARED 'holding'")
    statements = (caught.value.hint or "").split(": ", 1)[1]
    for statement in filter(None, map(str.strip, statements.split(";"))):
        server.execute(statement)
    assert content(server, name) == "new"


def test_an_interruption_before_the_last_step_keeps_both_databases(
    server: PostgresServer, source_of: MakeSource, name: str, dump: Dump
) -> None:
    source = source_of(server, name)
    source.report = said = Heard()
    source.stop = StopToken()
    with server.connect(name), pytest.raises(Interrupted):
        restore(source, dump, source.stop.stop)
    (kept,) = beside(server)
    assert kept in said.warnings[0]
    assert (content(server, name), content(server, kept)) == ("old", "new")


def test_no_failure_of_the_last_steps_hides_another(
    server: PostgresServer, source_of: MakeSource, name: str, dump: Dump, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((spec, data),) = dump.values()
    kept = []

    def failing(settings: object, replacement: replacing.Replacement, **more: object) -> None:
        kept.append(replacement.restored)
        if len(kept) == 1:
            raise RestoreFailed("the swap failed", details=(f"kept as {replacement.restored}",))
        raise SourceUnreachable("server gone")

    with server.database("dumped"), server.database("second") as second:
        target = RestoreTarget(clean=True, options={"rename": f"dumped={second}"})
        monkeypatch.setattr("penstock_postgres.restore.put_in_place", failing)
        source = source_of(server, "postgres", databases="all")

        def twice() -> None:
            with source.restore(RestorePlan((spec,), target)) as restoring:
                restoring.write(spec, blocks_of(data))
                restoring.write(spec, blocks_of(data))
                restoring.finish()

        with pytest.raises(RestoreFailed, match="the swap failed") as caught:
            twice()
    assert caught.value.details[:2] == (f"kept as {kept[0]}", "server gone")


def test_what_an_undo_cannot_do_is_told_beside_the_failure(
    server: PostgresServer, source_of: MakeSource, name: str, dump: Dump, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_secret(*arguments: object, **more: object) -> None:
        raise SecretUnavailable("the session with the vault has ended")

    def broken_off() -> None:
        monkeypatch.setattr("penstock_postgres.database.connect_beside", without_secret)
        raise RestoreFailed("it broke off")

    with pytest.raises(RestoreFailed, match="broke off") as caught:
        restore(source_of(server, name), dump, broken_off)
    assert "still exists: the session with the vault has ended" in caught.value.details[-1]


def test_a_database_that_is_made_when_the_interrupt_comes_is_dropped(
    server: PostgresServer, source_of: MakeSource, name: str, dump: Dump, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = database.create_database

    def interrupted(*arguments: Any) -> None:
        create(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(postgres_restore, "create_database", interrupted)
    with pytest.raises(KeyboardInterrupt):
        restore(source_of(server, name), dump, lambda: None)
    assert (content(server, name), beside(server)) == ("old", [])


def test_an_interruption_after_the_swap_names_the_old_database(
    server: PostgresServer, source_of: MakeSource, name: str, dump: Dump, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap = replacing._swap

    def interrupted(*arguments: Any) -> None:
        swap(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(replacing, "_swap", interrupted)
    source = source_of(server, name)
    source.report = said = Heard()
    with pytest.raises(KeyboardInterrupt):
        restore(source, dump, lambda: None)
    (old,) = beside(server)
    assert f"the old database is left as {old}" in said.warnings[0]
    assert content(server, name) == "new"


def test_a_role_without_rights_on_autovacuum_may_replace_its_database(
    server: PostgresServer, source_of: MakeSource, name: str, dump: Dump
) -> None:
    vacuumed = "(autovacuum_vacuum_threshold = 1, autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)"
    server.execute("CREATE ROLE modest LOGIN CREATEDB")
    try:
        server.execute(f'ALTER DATABASE "{name.replace(chr(34), chr(34) * 2)}" OWNER TO modest')
        server.execute(
            f"CREATE TABLE busy WITH {vacuumed} AS SELECT repeat('x', 500) FROM generate_series(1, 20000)", name
        )
        server.execute("ALTER TABLE t OWNER TO modest; DELETE FROM busy", name)
        wait_for_autovacuum(server, name)
        source = source_of(server, name, user="modest", accounts="no")
        target = RestoreTarget(clean=True, options={"properties": "no", "owners": "no"})
        with source.restore(RestorePlan((), target)) as restoring:
            write_all(restoring, dump)
            wait_for_autovacuum(server, name)
            restoring.finish()
        assert content(server, name) == "new"
    finally:
        server.execute("REASSIGN OWNED BY modest TO CURRENT_USER", name)
        server.execute("DROP ROLE modest")


def test_an_old_database_that_cannot_be_dropped_fails_no_restore(
    server: PostgresServer, source_of: MakeSource, name: str, dump: Dump
) -> None:
    source = source_of(server, name)
    source.report = said = Heard()
    restore(source, dump, lambda: server.execute('ALTER DATABASE "old ""näme""" IS_TEMPLATE true'))
    (old,) = beside(server)
    (warning,) = said.warnings
    assert old in warning
    assert "cannot drop a template database" in warning
    assert content(server, name) == "new"


def test_a_swap_whose_answer_was_lost_has_happened(
    server: PostgresServer, source_of: MakeSource, name: str, dump: Dump
) -> None:
    with AnswerLost(server) as way:
        restore(source_of(server, name, port=way.port, tls="disable"), dump, way.arm)
        assert way.lost == 1
    assert (content(server, name), beside(server)) == ("new", [])


def test_what_nobody_can_know_is_not_claimed(
    server: PostgresServer, source_of: MakeSource, name: str, dump: Dump
) -> None:
    with AnswerLost(server, for_good=True) as way:
        source = source_of(server, name, port=way.port, tls="disable")
        with pytest.raises(RestoreFailed) as caught:
            restore(source, dump, way.arm)
    assert "or already in the place" in "\n".join(caught.value.details)
    assert content(server, name) == "new"
    assert len(beside(server)) == 1


def test_databases_of_one_restore_take_their_places_together(
    server: PostgresServer, source_of: MakeSource, name: str, dump: Dump
) -> None:
    ((spec, data),) = dump.values()
    with server.database("dumped"), server.database("second") as second:
        server.execute("CREATE TABLE t AS SELECT 'old' AS what", second)
        target = RestoreTarget(clean=True, options={"rename": "dumped=second"})
        with source_of(server, "postgres", databases="all").restore(RestorePlan((spec,), target)) as restoring:
            restoring.write(spec, blocks_of(data))
            with pytest.raises(RestoreFailed):
                restoring.write(spec, blocks_of(data[: len(data) // 2]))
        assert (content(server, second), beside(server)) == ("old", [])


def test_two_dumps_of_one_source_are_independent(server: PostgresServer, source_of: MakeSource, name: str) -> None:
    source = source_of(server, name, accounts="no", row_counts="exact")
    with source.dump() as first:
        server.execute("INSERT INTO t VALUES ('more')", name)
        with source.dump() as second:
            (one,), (two,) = first.plan.streams, second.plan.streams
            assert one.attributes["snapshot"] != two.attributes["snapshot"]
            streams = second.open(two), first.open(one)
            assert [b"more" in read_all(stream) for stream in streams] == [True, False]
            assert [stream.outcome().inventory[0].rows for stream in streams] == [2, 1]
