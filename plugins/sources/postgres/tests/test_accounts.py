import pytest
from hypothesis import given
from hypothesis import strategies as st
from plugins.sources.postgres.tests.conftest import MakeSource
from tests.servers.postgres import PostgresServer

from penstock.api import RestoreFailed, RestoreTarget
from penstock.testing.hearing import Heard
from penstock_postgres.accounts import restore_accounts, statements
from penstock_postgres.options import RestoreOptions

SCRIPT = r"""--
-- PostgreSQL database cluster dump
--

\restrict abc

SET default_transaction_read_only = off;
CREATE ROLE "a;b ""c"" -- d";
ALTER ROLE "a;b ""c"" -- d" WITH SUPERUSER PASSWORD 'md5;--''x';
COMMENT ON ROLE x IS E'it''s; \' \\'; COMMENT ON ROLE type IS 'a\';
COMMENT ON ROLE y IS $tag$;'$x$"$tag$;

--
-- PostgreSQL database cluster dump complete
--

\unrestrict abc
"""


def test_a_script_is_split_at_its_semicolons_and_nowhere_else() -> None:
    assert [statement.decode() for statement in statements(SCRIPT.encode())] == [
        "SET default_transaction_read_only = off",
        'CREATE ROLE "a;b ""c"" -- d"',
        'ALTER ROLE "a;b ""c"" -- d" WITH SUPERUSER PASSWORD \'md5;--\'\'x\'',
        r"COMMENT ON ROLE x IS E'it''s; \' \\'",
        r"COMMENT ON ROLE type IS 'a\'",
        "COMMENT ON ROLE y IS $tag$;'$x$\"$tag$",
    ]


@pytest.mark.parametrize("script", ["CREATE ROLE x", "SELECT 'x;", 'SELECT "x;', "CREATE ROLE x \\! date\n;"])
def test_what_is_no_such_script_is_refused(script: str) -> None:
    with pytest.raises(RestoreFailed):
        list(statements(script.encode()))


def test_commands_of_psql_are_never_statements() -> None:
    assert list(statements(b"\\! touch /tmp/x\n\\copy x from y\nSELECT 1;\n")) == [b"SELECT 1"]


@pytest.mark.slow
@given(st.lists(st.tuples(st.text(), st.text()), max_size=5))
def test_any_name_and_any_text_stay_whole(pairs: list[tuple[str, str]]) -> None:
    whole = [
        "COMMENT ON ROLE \"{}\" IS '{}'".format(name.replace('"', '""'), text.replace("'", "''")).encode(
            errors="replace"
        )
        for name, text in pairs
    ]
    assert list(statements(b"".join(one + b";\n" for one in whole))) == whole


@pytest.mark.server
def test_a_tablespace_within_the_data_folder_is_made_and_left_where_it_is(
    newest_postgres: PostgresServer, source_of: MakeSource
) -> None:
    """PostgreSQL's own tests make one. The server refuses its place before it sees that it has it already."""
    settings = source_of(newest_postgres, "postgres").settings
    script = b"CREATE TABLESPACE within OWNER postgres LOCATION '';\n"
    try:
        for _ in range(2):
            restore_accounts(settings, [memoryview(script)], RestoreOptions.of(RestoreTarget()), Heard())
            assert newest_postgres.query("SELECT 1 FROM pg_tablespace WHERE spcname = 'within'") == [(1,)]
    finally:
        with newest_postgres.connect() as connection:
            connection.execute("DROP TABLESPACE IF EXISTS within")
