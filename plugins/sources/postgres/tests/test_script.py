"""Scripts of pg_restore are cut into the statements that psql would see."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.api import RestoreFailed
from penstock_postgres.script import CopyRows, Entry, Script

HEADER = b"--\n-- Name: t; Type: TABLE; Schema: public; Owner: me; Tablespace: fast\n--\n\n"


def blocks_of(text: bytes, size: int) -> list[memoryview]:
    return [memoryview(text[start : start + size]) for start in range(0, len(text), size)]


def read(text: bytes, size: int = 1 << 20) -> list[tuple[bytes, bytes | None, Entry | None]]:
    """Each statement, the rows after it, and its entry."""
    found = []
    for one in Script(blocks_of(text, size)):
        rows = b"".join(one.rows) if isinstance(one, CopyRows) else None
        found.append((one.text, rows, one.entry))
    return found


def texts(text: bytes, size: int = 1 << 20) -> list[bytes]:
    return [one for one, _, _ in read(text, size)]


WHOLE = [
    b"SET a = 'b;c'",
    b"SELECT E'it\\'s; \\\\'",
    b"SELECT 'it''s; '",
    b'CREATE TABLE "a;b""c" (i integer)',
    b"CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $_$ SELECT $$a;b$$; $_$",
    b"CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT 1; -- it's $$",
    b"CREATE FUNCTION a$b$c() RETURNS integer LANGUAGE sql AS 'SELECT 1; '",
    b"CREATE OR REPLACE FUNCTION f(i int) RETURNS int BEGIN ATOMIC\n SELECT CASE WHEN true THEN 1 END; SELECT 3;\nEND",
    b"CREATE PROCEDURE p() LANGUAGE sql BEGIN ATOMIC INSERT INTO t VALUES (1); DELETE FROM t; END",
    b"CREATE RULE r AS ON INSERT TO t DO ALSO ( SELECT 1; SELECT 2; )",
    b'CREATE VIEW begin AS SELECT 1 AS "end"',
    b"COMMENT ON TABLE t IS '\n--\n-- Name: x; Type: VIEW; Schema: s; Owner: o\n--\n'",
    b"SELECT 'caf\xc3\xa9; \xff\xfe'",
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1 << 20])
def test_a_semicolon_ends_a_statement_only_outside_of_quotes_parentheses_and_bodies(size: int) -> None:
    script = HEADER + b";\n\n\n--\n".join(WHOLE) + b";\n"
    assert texts(script, size) == WHOLE


@pytest.mark.parametrize("size", [1, 5, 1 << 20])
def test_rows_end_at_their_end_line_and_hold_whatever_lines_there_are(size: int) -> None:
    rows = b"1\ta;b\n2\t\\\\.\n3\t'\n\\.x\n"
    script = HEADER + b"COPY public.t (i, x) FROM stdin;\n" + rows + b"\\.\n\n\nCOPY e FROM stdin;\n\\.\n\nSELECT 1;\n"
    entry = Entry("TABLE", "t", "public")
    assert read(script, size) == [
        (b"COPY public.t (i, x) FROM stdin", rows, entry),
        (b"COPY e FROM stdin", b"", entry),
        (b"SELECT 1", None, entry),
    ]


@pytest.mark.slow
@given(
    rows=st.lists(st.binary(max_size=20).map(lambda row: row.replace(b"\n", b"n").replace(b"\\", b"\\\\"))),
    size=st.integers(1, 50),
)
def test_any_rows_come_back_in_any_blocks(rows: list[bytes], size: int) -> None:
    data = b"".join(row + b"\n" for row in rows)
    script = b"COPY t FROM stdin;\n" + data + b"\\.\n\nSELECT 1;\n"
    assert [(text, got) for text, got, _ in read(script, size)] == [
        (b"COPY t FROM stdin", data), (b"SELECT 1", None)
    ]  # fmt: skip


def test_a_dollar_that_begins_no_quote_is_one() -> None:
    assert texts(b"SELECT $1, $x;\nSELECT '$';\n", 1) == [b"SELECT $1, $x", b"SELECT '$'"]


def test_rows_that_nobody_takes_are_passed_over() -> None:
    script = b"COPY t FROM stdin;\n1\n2\n\\.\n\nSELECT 1;\n"
    assert [one.text for one in Script(blocks_of(script, 3))] == [b"COPY t FROM stdin", b"SELECT 1"]


def test_statements_belong_to_the_entry_before_them() -> None:
    script = (
        b"SET x = 1;\n"
        + HEADER
        + b"CREATE TABLE t ();\n\n"
        + b"--\n-- Name: TABLE t; Type: ACL; Schema: -; Owner: me\n--\n\nGRANT SELECT ON t TO a;\n"
        + b"--\n-- Data for Name: odd; Type: x; Type: TABLE DATA; Schema: public; Owner: -\n--\n\nSELECT 1;\n"
    )
    assert [entry for _, _, entry in read(script)] == [
        None,
        Entry("TABLE", "t", "public"),
        Entry("ACL", "TABLE t", ""),
        Entry("TABLE DATA", "odd; Type: x", "public"),
    ]


def test_backslashes_count_in_every_quote_of_a_server_with_old_strings() -> None:
    script = b"SELECT 'a\\';\nSET standard_conforming_strings = 'off';\nSELECT 'a\\'; b';\nSELECT 2;\n"
    assert texts(script)[2:] == [b"SELECT 'a\\'; b'", b"SELECT 2"]


def test_commands_of_psql_between_statements_are_nothing_and_within_one_refused() -> None:
    assert texts(b"\\restrict abc\nSELECT 1;\n\\unrestrict abc\n") == [b"SELECT 1"]
    with pytest.raises(RestoreFailed, match="command of psql"):
        texts(b"SELECT 1\n\\! touch /tmp/x\n;\n")


@pytest.mark.parametrize(
    "script",
    [b"SELECT 1", b"SELECT 'a;\n", b"SELECT $$a;\n", b"COPY t FROM stdin;", b"COPY t FROM stdin;\n1\n", b'SELECT "a;'],
)
def test_a_script_that_ends_too_early_is_refused(script: bytes) -> None:
    with pytest.raises(RestoreFailed, match="script"):
        read(script, 4)
