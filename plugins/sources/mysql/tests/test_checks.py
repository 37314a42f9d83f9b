"""What a dump does not hold is said before it, and never ends or spoils the dump of everything else."""

from contextlib import ExitStack
from typing import get_args

import pytest
from plugins.sources.mysql.tests.conftest import MakeSource, dump_all, restore_all
from pymysql import err
from tests.servers.mysql import MySQLServer, MySQLServers

from penstock_mysql.checks import CHECKS
from penstock_mysql.settings import CheckName
from penstock_mysql.source import MySQLSource

pytestmark = pytest.mark.server


def about(source: MySQLSource, word: str) -> list[str]:
    return [warning for warning in source.inspect().warnings if word in warning]


def test_the_settings_know_all_names_and_each_has_a_reason() -> None:
    assert tuple(check.name for check in CHECKS) == get_args(CheckName)
    assert all(check.reason for check in CHECKS)


def test_a_check_that_is_ignored_says_nothing(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("quiet") as name:
        mysql.execute("CREATE TABLE t (f FLOAT)", name)
        mysql.execute("CREATE TABLE u (i INT) ENGINE=MyISAM", name)
        said = source_of(mysql, name).inspect().warnings
        assert len([one for one in said if one.endswith((" [float]", " [no-transactions]"))]) == 2
        less = source_of(mysql, name, warnings={"ignore": ["float"]}).inspect().warnings
        assert less == tuple(one for one in said if not one.endswith(" [float]"))


def test_folders_in_the_servers_data_are_no_databases(mysql_servers: MySQLServers, source_of: MakeSource) -> None:
    server = mysql_servers.get("mariadb")
    if server.socket is None:
        pytest.skip("the server is elsewhere")
    folders = [server.socket.parent / "data" / name for name in ("lost+found", "@backup", ".ssh")]
    with server.database("real") as name:
        server.execute("CREATE TABLE t AS SELECT 1 AS i", name)
        for folder in folders:
            folder.mkdir()
            folder.chmod(0o777)
        try:
            source = source_of(server, exclude_databases=[])
            (warning,) = about(source, "folder")
            assert "lost+found" in warning
            dump = dump_all(source)
        finally:
            for folder in folders:
                folder.rmdir()
        assert "db/real.sql" in dump
        assert not [stream for stream in dump if "50" in stream or "lost" in stream or "ssh" in stream]


def test_foreign_servers_and_own_tables_in_the_servers_database_are_named(
    mysql: MySQLServer, source_of: MakeSource
) -> None:
    with mysql.database("plain") as name, ExitStack() as cleaning:
        source = source_of(mysql, name)
        assert not about(source, "CREATE SERVER")
        assert not about(source, "server's own database")
        cleaning.callback(mysql.execute, "DROP SERVER IF EXISTS far")
        cleaning.callback(mysql.execute, "DROP TABLE IF EXISTS mysql.mine")
        mysql.execute(
            "CREATE SERVER far FOREIGN DATA WRAPPER mysql OPTIONS (USER 'u', PASSWORD 'hidden', HOST 'h', DATABASE 'd')"
        )
        mysql.execute("CREATE TABLE mysql.mine (i INT)")
        (warning,) = about(source, "CREATE SERVER")
        assert "far" in warning
        assert "hidden" not in warning
        (warning,) = about(source, "server's own database")
        assert "mysql.mine" in warning
        assert warning.startswith("the table")
        assert not about(source_of(mysql, name, accounts="yes"), "CREATE SERVER")


def test_foreign_servers_come_back_with_the_accounts(mysql: MySQLServer, source_of: MakeSource) -> None:
    options = "USER 'u', PASSWORD 'hid''den', HOST 'h', DATABASE 'd', PORT 3310"
    with mysql.database("plain") as name, ExitStack() as cleaning:
        cleaning.callback(mysql.execute, "DROP SERVER IF EXISTS far")
        mysql.execute(f"CREATE SERVER far FOREIGN DATA WRAPPER mysql OPTIONS ({options})")
        before = mysql.query("SELECT * FROM mysql.servers")
        dump = [dump_all(source_of(mysql, name, accounts="yes"))["accounts.sql"]]
        assert restore_all(source_of(mysql), dump).lost == []
        mysql.execute("DROP SERVER far")
        said = restore_all(source_of(mysql), [(dump[0][0], dump[0][1].replace(b"PORT 3310", b"PORT x"))])
        (lost,) = said.lost
        assert (lost.kind, lost.name, lost.secret) == ("server", "far", True)
        assert "hid" not in str(lost)
        assert restore_all(source_of(mysql), dump).lost == []
        assert mysql.query("SELECT * FROM mysql.servers") == before


def test_a_second_password_is_named(oracle_mysql: MySQLServer, source_of: MakeSource) -> None:
    with oracle_mysql.database("plain") as name, oracle_mysql.account("twice"):
        source = source_of(oracle_mysql, name, accounts="yes")
        assert not about(source, "RETAIN")
        oracle_mysql.execute("ALTER USER 'twice'@'%' IDENTIFIED BY 'q' RETAIN CURRENT PASSWORD")
        (warning,) = about(source, "RETAIN")
        assert "twice@%" in warning


def test_a_password_that_has_expired_is_still_expired(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("plain") as name, mysql.account("late", "SELECT ON plain.*", "PROCESS ON *.*"):
        mysql.execute("ALTER USER 'late'@'%' PASSWORD EXPIRE")
        dump = dump_all(source_of(mysql, name, accounts="yes"))
        before = mysql.query("SHOW GRANTS FOR 'late'@'%'")
        mysql.execute("DROP USER 'late'@'%'")
        assert restore_all(source_of(mysql), [dump["accounts.sql"]]).lost == []
        assert mysql.query("SHOW GRANTS FOR 'late'@'%'") == before
        with pytest.raises(err.Error) as caught, mysql.connect(user="late", password="p") as connection:
            connection.cursor().execute("SELECT 1")
        assert caught.value.args[0] in (1820, 1862)
