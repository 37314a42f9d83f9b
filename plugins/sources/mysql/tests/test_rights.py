"""What an account needs that is no administrator, as the README says: for a dump, and for each kind of restore."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from plugins.sources.mysql.tests.conftest import Dump, MakeSource, dump_all, fill_nasty, restore_all
from tests.servers.mysql import MySQLServer

from penstock.testing.hearing import Heard
from penstock_mysql.source import MySQLSource

pytestmark = pytest.mark.server

_README = Path(__file__).parents[1] / "README.md"


def needed(purpose: str) -> str:
    """The first words in code of that line of the README's table."""
    (line,) = re.findall(rf"(?m)^\| {re.escape(purpose)} \| (.*) \|$", _README.read_text(encoding="utf-8"))
    return str(re.findall(r"`([^`]+)`", line)[0])


READING = needed("a dump of one database")
WRITING = needed("a restore")


@pytest.fixture
def people(mysql: MySQLServer) -> Iterator[MySQLServer]:
    """A server with a database of everything that dumps get wrong, and an account with a grant in it."""
    with ExitStack() as cleaning:
        name = cleaning.enter_context(mysql.database("rights"))
        fill_nasty(mysql, name)
        mysql.execute("DROP VIEW foreign_definer", name)
        cleaning.enter_context(mysql.account("app", "SELECT ON rights.*"))
        cleaning.callback(mysql.drop, "rights_copy")
        yield mysql


def test_the_rights_for_a_dump_of_everything_are_enough(people: MySQLServer, source_of: MakeSource) -> None:
    # EXECUTE, since there is a view that calls a function as whoever asks.
    with people.account("reader", needed("a dump of everything"), "EXECUTE ON rights.*") as user:
        dump = dump_all(source_of(people, "rights", user=user, accounts="yes", routines="yes"))
    assert dump["db/rights.sql"][1] == dump_all(source_of(people, "rights"))["db/rights.sql"][1]
    assert b"`app`@`%`" in dump["accounts.sql"][1].replace(b"'", b"`")


def test_the_rights_for_a_dump_of_one_database_are_enough(people: MySQLServer, source_of: MakeSource) -> None:
    bodies = "SELECT ON mysql.proc" if people.vendor == "mariadb" else "SHOW_ROUTINE ON *.*"
    assert bodies in _README.read_text(encoding="utf-8")
    grants = (f"{READING} ON rights.*", "EXECUTE ON rights.*", bodies)
    with people.account("reader", *grants) as user:
        dump = dump_all(source_of(people, "rights", user=user, routines="yes"))
    assert dump["db/rights.sql"][1] == dump_all(source_of(people, "rights"))["db/rights.sql"][1]


@pytest.fixture
def dump(people: MySQLServer, source_of: MakeSource) -> Dump:
    return dump_all(source_of(people, "rights"))


def copied(source: MySQLSource, dump: Dump, *, clean: bool = False, beside: str = "yes") -> Heard:
    """Restore it as another database, with the restoring account as definer."""
    return restore_all(source, dump, clean=clean, rename="rights=rights_copy", definers="mine", beside=beside)


def told(server: MySQLServer, database: str) -> list[str]:
    """All of a database but who defines its views and programs, and what counts its rows."""
    text = server.as_text(database).decode(errors="surrogateescape")
    return re.sub(r"DEFINER=\S+|AUTO_INCREMENT=\d+", "", text).replace("`rights_copy`", "`rights`").splitlines()


def test_the_rights_for_a_restore_are_enough_for_a_new_database_and_a_clean_one(
    people: MySQLServer, source_of: MakeSource, dump: Dump
) -> None:
    with people.account("owner", f"{WRITING} ON `rights\\_copy%`.*") as user:
        source = source_of(people, user=user)
        assert not copied(source, dump).lost
        assert told(people, "rights_copy") == told(people, "rights")
        people.execute("CREATE TABLE later (i INT)", "rights_copy")
        assert not copied(source, dump, clean=True).lost
        assert told(people, "rights_copy") == told(people, "rights")


def test_without_the_rights_beside_a_clean_restore_takes_the_place_first(
    people: MySQLServer, source_of: MakeSource, dump: Dump
) -> None:
    with people.account("owner", f"{WRITING} ON `rights\\_copy`.*") as user:
        source = source_of(people, user=user)
        assert not copied(source, dump).lost
        people.execute("CREATE TABLE later (i INT)", "rights_copy")
        assert not copied(source, dump, clean=True, beside="no").lost
        assert told(people, "rights_copy") == told(people, "rights")
