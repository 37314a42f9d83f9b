import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from plugins.sources.mysql.tests.conftest import (
    Dump,
    MakeSource,
    blocks_of,
    dump_all,
    fill,
    fill_nasty,
    restore_all,
)
from pymysql import err
from tests.processes import descendants
from tests.servers.mysql import MySQLServer, MySQLServers

from penstock.api import (
    ClientMissing,
    DamagedObject,
    RestoreFailed,
    RestoreTarget,
    SourceDenied,
    SourceError,
    TargetMissing,
    TargetNotEmpty,
    UsageError,
)
from penstock.testing.dumping import restore_one
from penstock_mysql import connection, restore

pytestmark = pytest.mark.server


def renamed(old: str, new: str) -> str:
    return f"{quote(old)}={quote(new)}"


def exists(server: MySQLServer, name: str) -> bool:
    return bool(server.query(f"SHOW DATABASES LIKE '{name}'"))


def checksums(server: MySQLServer, name: str) -> list[tuple[str, int | None]]:
    """The server's own checksum of every table's rows, which knows the values and not what a dump prints of them.

    That of a table with an index on expressions changes with the table's history.
    """
    query = (
        f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{name}' AND TABLE_TYPE LIKE '%A%E%'"
    )
    names = [table for (table,) in server.query(query) if table != "functional"]
    found = [server.query("CHECKSUM TABLE `{}`".format(table.replace("`", "``")), name)[0] for table in sorted(names)]
    return [(table.partition(".")[2], number) for table, number in found if number is not None]


def damaged(data: bytes) -> Iterator[memoryview]:
    """All of the data, and then the news that it was not what was stored."""
    yield from blocks_of(data)
    raise DamagedObject("packs/aa/aa", "its digest is wrong")


@pytest.fixture
def fresh(mysql: MySQLServer) -> Iterator[str]:
    """The name of a database that is not there, and is dropped afterwards if it is."""
    name = "fresh `näme; -- "[:-1]
    mysql.drop(name)
    yield name
    mysql.drop(name)


@pytest.fixture
def small(mysql: MySQLServer, source_of: MakeSource) -> Dump:
    with mysql.database("small") as name:
        mysql.execute("CREATE TABLE a (i INT PRIMARY KEY)", name)
        fill(mysql, name, 5000)
        mysql.execute("CREATE TABLE z AS SELECT 1 AS i", name)
        mysql.execute("CREATE VIEW v AS SELECT COUNT(*) AS n FROM filled", name)
        return dump_all(source_of(mysql, name))


def test_everything_comes_back_as_it_was(mysql: MySQLServer, source_of: MakeSource, fresh: str) -> None:
    with mysql.database("nasty") as name:
        fill_nasty(mysql, name)
        dump = dump_all(source_of(mysql, name))
        before, sums = mysql.as_text(name), checksums(mysql, name)
        restore_all(source_of(mysql), dump, rename=renamed(name, fresh))
        # A copy counts on in its own sequence, not in the original's.
        before = before.replace(b"nextval(`nasty`.", f"nextval(`{fresh.replace('`', '``')}`.".encode())
        assert mysql.as_text(fresh) == before
        assert checksums(mysql, fresh) == sums
        assert len(sums) > 25


def test_a_database_comes_back_with_its_own_character_set(
    mysql: MySQLServer, source_of: MakeSource, fresh: str
) -> None:
    comment = " COMMENT 'it''s'" if mysql.vendor == "mariadb" else ""
    with mysql.database("old", "CHARACTER SET latin1 COLLATE latin1_german2_ci" + comment) as name:
        mysql.execute("CREATE TABLE t (t TEXT)", name)
        restore_all(source_of(mysql, fresh), dump_all(source_of(mysql, name)))
        created = mysql.query(f"SHOW CREATE DATABASE {name}")[0][1].replace("`old`", "x")
        assert mysql.query(f"SHOW CREATE DATABASE `{fresh.replace('`', '``')}`")[0][1].endswith(
            created.split("x", 1)[1]
        )


def test_dates_that_do_not_exist_come_back(mysql: MySQLServer, source_of: MakeSource, fresh: str) -> None:
    """The dump programs set a mode in which the server turns them into 0000-00-00 and says so to nobody."""
    with mysql.database("dates") as name:
        with mysql.connect(name) as connection, connection.cursor() as cursor:
            cursor.execute("SET sql_mode = 'ALLOW_INVALID_DATES'")
            cursor.execute("CREATE TABLE t (d DATE DEFAULT '2023-02-29', t DATETIME)")
            cursor.execute("INSERT INTO t VALUES ('2020-02-31', '2021-04-31 12:00:00'), (DEFAULT, '0000-00-00')")
        before = mysql.as_text(name)
        assert b"2020-02-31" in before
        restore_all(source_of(mysql, fresh), dump_all(source_of(mysql, name)))
        assert mysql.as_text(fresh) == before


def test_a_restore_under_its_own_name_needs_no_option(mysql: MySQLServer, source_of: MakeSource, small: Dump) -> None:
    try:
        restore_all(source_of(mysql), small)
        assert mysql.query("SELECT n FROM v", "small") == [(5000,)]
    finally:
        mysql.drop("small")


def test_a_database_in_the_settings_is_the_target(
    mysql: MySQLServer, source_of: MakeSource, small: Dump, fresh: str
) -> None:
    restore_all(source_of(mysql, fresh), small)
    assert mysql.query("SELECT n FROM v", fresh) == [(5000,)]
    assert not exists(mysql, "small")


def test_a_renamed_database_never_touches_the_one_of_the_old_name(
    mysql: MySQLServer, source_of: MakeSource, fresh: str
) -> None:
    with mysql.database("renamed", "CHARACTER SET latin1") as name:
        mysql.run_script(b"DELIMITER $$\nCREATE PROCEDURE p() BEGIN SELECT 'x'; END$$\n", name)
        mysql.execute("ALTER DATABASE renamed CHARACTER SET utf8mb4")
        dump = dump_all(source_of(mysql, name))
        assert b"ALTER DATABASE `renamed` CHARACTER SET latin1" in dump["db/renamed.sql"][1]
        mysql.drop(name)
        restore_all(source_of(mysql), dump, rename=renamed(name, fresh))
        assert not exists(mysql, name)
        mysql.execute("CREATE DATABASE renamed CHARACTER SET utf8mb4")
        query = "SELECT DEFAULT_CHARACTER_SET_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = '{}'"
        assert mysql.query(query.format(fresh)) == [("utf8mb4",)]
        ((collation,),) = mysql.query(
            "SELECT DATABASE_COLLATION FROM information_schema.ROUTINES WHERE ROUTINE_NAME = 'p'"
        )
        assert collation.startswith("latin1")


def test_a_target_that_is_not_empty_is_refused_and_left_alone(
    mysql: MySQLServer, source_of: MakeSource, small: Dump
) -> None:
    with mysql.database("taken") as name:
        source = source_of(mysql, name)
        for statement, what in (
            ("CREATE TABLE mine (i INT)", "1 table or view \\(such as mine\\)"),
            ("CREATE PROCEDURE mine() SELECT 1", "1 routine"),
            ("CREATE EVENT mine ON SCHEDULE EVERY 1 YEAR DO SELECT 1", "1 event"),
        ):
            mysql.execute(statement, name)
            with pytest.raises(TargetNotEmpty, match=what) as caught:
                restore_all(source, small)
            assert "rename" in (caught.value.hint or "")
            mysql.execute(f"DROP {statement.split()[1]} mine", name)
        restore_all(source, small)


def test_a_clean_restore_replaces_all_that_was_there(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("changed") as name:
        fill_nasty(mysql, name)
        source = source_of(mysql, name)
        dump = dump_all(source)
        before = mysql.as_text(name)
        mysql.execute("DROP TABLE bytes", name)
        mysql.execute("CREATE TABLE extra (i INT)", name)
        mysql.execute("UPDATE everything SET i = 7", name)
        restore_all(source, dump, clean=True)
        assert mysql.as_text(name) == before


def test_a_missing_database_is_only_made_where_that_is_allowed(
    mysql: MySQLServer, source_of: MakeSource, small: Dump, fresh: str
) -> None:
    with pytest.raises(TargetMissing, match="fresh"):
        restore_all(source_of(mysql, fresh), small, create="no")
    with mysql.database(fresh):
        restore_all(source_of(mysql, fresh), small, create="no")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"nonsense": "1"}, "unknown option nonsense"),
        ({"create": "perhaps"}, "create cannot be 'perhaps'"),
        ({"rename": "a=mysql"}, "cannot restore into mysql: it is a system database"),
        ({"rename": ""}, "rename cannot be"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    mariadb: MySQLServer, source_of: MakeSource, options: dict[str, str], problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        restore_all(source_of(mariadb), [], clean=False, strict=False, **options)


def test_several_databases_are_not_poured_into_one(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("one") as one, mysql.database("other") as other:
        dump = dump_all(source_of(mysql, one, other))
        with pytest.raises(UsageError, match="2 databases cannot be restored into one: one, other"):
            restore_all(source_of(mysql, "x"), dump)
        mysql.drop(one)
        mysql.drop(other)
        restore_all(source_of(mysql), dump)
        assert exists(mysql, one)
        assert exists(mysql, other)


def test_a_damaged_dump_leaves_no_database_behind(
    mysql: MySQLServer, source_of: MakeSource, small: Dump, fresh: str
) -> None:
    (spec, data), source = small["db/small.sql"], source_of(mysql, fresh)
    with pytest.raises(DamagedObject):
        restore_one(source, spec, damaged(data), RestoreTarget())
    assert not exists(mysql, fresh)


@pytest.mark.parametrize("cut", [100, 100_000, -1, -30])
def test_half_a_dump_is_no_dump_and_leaves_no_database(
    mysql: MySQLServer, source_of: MakeSource, small: Dump, fresh: str, cut: int
) -> None:
    (spec, data), source = small["db/small.sql"], source_of(mysql, fresh)
    cut = data.rindex(b"-- Dump completed") + 5 if cut == -1 else cut
    with pytest.raises(RestoreFailed) as caught:
        restore_one(source, spec, blocks_of(data[:cut]), RestoreTarget())
    assert not exists(mysql, fresh)
    assert "was dropped again" in caught.value.details[-1]


def test_a_failed_restore_into_a_database_that_was_there_leaves_it_as_it_was(
    mysql: MySQLServer, source_of: MakeSource, small: Dump
) -> None:
    spec, data = small["db/small.sql"]
    broken = data.replace(b"CREATE TABLE `z`", b"CREATE TABEL `z`")
    with mysql.database("existing") as name:
        before = mysql.query("SHOW DATABASES")
        with pytest.raises(RestoreFailed, match="exited with 1") as caught:
            restore_one(source_of(mysql, name), spec, blocks_of(broken), RestoreTarget())
        assert any("TABEL" in line for line in caught.value.details)
        assert mysql.query("SHOW TABLES", name) == []
        assert mysql.query("SHOW DATABASES") == before


def test_a_failed_restore_into_a_database_and_not_beside_it_says_what_is_left(
    mysql: MySQLServer, source_of: MakeSource, small: Dump
) -> None:
    spec, data = small["db/small.sql"]
    broken = data.replace(b"CREATE TABLE `z`", b"CREATE TABEL `z`")
    with mysql.database("existing") as name:
        with pytest.raises(RestoreFailed, match="exited with 1") as caught:
            restore_one(source_of(mysql, name), spec, blocks_of(broken), RestoreTarget(options={"beside": "no"}))
        assert "cannot undo" in caught.value.details[-1]
        assert "2 tables and views" in caught.value.details[-1]
        assert any("TABEL" in line for line in caught.value.details)
        assert {name for (name,) in mysql.query("SHOW TABLES", name)} == {"a", "filled"}


def test_what_an_undo_cannot_do_is_told_beside_the_failure(
    mysql: MySQLServer, source_of: MakeSource, small: Dump, fresh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, data = small["db/small.sql"]
    source = source_of(mysql, fresh)

    def forgetful() -> Iterator[memoryview]:
        yield from blocks_of(data[: len(data) // 2])
        monkeypatch.delenv("TEST_SERVER_PASSWORD")
        for (session,) in mysql.query("SELECT ID FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID()"):
            with suppress(err.Error):  # those of the server itself
                mysql.execute(f"KILL {session}")
        raise DamagedObject("packs/aa/aa", "its digest is wrong")

    with pytest.raises(DamagedObject) as caught:
        restore_one(source, spec, forgetful(), RestoreTarget())
    assert "which the restore had made, could not be dropped again" in caught.value.details[-1]


@pytest.mark.parametrize("sent", [True, False])
def test_an_interrupted_drop_is_told_and_drops_nothing_more(
    mysql: MySQLServer, source_of: MakeSource, small: Dump, monkeypatch: pytest.MonkeyPatch, sent: bool
) -> None:
    really = connection.execute

    def interrupted(session: connection.Connection, statement: str) -> None:
        if statement.startswith("DROP DATABASE `"):
            if sent:
                really(session, statement)
            raise KeyboardInterrupt
        really(session, statement)

    with mysql.database("precious") as name:
        mysql.execute("CREATE TABLE old (i INT)", name)
        monkeypatch.setattr(restore, "execute", interrupted)
        with pytest.raises(KeyboardInterrupt) as caught:
            restore_all(source_of(mysql, name), small, clean=True)
        (note,) = caught.value.__notes__
        assert exists(mysql, name) is not sent
        if sent:
            beside = note.removeprefix(f"{name} was being dropped: what was restored is whole in the database ")
            beside = beside.partition(",")[0]
            assert mysql.query("SELECT COUNT(*) FROM filled", beside) == [(5000,)]
            mysql.drop(beside)
        else:
            assert note == f"{name} was being dropped: look whether it is still there"


def test_a_refused_drop_is_no_loss(
    mysql: MySQLServer, source_of: MakeSource, small: Dump, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = connection.execute

    def refused(session: connection.Connection, statement: str) -> None:
        if statement.startswith("DROP DATABASE `"):
            raise err.OperationalError(1044, "Access denied")
        really(session, statement)

    with mysql.database("precious") as name:
        monkeypatch.setattr(restore, "execute", refused)
        with pytest.raises(SourceError) as caught:
            restore_all(source_of(mysql, name), small, clean=True)
        assert caught.value.details == ()


def test_a_row_that_is_too_large_for_the_server_is_explained(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("large") as name, mysql.database("into") as into:
        mysql.execute("CREATE TABLE t (b LONGBLOB)", name)
        mysql.execute("INSERT INTO t VALUES (REPEAT('x', 36000000))", name)
        dump = dump_all(source_of(mysql, name))
        with pytest.raises(SourceDenied, match="row of 72,") as denied:
            restore_all(source_of(mysql, into), dump)
        assert "max_allowed_packet" in (denied.value.hint or "")
        # A dump that does not say so fails there.
        ((spec, data),) = dump.values()
        silent = {key: value for key, value in spec.attributes.items() if key != "longest_row"}
        with pytest.raises(RestoreFailed) as caught:
            restore_all(source_of(mysql, into), [(replace(spec, attributes=silent), data)])
        assert "max_allowed_packet" in (caught.value.hint or "")
        assert not any(len(line) > 1000 for line in caught.value.details)


def test_commands_of_the_client_in_a_dump_are_never_run(
    mysql: MySQLServer, source_of: MakeSource, small: Dump, fresh: str, tmp_path: Path
) -> None:
    spec, data = small["db/small.sql"]
    for number, command in enumerate((b"\\! touch %s\n", b"system touch %s;\n", b"\\T %s\n", b"tee %s\n")):
        trace = tmp_path / str(number)
        hostile = command % os.fsencode(trace) + data
        with pytest.raises(RestoreFailed):
            restore_one(source_of(mysql, fresh), spec, blocks_of(hostile), RestoreTarget())
        assert not trace.exists()


def test_the_password_reaches_no_command_line_at_a_restore(
    mysql: MySQLServer, source_of: MakeSource, small: Dump, fresh: str
) -> None:
    spec, data = small["db/small.sql"]
    seen: list[bytes] = []

    def blocks() -> Iterator[memoryview]:
        for block in blocks_of(data):
            seen.extend(process.arguments for process in descendants())
            yield block

    restore_one(source_of(mysql, fresh), spec, blocks(), RestoreTarget())
    assert any(b"--binary-mode" in command for command in seen)
    assert not any(b"s3cret" in command for command in seen)


def test_privileges_that_a_restore_needs_are_named_before_it_starts(
    mysql: MySQLServer, source_of: MakeSource, small: Dump, fresh: str
) -> None:
    with (
        mysql.account("weak", "SELECT, CREATE, INSERT ON *.*") as user,
        pytest.raises(SourceDenied, match=r"lacks privileges to restore .*: DROP, ALTER, INDEX"),
    ):
        restore_all(source_of(mysql, fresh, user=user), small)
    assert not exists(mysql, fresh)


def test_another_definer_takes_an_administrator_and_the_hint_says_so(
    mysql: MySQLServer, source_of: MakeSource, fresh: str
) -> None:
    with mysql.database("defined") as name:
        mysql.execute("CREATE DEFINER='gone'@'%' SQL SECURITY INVOKER VIEW v AS SELECT 1 AS one", name)
        dump = dump_all(source_of(mysql, name))
        grants = "ALL ON `fresh%`.*"
        with mysql.account("owner", grants) as user:
            source = source_of(mysql, fresh, user=user)
            with pytest.raises(RestoreFailed, match="DEFINER") as caught:
                restore_all(source, dump, strict=True)
            assert "definers=mine" in caught.value.message
            assert not exists(mysql, fresh)
            (lost,) = restore_all(source, dump).lost
            assert (lost.kind, lost.name, lost.database) == ("view", "v", fresh)
            assert not mysql.query("SHOW TABLES", fresh)
            mysql.drop(fresh)
            assert not restore_all(source, dump, definers="mine").lost
            assert mysql.query("SELECT one FROM v", fresh) == [(1,)]
        mysql.drop(fresh)
        restore_all(source_of(mysql, fresh), dump)


def test_the_other_make_is_refused_with_the_reason(
    mysql_servers: MySQLServers, source_of: MakeSource, mysql: MySQLServer, small: Dump
) -> None:
    other = mysql_servers.get("mysql" if mysql.vendor == "mariadb" else "mariadb")
    with pytest.raises(UsageError, match=r"dumped from (MySQL|MariaDB) .*and the target is (MariaDB|MySQL) ") as caught:
        restore_all(source_of(other, "elsewhere"), small)
    assert "other_engine=yes" in (caught.value.hint or "")
    if mysql.vendor == "mysql":
        with pytest.raises(UsageError, match="does not have the collation utf8mb4_0900_ai_ci"):
            restore_all(source_of(other, "elsewhere"), small, other_engine="yes")
    assert not exists(other, "elsewhere")


@pytest.mark.parametrize("direction", ["mariadb to mysql", "mysql to mariadb"])
def test_plain_tables_may_cross_over_when_it_is_allowed(
    mysql_servers: MySQLServers, source_of: MakeSource, direction: str
) -> None:
    names = direction.split(" to ")
    old, new = (mysql_servers.get("mariadb" if name == "mariadb" else "mysql") for name in names)
    with old.database("crossing", "CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci") as name:
        old.execute("CREATE TABLE t (i INT PRIMARY KEY, t VARCHAR(50))", name)
        old.execute("INSERT INTO t VALUES (1, 'ä😀')", name)
        dump = dump_all(source_of(old, name))
        with new.database("crossing"):
            restore_all(source_of(new, name), dump, other_engine="yes")
            assert new.query("SELECT * FROM t", name) == [(1, "ä😀")]


def test_a_newer_servers_dump_is_refused_unless_it_is_allowed(
    mysql: MySQLServer, source_of: MakeSource, small: Dump, fresh: str
) -> None:
    spec, data = small["db/small.sql"]
    make = "MariaDB 99.1.0" if mysql.vendor == "mariadb" else "MySQL 99.1.0"
    newer = replace(spec, attributes={**spec.attributes, "server_version": make})
    with pytest.raises(UsageError, match=r"99\.1\.0.*an older server") as caught:
        restore_all(source_of(mysql, fresh), [(newer, data)])
    assert "older_server=yes" in (caught.value.hint or "")
    restore_all(source_of(mysql, fresh), [(newer, data)], older_server="yes")


def test_a_restore_needs_the_client_of_the_targets_make(
    mysql: MySQLServer, source_of: MakeSource, small: Dump, tmp_path: Path
) -> None:
    with pytest.raises(ClientMissing):
        restore_all(source_of(mysql, "x", client_path=tmp_path), small)


def test_a_read_only_server_is_refused(mysql: MySQLServer, source_of: MakeSource, small: Dump, fresh: str) -> None:
    with mysql.account("plain", "ALL ON `fresh%`.*") as user:
        mysql.execute("SET GLOBAL read_only = 1")
        try:
            with pytest.raises(SourceDenied, match="read-only"):
                restore_all(source_of(mysql, fresh, user=user), small)
        finally:
            mysql.execute("SET GLOBAL read_only = 0")


def test_a_restored_stream_of_another_format_is_refused(
    mariadb: MySQLServer, source_of: MakeSource, small: Dump
) -> None:
    spec, data = small["db/small.sql"]
    with pytest.raises(UsageError, match="format"):
        restore_one(source_of(mariadb), replace(spec, format="sqlite"), blocks_of(data), RestoreTarget())


def test_nothing_is_left_of_the_temporary_folder(
    mysql: MySQLServer, source_of: MakeSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: Dump, fresh: str
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    restore_all(source_of(mysql, fresh), small)
    assert not list(tmp_path.iterdir())
    shutil.rmtree(tmp_path)
