from collections.abc import Iterator
from dataclasses import replace

import pytest
from plugins.sources.mysql.tests.conftest import Dump, MakeSource, dump_all, restore_all
from pymysql import err
from tests.servers.mysql import PASSWORD, MySQLServer, MySQLServers

from penstock.api import RestoreFailed, SourceDenied, UsageError
from penstock_mysql.attempts import said_of

pytestmark = pytest.mark.server

NAMES = ("'alice o''hara'@'%'", "'bob'@'10.0.0.0/255.0.0.0'", "'clerk'@'%'")


@pytest.fixture
def people(mysql: MySQLServer) -> Iterator[MySQLServer]:
    """A server with accounts of all kinds, which are gone afterwards."""
    maria = mysql.vendor == "mariadb"
    role = "clerk" if maria else "'clerk'"

    def drop() -> None:
        for name in (*NAMES[:2], "'carol'@'%'"):
            mysql.execute(f"DROP USER IF EXISTS {name}")
        mysql.execute(f"DROP ROLE IF EXISTS {role}")

    drop()
    with mysql.database("office") as office:
        mysql.execute("CREATE TABLE t (i INT, secret INT)", office)
        mysql.execute("CREATE PROCEDURE p() SELECT 1", office)
        mysql.execute("CREATE USER %s@'%%' IDENTIFIED BY %s", None, ("alice o'hara", PASSWORD))
        mysql.execute(f"CREATE USER {NAMES[1]} IDENTIFIED BY 'b' REQUIRE SSL WITH MAX_USER_CONNECTIONS 3 ACCOUNT LOCK")
        mysql.execute(f"CREATE ROLE {role}")
        mysql.execute(f"GRANT SELECT ON office.* TO {role}")
        mysql.execute(f"GRANT {role} TO {NAMES[0]}")
        mysql.execute(f"SET DEFAULT ROLE {role} {'FOR' if maria else 'TO'} {NAMES[0]}")
        mysql.execute(f"GRANT SELECT (i), UPDATE (i) ON office.t TO {NAMES[0]} WITH GRANT OPTION")
        mysql.execute(f"GRANT EXECUTE ON PROCEDURE office.p TO {NAMES[1]}")
        mysql.execute(f"GRANT ALL ON `off\\_%`.* TO {NAMES[1]}")
        try:
            yield mysql
        finally:
            drop()


def grants(server: MySQLServer) -> list[list[tuple[str, ...]]]:
    found = [server.query(f"SHOW GRANTS FOR {name}") for name in NAMES[:2]]
    found += [server.query(f"SHOW CREATE USER {name}") for name in NAMES[:2]]
    found.append(server.query("SHOW GRANTS FOR clerk"))
    return found


def accounts_of(server: MySQLServer, source_of: MakeSource) -> Dump:
    dump = dump_all(source_of(server, "office", accounts="yes"))
    return {"accounts.sql": dump["accounts.sql"]}


def forget(server: MySQLServer) -> None:
    for name in NAMES[:2]:
        server.execute(f"DROP USER {name}")
    server.execute("DROP ROLE clerk")


def test_accounts_come_back_with_passwords_roles_and_grants(people: MySQLServer, source_of: MakeSource) -> None:
    before, dump = grants(people), accounts_of(people, source_of)
    forget(people)
    restore_all(source_of(people), dump)
    assert grants(people) == before
    assert accounts_of(people, source_of) == dump
    with people.connect(user="alice o'hara", password=PASSWORD) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT * FROM office.t")


def test_accounts_that_are_there_stay_as_they_are(people: MySQLServer, source_of: MakeSource) -> None:
    dump = accounts_of(people, source_of)
    people.execute(f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {NAMES[1]}")
    before = people.query(f"SHOW GRANTS FOR {NAMES[1]}")
    people.execute(f"DROP USER {NAMES[0]}")
    restore_all(source_of(people), dump)
    assert people.query(f"SHOW GRANTS FOR {NAMES[1]}") == before
    assert any("office" in str(row) for row in people.query(f"SHOW GRANTS FOR {NAMES[0]}"))


@pytest.fixture
def public(people: MySQLServer) -> Iterator[MySQLServer]:
    """A MariaDB on which everybody may do something, and nobody does afterwards."""
    if people.vendor != "mariadb":
        pytest.skip("not applicable: MySQL has no PUBLIC")
    for statement in ("SELECT ON office.* TO PUBLIC WITH GRANT OPTION", "clerk TO PUBLIC"):
        people.execute(f"GRANT {statement}")
    yield people
    nobody(people)


def nobody(server: MySQLServer) -> None:
    server.execute("REVOKE ALL PRIVILEGES, GRANT OPTION FROM PUBLIC")


def test_what_everybody_may_do_comes_back(public: MySQLServer, source_of: MakeSource) -> None:
    before, dump = public.query("SHOW GRANTS FOR PUBLIC"), accounts_of(public, source_of)
    nobody(public)
    forget(public)
    restore_all(source_of(public), dump)
    assert len(before) > 2
    assert public.query("SHOW GRANTS FOR PUBLIC") == before
    assert accounts_of(public, source_of) == dump


def test_what_everybody_may_do_on_the_server_stays_as_it_is(public: MySQLServer, source_of: MakeSource) -> None:
    dump = accounts_of(public, source_of)
    nobody(public)
    public.execute("GRANT INSERT ON office.* TO PUBLIC")
    before = public.query("SHOW GRANTS FOR PUBLIC")
    restore_all(source_of(public), dump)
    assert public.query("SHOW GRANTS FOR PUBLIC") == before


def test_a_failed_restore_gives_everybody_nothing(public: MySQLServer, source_of: MakeSource) -> None:
    dump = accounts_of(public, source_of)
    nobody(public)
    forget(public)
    public.execute("RENAME TABLE office.t TO office.elsewhere")
    with pytest.raises(RestoreFailed, match=r"office\.t"):
        restore_all(source_of(public), dump, strict=True)
    assert public.query("SHOW GRANTS FOR PUBLIC") == []


def test_the_restoring_account_never_locks_itself_out(people: MySQLServer, source_of: MakeSource) -> None:
    before = people.query("SHOW GRANTS")
    restore_all(source_of(people), accounts_of(people, source_of))
    assert people.query("SHOW GRANTS") == before


def test_accounts_are_left_out_by_an_option_or_where_they_may_not_be_made(
    people: MySQLServer, source_of: MakeSource
) -> None:
    dump = accounts_of(people, source_of)
    forget(people)
    restore_all(source_of(people), dump, accounts="no")
    with people.account("carol", "SELECT ON *.*") as user:
        source = source_of(people, user=user)
        restore_all(source, dump)
        with pytest.raises(SourceDenied, match="may not make accounts"):
            restore_all(source, dump, accounts="yes")
    assert not people.query("SELECT 1 FROM mysql.user WHERE User = 'bob'")
    restore_all(source_of(people), dump)


def test_half_of_the_accounts_are_none(people: MySQLServer, source_of: MakeSource) -> None:
    spec, data = accounts_of(people, source_of)["accounts.sql"]
    forget(people)
    with pytest.raises(RestoreFailed, match="do not end"):
        restore_all(source_of(people), [(spec, data[:-10])])
    assert not people.query("SELECT 1 FROM mysql.user WHERE User = 'bob'")
    restore_all(source_of(people), [(spec, data)])


def test_a_refused_statement_is_shown_without_its_hash(people: MySQLServer, source_of: MakeSource) -> None:
    spec, data = accounts_of(people, source_of)["accounts.sql"]
    forget(people)
    try:
        with pytest.raises(RestoreFailed) as caught:
            restore_all(source_of(people), [(spec, data.replace(b"REQUIRE SSL", b"REQUIRE NONSENSE"))], strict=True)
        assert "'bob'" in caught.value.message or "`bob`" in caught.value.message
        assert "IDENTIFIED" not in caught.value.message.split(": ")[0]
    finally:
        people.execute(f"DROP USER IF EXISTS {NAMES[0]}, {NAMES[1]}")
        restore_all(source_of(people), [(spec, data)])


def test_a_refusal_that_quotes_the_statement_is_cut() -> None:
    quoting = err.ProgrammingError(1064, "an error in your SQL syntax; use near '0x24412430 REQUIRE' at line 1")
    assert "0x2441" not in said_of(quoting, secret=True)


def test_accounts_of_a_failed_restore_are_not_taken_for_the_servers_own(
    people: MySQLServer, source_of: MakeSource
) -> None:
    before = grants(people)
    dump = accounts_of(people, source_of)
    forget(people)
    people.execute("RENAME TABLE office.t TO office.elsewhere")
    with pytest.raises(RestoreFailed, match=r"office\.t"):
        restore_all(source_of(people), dump, strict=True)
    assert not people.query("SELECT 1 FROM mysql.user WHERE User IN ('bob', 'clerk') OR User LIKE 'alice%'")
    people.execute("RENAME TABLE office.elsewhere TO office.t")
    restore_all(source_of(people), dump)
    assert grants(people) == before


def test_a_name_with_a_line_separator_comes_back(people: MySQLServer, source_of: MakeSource) -> None:
    name = "'two\u2028lines\x0b'@'%'"
    people.execute(f"CREATE USER {name.replace('%', '%%')} IDENTIFIED BY 'x'", None, ())
    try:
        people.execute(f"GRANT SELECT ON office.* TO {name}")
        before = people.query(f"SHOW GRANTS FOR {name}")
        dump = accounts_of(people, source_of)
        people.execute(f"DROP USER {name}")
        restore_all(source_of(people), dump)
        assert people.query(f"SHOW GRANTS FOR {name}") == before
    finally:
        people.execute(f"DROP USER IF EXISTS {name}")


def test_accounts_of_the_other_make_are_refused(
    mysql_servers: MySQLServers, people: MySQLServer, source_of: MakeSource
) -> None:
    other = mysql_servers.get("mysql" if people.vendor == "mariadb" else "mariadb")
    spec, data = accounts_of(people, source_of)["accounts.sql"]
    with pytest.raises(UsageError, match="mean nothing to the other"):
        restore_all(source_of(other), [(spec, data)])
    restore_all(source_of(other), [(replace(spec), data)], accounts="no")
