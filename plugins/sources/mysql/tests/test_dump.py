import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from plugins.sources.mysql.tests.conftest import MakeSource, dump_all, fill, fill_nasty, read_all
from tests.processes import descendants
from tests.servers.mysql import PASSWORD, MySQLServer

from penstock.api import DumpFailed, DumpStalled, DumpStream, InventoryItem, SourceError, StreamSpec
from penstock_mysql.source import MySQLSource

pytestmark = pytest.mark.server


def children() -> list[int]:
    """The dump programs that we have started."""
    return [process.pid for process in descendants() if b"--single-transaction" in process.arguments]


def end(stream: DumpStream) -> None:
    buffer = memoryview(bytearray(1 << 20))
    while stream.readinto(buffer):
        pass
    stream.close()


def test_a_plan_has_a_stream_for_each_database_and_the_accounts_last(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("näme/with spaces") as one, mysql.database("`-x") as other:
        source = source_of(mysql, exclude_databases=[], accounts="yes")
        dump = dump_all(source)
        chosen = dump_all(source_of(mysql, other, one))
    assert {"db/%60-x.sql", "db/näme%2Fwith%20spaces.sql", "accounts.sql"} <= dump.keys()
    assert list(dump)[-1] == "accounts.sql"
    spec, data = dump["accounts.sql"]
    assert (spec.format, spec.phase, spec.optional) == ("sql", 2, True)
    assert b"'root'" in data or b"`root`" in data
    assert not [name for name in dump if name in ("db/mysql.sql", "db/sys.sql", "db/information_schema.sql")]
    assert list(chosen) == ["db/%60-x.sql", "db/näme%2Fwith%20spaces.sql"]
    for spec, data in chosen.values():
        assert (spec.format, spec.phase, spec.optional) == ("mysqldump", 1, False)
        assert data.rstrip().endswith(b"-- Dump completed")


def test_two_dumps_of_the_same_content_are_the_same(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("same") as name:
        fill_nasty(mysql, name)
        source = source_of(mysql, name, accounts="yes")
        first = dump_all(source)
        time.sleep(1.1)
        assert dump_all(source) == first


def test_the_record_separator_ends_each_row_of_an_insert(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("rows") as name:
        mysql.execute("CREATE TABLE t (i INT PRIMARY KEY, what TEXT)", name)
        mysql.execute("INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, 'three')", name)
        ((spec, data),) = dump_all(source_of(mysql, name)).values()
    insert = data[data.index(b"INSERT INTO") :]
    rows = insert[: insert.index(b";\n")].split(spec.record_separator)
    assert len(rows) == 3
    assert [what in row for what, row in zip((b"one", b"two", b"three"), rows, strict=True)] == [True] * 3


def test_excluded_databases_and_tables_are_not_in_the_dump(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("kept") as kept, mysql.database("left") as left:
        mysql.execute("CREATE TABLE wanted (i INT)", kept)
        mysql.execute("CREATE TABLE `un.wanted` (i INT)", kept)
        dump = dump_all(source_of(mysql, exclude_databases=[left], exclude_tables=["kept.un.wanted"]))
    assert "db/kept.sql" in dump
    assert "db/left.sql" not in dump
    assert b"un.wanted" not in dump["db/kept.sql"][1]
    assert b"wanted" in dump["db/kept.sql"][1]


class Writers(threading.Thread):
    """Moves money between two tables of each of two databases, in transactions, until told to stop."""

    def __init__(self, server: MySQLServer, names: tuple[str, str]) -> None:
        super().__init__()
        self._server = server
        self._names = names
        self._told = threading.Event()
        self.transactions = 0

    def run(self) -> None:
        with self._server.connect(autocommit=False) as connection, connection.cursor() as cursor:
            one, other = self._names
            while not self._told.is_set():
                i = self.transactions % 2000
                cursor.execute(f"UPDATE {one}.a SET n = n - 1 WHERE id = {i}")
                cursor.execute(f"UPDATE {one}.z SET n = n + 1 WHERE id = {1999 - i}")
                cursor.execute(f"UPDATE {other}.z SET n = n + 2 WHERE id = {i}")
                cursor.execute(f"UPDATE {other}.a SET n = n - 2 WHERE id = {1999 - i}")
                cursor.execute(f"UPDATE {one}.moved SET n = n + 1")
                cursor.execute(f"UPDATE {other}.moved SET n = n + 1")
                connection.commit()
                self.transactions += 1

    def stop(self) -> None:
        self._told.set()
        self.join()


@pytest.mark.parametrize("consistency", ["database", "server"])
def test_a_dump_under_writers_is_one_moment(mysql: MySQLServer, source_of: MakeSource, consistency: str) -> None:
    with mysql.database("moving1") as one, mysql.database("moving2") as other, mysql.database("back") as back:
        for name in (one, other):
            for table in ("a", "z"):
                mysql.execute(f"CREATE TABLE {table} (id INT PRIMARY KEY, n INT, filler TEXT)", name)
                mysql.execute(
                    f"INSERT INTO {table} "
                    "WITH RECURSIVE n AS (SELECT 0 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 999) "
                    "SELECT i, 0, REPEAT('x', 1000) FROM n UNION ALL SELECT i + 1000, 0, '' FROM n",
                    name,
                )
            mysql.execute("CREATE TABLE moved (n INT)", name)
            mysql.execute("INSERT INTO moved VALUES (0)", name)
        source = source_of(mysql, one, other, consistency=consistency)
        writers = Writers(mysql, (one, other))
        writers.start()
        try:
            while writers.transactions < 50:
                time.sleep(0.01)
            before = writers.transactions
            dump = dump_all(source)
            assert writers.transactions > before
        finally:
            writers.stop()
        moved = []
        for _, data in dump.values():
            mysql.drop(back)
            mysql.execute("CREATE DATABASE back")
            mysql.run_script(data, back)
            assert mysql.query("SELECT (SELECT SUM(n) FROM a) + (SELECT SUM(n) FROM z)", back) == [(0,)]
            moved += mysql.query("SELECT n FROM moved", back)
    assert moved[0][0] > 0
    if consistency == "server":
        assert moved[0] == moved[1]


def test_rows_are_counted_exactly_in_the_dumps_own_view(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("counted") as name:
        fill(mysql, name, 5000)
        mysql.execute("CREATE TABLE small AS SELECT 1 AS i UNION SELECT 2", name)
        source = source_of(mysql, name, row_counts="exact", consistency="server")
        with source.dump() as held:
            mysql.execute("INSERT INTO small VALUES (3)", name)
            mysql.execute("INSERT INTO filled VALUES (-1, 'late')", name)
            data = read_all(held.open(held.plan.streams[0]))
        with source_of(mysql, name, row_counts="off").dump() as other_held:
            assert {item.rows for item in other_held.plan.inspection.inventory} == {None}
    items = {item.name: item for item in held.plan.inspection.inventory}
    assert (items["counted.small"].rows, items["counted.small"].exact) == (2, True)
    assert (items["counted.filled"].rows, items["counted.filled"].exact) == (5000, True)
    assert b"late" not in data


def test_rows_that_were_counted_beside_the_dump_are_not_called_exact(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("counted") as name:
        mysql.execute("CREATE TABLE small AS SELECT 1 AS i UNION SELECT 2", name)
        with source_of(mysql, name, row_counts="exact").dump() as held:
            assert held.plan.inspection.inventory[0] == InventoryItem("table", "counted.small", 2, 16384, exact=False)


def test_a_plan_says_what_its_consistency_is_worth(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("one") as one, mysql.database("other") as other:
        said = {}
        for names, consistency in (((one,), "database"), ((one, other), "database"), ((one, other), "server")):
            with source_of(mysql, *names, consistency=consistency).dump() as held:
                said[len(names), consistency] = held.plan.consistency.split(",")[0]
    assert said == {
        (1, "database"): "one transaction",
        (2, "database"): "one transaction for each database",
        (2, "server"): "one moment for all databases",
    }


def test_the_lock_is_gone_when_the_dump_has_begun_and_no_child_stays(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("locked") as name:
        fill(mysql, name)
        with source_of(mysql, name, consistency="server").dump():
            assert len(children()) == 1
            mysql.execute("DELETE FROM filled WHERE i = 1", name)
        assert not children()


def test_a_lock_that_somebody_holds_up_is_given_up(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("busy") as name:
        mysql.execute("CREATE TABLE t (i INT)", name)
        with mysql.connect(name) as connection, connection.cursor() as cursor:
            cursor.execute("LOCK TABLES t WRITE")
            with (
                pytest.raises(SourceError, match="global read lock") as caught,
                source_of(mysql, name, consistency="server", lock_timeout=1).dump(),
            ):
                pass
            assert "lock_timeout" in (caught.value.hint or "")
            cursor.execute("UNLOCK TABLES")
        assert not children()


def test_another_process_may_open_a_stream_of_the_plan(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("elsewhere") as name:
        mysql.execute("CREATE TABLE t AS SELECT 'there' AS what", name)
        source = source_of(mysql, name, accounts="yes")
        with source.dump() as held:
            other = MySQLSource(source.settings)
            assert [read_all(other.attach(spec)) for spec in held.plan.streams] == [
                read_all(held.open(spec)) for spec in held.plan.streams
            ]
        together = source_of(mysql, name, consistency="server")
        with together.dump() as held, pytest.raises(SourceError, match="only be read where"):
            MySQLSource(together.settings).attach(held.plan.streams[0])


def test_no_secret_is_in_any_command_line_or_environment(mysql: MySQLServer, source_of: MakeSource) -> None:
    password = PASSWORD + "!"
    with mysql.database("secretive") as name, mysql.account("secretive", "ALL ON *.*", password=password) as user:
        fill(mysql, name)
        source = source_of(mysql, name, user=user, account_password=password, accounts="auto")
        with source.dump() as held:
            assert PASSWORD not in repr(held.plan)
            stream = held.open(held.plan.streams[0])
            stream.readinto(memoryview(bytearray(10)))
            assert children()
            seen = [process.arguments for process in descendants()]
            seen += [process.environment for process in descendants() if process.pid in children()]
            end(stream)
    assert not any(password.encode() in text or b"s3cret" in text for text in seen)


def test_a_socket_is_as_good_as_a_host(mysql: MySQLServer, source_of: MakeSource) -> None:
    if mysql.socket is None:
        pytest.skip("the server is elsewhere")
    with mysql.database("local") as name:
        mysql.execute("CREATE TABLE t AS SELECT 'there' AS what", name)
        source = source_of(mysql, name, host=None, port=None, socket=mysql.socket)
        assert b"there" in dump_all(source)["db/local.sql"][1]


def test_a_killed_dump_program_is_a_failed_dump(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("killed") as name:
        fill(mysql, name)
        source = source_of(mysql, name)
        with source.dump() as held:
            stream = held.open(held.plan.streams[0])
            stream.readinto(memoryview(bytearray(1000)))
            (pid,) = children()
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(DumpFailed, match="of killed was killed by SIGKILL"):
                end(stream)
        assert not children()


def test_a_lost_connection_fails_the_dump_with_what_the_program_said(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("cut") as name:
        fill(mysql, name)
        source = source_of(mysql, name)
        with source.dump() as held:
            stream = held.open(held.plan.streams[0])
            stream.readinto(memoryview(bytearray(1000)))
            for pid, *_ in mysql.query("SELECT ID FROM information_schema.PROCESSLIST WHERE DB = 'cut'"):
                mysql.execute(f"KILL {pid}")
            with pytest.raises(DumpFailed) as caught:
                end(stream)
    assert "Lost connection" in "\n".join(caught.value.details)
    assert "net_write_timeout" in (caught.value.hint or "")


def test_a_table_that_is_dropped_meanwhile_fails_the_dump(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("dropped") as name:
        fill(mysql, name)
        mysql.execute("CREATE TABLE z_last (i INT PRIMARY KEY)", name)
        source = source_of(mysql, name)
        with source.dump() as held:
            stream = held.open(held.plan.streams[0])
            stream.readinto(memoryview(bytearray(1000)))
            mysql.execute("DROP TABLE z_last", name)
            with pytest.raises(DumpFailed) as caught:
                end(stream)
    assert "schema changes" in (caught.value.hint or "")


def wrapped(server: MySQLServer, folder: Path, then: str) -> Path:
    """Client programs that do what the real one does, and then something else."""
    name = "mysqldump" if server.vendor == "mysql" else "mariadb-dump"
    (folder / name).write_text(
        f'#!/bin/sh\ncase "$*" in *--version*) exec "{server.bin / name}" "$@" ;; esac\n{then}\n'.replace(
            "REAL", f'"{server.bin / name}" "$@"'
        ),
        encoding="utf-8",
    )
    (folder / name).chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("then", "problem"),
    [
        ("REAL; echo sorry >&2; exit 1", "exited with 1"),
        ("REAL | sed '/Dump completed/d'", "end marker is missing"),
        ("REAL | head -c 100", "end marker is missing"),
        ("exit 0", "end marker is missing"),
    ],
)
def test_an_end_of_file_alone_is_no_success(
    mysql: MySQLServer, source_of: MakeSource, tmp_path: Path, then: str, problem: str
) -> None:
    with mysql.database("faked") as name:
        mysql.execute("CREATE TABLE t AS SELECT 'there' AS what", name)
        with pytest.raises(DumpFailed, match=problem):
            dump_all(source_of(mysql, name, client_path=wrapped(mysql, tmp_path, then)))
    assert not children()


def test_a_silent_dump_program_is_given_up(mysql: MySQLServer, source_of: MakeSource, tmp_path: Path) -> None:
    with mysql.database("silent") as name, pytest.raises(DumpStalled):
        dump_all(source_of(mysql, name, client_path=wrapped(mysql, tmp_path, "exec sleep 60"), stall_timeout=0.3))
    assert not children()


def test_an_aborted_stream_leaves_no_process(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("aborted") as name:
        fill(mysql, name)
        source = source_of(mysql, name)
        with source.dump() as held:
            stream = held.open(held.plan.streams[0])
            stream.readinto(memoryview(bytearray(1000)))
            stream.abort()
            assert not children()


def test_the_logins_and_option_files_of_the_user_are_not_obeyed(
    mysql: MySQLServer, source_of: MakeSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".my.cnf").write_text(
        "[client]\nhost=192.0.2.1\npassword=wrong\n[mysqldump]\nskip-extended-insert\nno-data\n"
    )
    (tmp_path / ".my.cnf").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MYSQL_PWD", "wrong")
    monkeypatch.setenv("MYSQL_HOST", "192.0.2.1")
    with mysql.database("obeyed") as name:
        mysql.execute("CREATE TABLE t AS SELECT 'there' AS what", name)
        assert b"there" in dump_all(source_of(mysql, name))["db/obeyed.sql"][1]


def test_what_is_opened_twice_or_read_after_its_end_is_an_error(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("twice") as name:
        source = source_of(mysql, name, accounts="yes")
        with source.dump() as held:
            accounts: StreamSpec = replace(held.plan.streams[-1])
            stream = held.open(accounts)
            with pytest.raises(DumpFailed):
                stream.close()
            stream = held.open(accounts)
            stream.abort()
            with pytest.raises(DumpFailed):
                stream.readinto(memoryview(bytearray(10)))
