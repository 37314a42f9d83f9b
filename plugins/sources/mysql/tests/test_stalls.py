"""Dumps that nobody reads for longer than the server's patience, as when a sink stalls."""

import time
from collections.abc import Iterator

import pytest
from plugins.sources.mysql.tests.conftest import MakeSource, fill, read_all
from tests.servers.mysql import MySQLServer, MySQLServers

from penstock_mysql.client import Client
from penstock_mysql.connection import connect
from penstock_mysql.dialect import MARIADB, Version
from penstock_mysql.survey import look_at

pytestmark = pytest.mark.server

_PATIENCE_SECONDS = 1
_STALL_SECONDS = 4


@pytest.fixture
def hasty(mysql: MySQLServer) -> Iterator[MySQLServer]:
    """A server that waits a second for whoever reads, with two databases that no pipe and no socket holds."""
    ((before,),) = mysql.query("SELECT @@GLOBAL.net_write_timeout")
    mysql.execute(f"SET GLOBAL net_write_timeout = {_PATIENCE_SECONDS}")
    try:
        with mysql.database("hasty_a") as one, mysql.database("hasty_b") as other:
            for name in (one, other):
                fill(mysql, name)
            yield mysql
    finally:
        mysql.execute(f"SET GLOBAL net_write_timeout = {before}")


def test_a_stalled_sink_ends_no_dump(hasty: MySQLServer, source_of: MakeSource) -> None:
    with source_of(hasty, "hasty_a").dump() as held:
        stream = held.open(held.plan.streams[0])
        stream.readinto(memoryview(bytearray(100)))
        time.sleep(_STALL_SECONDS)
        assert b"-- Dump completed" in read_all(stream)


def test_dumps_that_were_started_together_wait_for_their_turn(hasty: MySQLServer, source_of: MakeSource) -> None:
    with source_of(hasty, "hasty_a", "hasty_b", consistency="server").dump() as held:
        time.sleep(_STALL_SECONDS)
        for spec in held.plan.streams:
            assert b"-- Dump completed" in read_all(held.open(spec))


def test_two_dumps_of_one_source_are_independent(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("twice") as name:
        mysql.execute("CREATE TABLE t AS SELECT 'first' AS what", name)
        source = source_of(mysql, name, consistency="server", row_counts="exact")
        with source.dump() as first:
            mysql.execute("INSERT INTO t VALUES ('later')", name)
            with source.dump() as second:
                for dump, rows in ((second, 2), (first, 1)):
                    (item, *_) = dump.plan.inspection.inventory
                    assert item.rows == rows
                    assert (b"later" in read_all(dump.open(dump.plan.streams[0]))) == (rows == 2)


def test_a_client_that_cannot_wait_is_warned_of(mysql_servers: MySQLServers, source_of: MakeSource) -> None:
    server = mysql_servers.get("mariadb")
    settings = source_of(server, older_client=True).settings
    old = Client(server.bin / "mariadb-dump", Version("mariadb", (10, 6, 1), "10.6.1"))
    new = Client(server.bin / "mariadb-dump", Version("mariadb", (10, 11, 1), "10.11.1"))
    assert MARIADB.dump_session
    with server.database("hasty_c"), connect(settings) as connection:
        for client, warned in ((old, True), (new, False)):
            warnings = look_at(connection, settings, [client]).inspection.warnings
            assert any("raise net_write_timeout on the server" in warning for warning in warnings) == warned
