import socket
from pathlib import Path

import pytest
from plugins.sources.mysql.tests.conftest import MakeSource, dump_all, fill_nasty, restore_all
from tests.servers.mysql import PASSWORD, MySQLServer, MySQLServers, Vendor
from tests.servers.postgres import free_port

from penstock.api import ClientMissing, SourceDenied, SourceError, SourceUnreachable
from penstock_mysql.connection import connect, rows

pytestmark = pytest.mark.server

ALL = "SELECT, SHOW VIEW, TRIGGER, EVENT ON"


def test_an_inspection_says_what_there_is(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("nasty") as name:
        fill_nasty(mysql, name)
        found = source_of(mysql, name).inspect()
    assert found.engine == mysql.vendor
    assert found.server_version == mysql.query("SELECT VERSION()")[0][0].split("-MariaDB")[0]
    assert found.client_version
    assert (found.size_estimate or 0) > 32_000_000
    items = {(item.kind, item.name): item for item in found.inventory}
    assert items["table", "nasty.no_key"].rows is not None
    assert not any(item.exact for item in found.inventory)
    assert ("view", "nasty.m_middle") in items
    assert items["triggers", "triggers"].rows == 3
    assert items["events", "events"].rows == 2
    if mysql.vendor == "mariadb":
        assert ("sequence", "nasty.se`q") in items


def test_what_a_dump_does_not_hold_is_named(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("nasty") as name, mysql.database("target") as target:
        fill_nasty(mysql, name)
        mysql.execute("CREATE TABLE t (i INT PRIMARY KEY, FOREIGN KEY (i) REFERENCES nasty.cycle_a (id))", target)
        said = "\n".join(source_of(mysql, name, target).inspect().warnings)
        quiet = "\n".join(source_of(mysql, name, exclude_tables=["nasty.isam", "nasty.everything"]).inspect().warnings)
        mysql.drop(target)
    assert "nasty.isam" in said
    assert "nasty.in_memory" in said
    assert "the column nasty.everything.f of type FLOAT" in said
    assert "the foreign key target.t_ibfk_1 to another database" in said
    assert "nasty.isam" not in quiet
    assert "FLOAT" not in quiet
    if mysql.vendor == "mariadb":
        assert "nasty.aria" in said
        assert "the history of the versioned table nasty.versioned" in said
        assert "enabled events do not run (1 of them): the server's event scheduler is off" in said


def test_float_loses_digits_in_a_dump_as_the_warning_says(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("floating") as name, mysql.database("back") as back:
        mysql.execute("CREATE TABLE t AS SELECT CAST(16777215 AS DOUBLE) AS d", name)
        mysql.execute("ALTER TABLE t ADD f FLOAT", name)
        mysql.execute("UPDATE t SET f = d", name)
        source = source_of(mysql, name)
        assert any("floating.t.f" in warning for warning in source.inspect().warnings)
        restore_all(source_of(mysql, back), dump_all(source))
        assert mysql.query("SELECT d + 0e0, f + 0e0 FROM t", back) == [(16777215.0, 16777200.0)]


def test_a_wrong_password_is_said_without_it(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.account("somebody", password=PASSWORD) as user:
        with pytest.raises(SourceDenied, match="Access denied") as caught:
            source_of(mysql, user=user, account_password="wr0ng").inspect()
        assert "wr0ng" not in str(caught.value)
        with pytest.raises(SourceDenied) as caught:
            source_of(mysql, user=user, password=None).inspect()
        assert "password" in (caught.value.hint or "")


def test_an_unreachable_server_may_be_tried_again(mysql: MySQLServer, source_of: MakeSource, tmp_path: Path) -> None:
    for settings in ({"port": free_port()}, {"host": None, "port": None, "socket": tmp_path / "none"}):
        with pytest.raises(SourceUnreachable) as caught:
            source_of(mysql, **settings).inspect()
        assert caught.value.retryable


def test_a_server_that_accepts_and_says_nothing_is_given_up(mysql: MySQLServer, source_of: MakeSource) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(SourceUnreachable):
        source_of(mysql, port=silent.getsockname()[1], connect_timeout=1).inspect()


def test_a_query_may_take_longer_than_the_connection(mysql: MySQLServer, source_of: MakeSource) -> None:
    with connect(source_of(mysql, connect_timeout=3).settings) as connection:
        assert rows(connection, "SELECT SLEEP(3.5)") == [(0,)]


def test_a_missing_database_is_named_with_those_that_there_are(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("there"), pytest.raises(SourceError, match="no database missing") as caught:
        source_of(mysql, "missing").inspect()
    assert "there" in (caught.value.hint or "")


def test_a_missing_client_is_said_before_anything_else(
    mysql: MySQLServer, source_of: MakeSource, tmp_path: Path
) -> None:
    with pytest.raises(ClientMissing, match="which client_path names"):
        source_of(mysql, client_path=tmp_path, port=free_port()).inspect()


def test_the_client_of_the_other_make_is_refused(mysql_servers: MySQLServers, source_of: MakeSource) -> None:
    makes: tuple[Vendor, Vendor] = ("mariadb", "mysql")
    one, other = (mysql_servers.get(make) for make in makes)
    for server, client in ((one, other), (other, one)):
        with pytest.raises(ClientMissing, match="the other make"):
            source_of(server, client_path=client.bin).inspect()


@pytest.mark.parametrize("lacking", ["SELECT", "SHOW VIEW", "TRIGGER", "EVENT"])
def test_missing_privileges_are_named_before_the_dump(mysql: MySQLServer, source_of: MakeSource, lacking: str) -> None:
    others = [name for name in ("SELECT", "SHOW VIEW", "TRIGGER", "EVENT") if name != lacking]
    with mysql.database("guarded") as name, mysql.account("reader", f"{', '.join(others)} ON guarded.*") as user:
        mysql.execute("CREATE TABLE t (i INT)", name)
        with pytest.raises(SourceDenied, match=f"lacks privileges: {lacking} on guarded") as caught:
            source_of(mysql, name, user=user).inspect()
        assert f"GRANT {lacking} ON `guarded`.* TO" in (caught.value.hint or "")
        with pytest.raises(SourceDenied), source_of(mysql, name, user=user).dump():
            pass


def test_one_table_is_not_taken_for_the_database(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("partly") as name:
        mysql.execute("CREATE TABLE seen (i INT)", name)
        mysql.execute("CREATE TABLE hidden (i INT)", name)
        with (
            mysql.account("reader", "SELECT, SHOW VIEW, TRIGGER ON partly.seen") as user,
            pytest.raises(SourceDenied, match="SELECT, SHOW VIEW, TRIGGER, EVENT on partly"),
        ):
            source_of(mysql, name, user=user).inspect()


def test_the_least_privileges_are_enough(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("least") as name:
        fill_nasty(mysql, name)
        mysql.execute("DROP VIEW foreign_definer", name)
        whole = dump_all(source_of(mysql, name))["db/least.sql"][1]
        # EXECUTE, because there is a view that calls a function with the rights of whoever asks.
        with mysql.account("reader", f"{ALL} *.*", "EXECUTE ON *.*") as user:
            source = source_of(mysql, name, user=user, routines="yes")
            assert dump_all(source)["db/least.sql"][1] == whole


def test_a_role_gives_privileges_too(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("roles") as name, mysql.account("member") as user:
        mysql.execute("CREATE ROLE keeper")
        try:
            mysql.execute(f"GRANT {ALL} *.* TO keeper")
            mysql.execute("GRANT keeper TO 'member'@'%'")
            with pytest.raises(SourceError, match="that the user may see"):
                source_of(mysql, name, user=user).inspect()
            mysql.execute(
                "SET DEFAULT ROLE keeper FOR 'member'@'%'" if mysql.vendor == "mariadb"
                else "SET DEFAULT ROLE keeper TO 'member'@'%'"
            )  # fmt: skip
            mysql.execute("CREATE TABLE t AS SELECT 'there' AS what", name)
            assert b"there" in dump_all(source_of(mysql, name, user=user))["db/roles.sql"][1]
        finally:
            mysql.execute("DROP ROLE keeper")


def test_routines_that_are_hidden_are_left_out_and_said_or_refused(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("hiding") as name, mysql.account("reader", f"{ALL} hiding.*", "EXECUTE ON hiding.*") as user:
        mysql.execute("CREATE PROCEDURE p() SELECT 'secret body'", name)
        source = source_of(mysql, name, user=user)
        assert any("procedures and functions" in warning for warning in source.inspect().warnings)
        assert b"secret body" not in dump_all(source)["db/hiding.sql"][1]
        with pytest.raises(SourceDenied, match="procedures and functions"):
            source_of(mysql, name, user=user, routines="yes").inspect()
        assert b"secret body" in dump_all(source_of(mysql, name))["db/hiding.sql"][1]
        assert b"secret body" not in dump_all(source_of(mysql, name, routines=False))["db/hiding.sql"][1]


def test_accounts_that_cannot_be_read_are_left_out_and_said_or_refused(
    mysql: MySQLServer, source_of: MakeSource
) -> None:
    with mysql.database("plain") as name, mysql.account("reader", f"{ALL} plain.*") as user:
        source = source_of(mysql, name, user=user, accounts="auto")
        assert any("accounts and their grants are left out" in warning for warning in source.inspect().warnings)
        assert list(dump_all(source)) == ["db/plain.sql"]
        with pytest.raises(SourceDenied, match="other accounts"):
            source_of(mysql, name, user=user, accounts="yes").inspect()


def test_the_lock_needs_a_privilege(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("locking") as name, mysql.account("reader", f"{ALL} *.*") as user:
        with pytest.raises(SourceDenied, match="global read lock"):
            source_of(mysql, name, user=user, consistency="server").inspect()
        mysql.execute("GRANT RELOAD ON *.* TO 'reader'@'%'")
        assert dump_all(source_of(mysql, name, user=user, consistency="server"))


def test_a_view_that_would_fail_the_dump_is_named_before_and_costs_itself(
    mysql: MySQLServer, source_of: MakeSource
) -> None:
    with mysql.database("viewing") as name, mysql.database("other") as other:
        mysql.execute("CREATE TABLE gone (i INT)", name)
        mysql.execute("CREATE VIEW v AS SELECT * FROM gone", name)
        mysql.execute("CREATE VIEW good AS SELECT 1 AS one", name)
        mysql.execute("CREATE TABLE t AS SELECT 'there' AS what", other)
        mysql.execute("DROP TABLE gone", name)
        source = source_of(mysql, name, other)
        (warning,) = [warning for warning in source.inspect().warnings if "viewing.v" in warning]
        assert "exclude_tables" in warning
        dump = dump_all(source)
        assert b"there" in dump["db/other.sql"][1]
        assert b"VIEW `good`" in dump["db/viewing.sql"][1]
        assert b"VIEW `v`" not in dump["db/viewing.sql"][1]
        source = source_of(mysql, name, exclude_tables=["viewing.v", "viewing.good"])
        assert not [warning for warning in source.inspect().warnings if "viewing.v" in warning]
        assert b"VIEW" not in dump_all(source)["db/viewing.sql"][1]


def test_what_belongs_to_nobody_is_named_and_dumped(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("orphaned") as name:
        mysql.execute("CREATE TABLE t (i INT)", name)
        mysql.execute("CREATE DEFINER='gone'@'%' VIEW v AS SELECT * FROM t", name)
        mysql.execute("CREATE DEFINER='gone'@'%' PROCEDURE p() SELECT 1", name)
        source = source_of(mysql, name)
        (warning,) = [warning for warning in source.inspect().warnings if "definer" in warning]
        assert "2 views or programs: orphaned.p (gone@%), orphaned.v (gone@%)" in warning
        data = dump_all(source)["db/orphaned.sql"][1]
    assert data.count(b"DEFINER=`gone`@`%`") == 2


def test_databases_that_are_not_seen_are_spoken_of(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("seen") as name, mysql.account("reader", f"{ALL} seen.*") as user:
        assert any("SHOW DATABASES" in warning for warning in source_of(mysql, user=user).inspect().warnings)
        assert not any("SHOW DATABASES" in w for w in source_of(mysql, name, user=user).inspect().warnings)


@pytest.mark.parametrize("tls", ["disable", "prefer", "require"])
def test_tls_is_used_as_the_settings_say(oracle_mysql: MySQLServer, source_of: MakeSource, tls: str) -> None:
    with oracle_mysql.database("secure") as name, oracle_mysql.account("tls", f"{ALL} *.*") as user:
        oracle_mysql.execute("CREATE TABLE t AS SELECT 'there' AS what", name)
        if tls != "disable":
            oracle_mysql.execute("ALTER USER 'tls'@'%' REQUIRE SSL")
        assert b"there" in dump_all(source_of(oracle_mysql, name, user=user, tls=tls))["db/secure.sql"][1]
        oracle_mysql.execute("ALTER USER 'tls'@'%' REQUIRE SSL")
        if tls == "disable":
            with pytest.raises(SourceDenied):
                source_of(oracle_mysql, name, user=user, tls=tls).inspect()


def test_a_certificate_is_verified_where_that_is_asked_for(oracle_mysql: MySQLServer, source_of: MakeSource) -> None:
    if oracle_mysql.socket is None:
        pytest.skip("the server is elsewhere")
    authority = oracle_mysql.socket.parent / "data" / "ca.pem"
    with oracle_mysql.database("verified") as name:
        oracle_mysql.execute("CREATE TABLE t AS SELECT 'there' AS what", name)
        source = source_of(oracle_mysql, name, tls="verify-ca", tls_ca=authority)
        assert b"there" in dump_all(source)["db/verified.sql"][1]
        # It was made by the server for itself, for no host in particular.
        for settings in ({"tls": "verify-full", "tls_ca": authority}, {"tls": "verify-ca"}):
            with pytest.raises(SourceError, match=r"certificate|CERTIFICATE") as caught:
                source_of(oracle_mysql, name, **settings).inspect()
            assert "tls_ca" in (caught.value.hint or "")


def test_a_server_without_tls_is_refused_where_it_is_required(mariadb: MySQLServer, source_of: MakeSource) -> None:
    with mariadb.database("open") as name:
        assert dump_all(source_of(mariadb, name, tls="prefer"))
        with pytest.raises(SourceError, match="SSL is required"):
            source_of(mariadb, name, tls="require").inspect()
