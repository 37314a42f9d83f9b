"""Events with what the dump programs look for ever for: they are in the dump, as the server has them, and come back."""

from contextlib import ExitStack

import pytest
from plugins.sources.mysql.tests.conftest import MakeSource, dump_all, read_all, restore_all
from tests.servers.mysql import MySQLServer

from penstock_mysql.source import MySQLSource

pytestmark = pytest.mark.server

EVENTS = (
    "CREATE EVENT fine ON SCHEDULE EVERY 1 YEAR DISABLE DO SELECT 1",
    "CREATE EVENT body ON SCHEDULE EVERY 1 YEAR DISABLE DO BEGIN /* ;; $$ */ SELECT ';;$$$'; END",
    "CREATE EVENT said ON SCHEDULE EVERY 1 YEAR DISABLE COMMENT 'it''s ;;' DO SELECT 1",
    "CREATE EVENT `na``;;me` ON SCHEDULE EVERY 1 YEAR DISABLE DO SELECT 1",
)
#: In a character set, an SQL mode and a time zone of its own, under a collation that the database has no more.
ODD = b"""SET NAMES latin1; SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES', time_zone = '+02:00';
ALTER DATABASE endless CHARACTER SET latin1 COLLATE latin1_german2_ci;
DELIMITER $$
CREATE EVENT "odd" ON SCHEDULE EVERY 1 YEAR DISABLE DO BEGIN /* ;; */ SELECT 'a\\', '\xe4'; END$$
DELIMITER ;
ALTER DATABASE endless CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;
"""


def seen(server: MySQLServer, database: str) -> list[tuple[object, ...]]:
    query = (
        "SELECT EVENT_NAME, DEFINER, TIME_ZONE, EVENT_DEFINITION, SQL_MODE, STARTS, EVENT_COMMENT, "
        "CHARACTER_SET_CLIENT, COLLATION_CONNECTION, DATABASE_COLLATION FROM information_schema.EVENTS "
        f"WHERE EVENT_SCHEMA = '{database}' ORDER BY 1"
    )
    return server.query(query)


@pytest.mark.parametrize("number", range(1, len(EVENTS)))
def test_an_event_that_the_dump_program_never_ends_with_comes_back(
    mysql: MySQLServer, source_of: MakeSource, number: int
) -> None:
    with mysql.database("endless") as name:
        mysql.execute("CREATE TABLE t AS SELECT 'there' AS what", name)
        for statement in (EVENTS[0], EVENTS[number]):
            mysql.execute(statement, name)
        source = source_of(mysql, name, stall_timeout=20)
        assert not [warning for warning in source.inspect().warnings if "event of" in warning]
        before, dump = seen(mysql, name), dump_all(source)
        assert len(before) == 2
        assert restore_all(source_of(mysql), dump, clean=True).lost == []
        assert seen(mysql, name) == before
        assert mysql.query("SELECT what FROM t", name) == [("there",)]


def test_it_keeps_its_character_set_mode_time_zone_and_collation(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("endless") as name, mysql.database("copy") as copy:
        mysql.execute("CREATE EVENT later ON SCHEDULE EVERY 1 YEAR DISABLE DO SELECT 'x'", name)
        mysql.run_script(ODD, name)
        before, dump = seen(mysql, name), dump_all(source_of(mysql, name))
        mysql.drop(copy)
        assert restore_all(source_of(mysql), dump, rename="endless=copy").lost == []
        assert seen(mysql, copy) == before
        created = mysql.query(f"SHOW CREATE DATABASE {copy}")[0][1]
        assert "utf8mb4_unicode_ci" in created
        # What people take out with `penstock cat` is for the engine's own client.
        mysql.drop(copy)
        mysql.execute(f"CREATE DATABASE {copy} COLLATE utf8mb4_unicode_ci")
        mysql.run_script(dump["db/endless.sql"][1].replace(b"`endless`", b"`copy`"), copy)
        assert seen(mysql, copy) == before


def test_it_is_in_a_dump_of_another_process_and_in_one_of_all_databases_at_one_moment(
    mysql: MySQLServer, source_of: MakeSource
) -> None:
    with mysql.database("endless") as name:
        mysql.execute(EVENTS[1], name)
        source = source_of(mysql, name)
        alone = dump_all(source)["db/endless.sql"][1]
        assert b"EVENT `body`" in alone
        with source.dump() as held:
            stream = MySQLSource(source.settings).attach(held.plan.streams[0])
            assert read_all(stream) == alone
        together = source_of(mysql, name, consistency="server")
        assert dump_all(together)["db/endless.sql"][1] == alone


def test_one_that_the_target_refuses_is_given_in_a_form_that_its_client_takes(
    mysql: MySQLServer, source_of: MakeSource
) -> None:
    with mysql.database("endless") as name, ExitStack() as cleaning:
        mysql.execute(EVENTS[1], name)
        dump = dump_all(source_of(mysql, name))
        user = cleaning.enter_context(mysql.account("owner", "ALL ON `endless%`.*"))
        (lost,) = restore_all(source_of(mysql, name, user=user), dump, clean=True).lost
        assert (lost.kind, lost.name) == ("event", "body")
        assert not seen(mysql, name)
        dump = {key: (spec, data.replace(b"EVERY 1 YEAR", b"EVERY 1 YAER")) for key, (spec, data) in dump.items()}
        (lost,) = restore_all(source_of(mysql, name), dump, clean=True).lost
        mysql.run_script(lost.statement.replace("YAER", "YEAR").encode(errors="surrogateescape"), name)
        assert [row[0] for row in seen(mysql, name)] == ["body"]
