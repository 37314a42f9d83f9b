"""A database by tables: its streams, and what comes back of them."""

from dataclasses import replace
from typing import Any

import pytest
from plugins.sources.postgres.tests.conftest import MakeSource
from tests.servers.postgres import PostgresServer
from tests.servers.streams import Dump, blocks_of, dump_all, read_all, restore_all

from penstock.api import (
    DamagedObject,
    InventoryItem,
    RestoreFailed,
    RestoreTarget,
    SourceError,
    UsageError,
)
from penstock.testing.hearing import Heard

pytestmark = pytest.mark.server

LINKED = """
CREATE TABLE b (id integer PRIMARY KEY, what text);
CREATE TABLE a (id integer PRIMARY KEY REFERENCES b);
ALTER TABLE b ADD FOREIGN KEY (id) REFERENCES a DEFERRABLE INITIALLY DEFERRED;
BEGIN; INSERT INTO b SELECT i, 'row ' || i FROM generate_series(1, 100) AS i; INSERT INTO a SELECT id FROM b; COMMIT;
SELECT lo_from_bytea(77, 'large');
CREATE SEQUENCE counter; SELECT setval('counter', 4711); CREATE SEQUENCE untouched;
"""


def of_rows(dump: Dump) -> dict[str, bytes]:
    return {name: data for name, (spec, data) in dump.items() if spec.format == "pg-copy-text"}


@pytest.mark.slow
def test_everything_comes_back_as_it_was(postgres: PostgresServer, source_of: MakeSource) -> None:
    with postgres.database('nasty "näme" o\'clock = x') as name, postgres.database("copy") as copy:
        postgres.fill_nasty(name)
        dump = dump_all(source_of(postgres, name, layout="tables"))
        before = postgres.as_text(name)
        postgres.drop(copy)
        restore_all(source_of(postgres, copy), dump)
        assert postgres.as_text(copy) == before
        assert len(before) > 1_000_000


@pytest.mark.slow
def test_a_table_without_changes_has_the_same_bytes_every_night(
    newest_postgres: PostgresServer, source_of: MakeSource
) -> None:
    with newest_postgres.database("same") as name:
        newest_postgres.fill_nasty(name)
        source = source_of(newest_postgres, name, accounts="no", layout="tables")
        first, second = dump_all(source), dump_all(source)
    assert of_rows(first) == of_rows(second)
    assert first["sequences.sql"][1] == second["sequences.sql"][1]


@pytest.mark.slow
def test_names_that_are_odd_are_streams_of_their_own(newest_postgres: PostgresServer, source_of: MakeSource) -> None:
    names = ("a.b", "a", 'quo"te', "line\nbreak", "per%cent", "Größe ✓", "back\\slash", "x" * 63, "'", "s p a c e")
    with newest_postgres.database("odd") as name, newest_postgres.database("odd_copy") as copy:
        for schema in ("a", "a.b", 'o"d\nd'):
            quoted = schema.replace('"', '""')
            newest_postgres.execute(f'CREATE SCHEMA "{quoted}"', name)
            for number, table in enumerate(names):
                one = table.replace('"', '""')
                newest_postgres.execute(
                    f'CREATE TABLE "{quoted}"."{one}" AS SELECT {number} AS "c""{one[:20]}"; '
                    f'CREATE SEQUENCE "{quoted}"."{one[:50]} of it" START 7',
                    name,
                )
        dump = dump_all(source_of(newest_postgres, name, accounts="no", layout="tables"))
        assert len(of_rows(dump)) == 3 * len(names)
        assert not any(letter in stream for stream in dump for letter in "\n\"' ")
        assert set(of_rows(dump).values()) == {b"%d\n" % number for number in range(len(names))}
        restore_all(source_of(newest_postgres, copy), dump)
        assert newest_postgres.as_text(copy) == newest_postgres.as_text(name)


def test_rows_are_those_of_the_view_and_counted(newest_postgres: PostgresServer, source_of: MakeSource) -> None:
    with newest_postgres.database("moving") as name:
        newest_postgres.execute("CREATE TABLE t AS SELECT 'before-' || generate_series(1, 3) AS what", name)
        source = source_of(newest_postgres, name, layout="tables")
        with source.dump() as held:
            newest_postgres.execute("INSERT INTO t SELECT 'after-' || generate_series(1, 5)", name)
            stream = held.open(held.plan.streams[-1])
            assert read_all(stream) == b"before-1\nbefore-2\nbefore-3\n"
            assert stream.outcome().inventory == (InventoryItem("table", "public.t", 3, 8192, exact=True),)


def test_what_is_not_rows_of_tables_is_counted_with_the_schema(
    newest_postgres: PostgresServer, source_of: MakeSource
) -> None:
    with newest_postgres.database("counted") as name:
        newest_postgres.execute(LINKED + "CREATE MATERIALIZED VIEW m AS SELECT * FROM a", name)
        with source_of(newest_postgres, name, accounts="no", layout="tables").dump() as held:
            stream = held.open(held.plan.streams[0])
            read_all(stream)
    items = {(item.kind, item.name): (item.rows, item.exact) for item in stream.outcome().inventory}
    assert items["materialized view", "public.m"] == (100, True)
    assert items["sequences", "sequences"] == (2, True)
    assert items["large objects", "large objects"] == (1, True)


def test_rows_of_an_extensions_configuration_are_those_that_it_calls_the_users(
    newest_postgres: PostgresServer, source_of: MakeSource
) -> None:
    with newest_postgres.database("configured") as name:
        newest_postgres.execute(
            "CREATE EXTENSION citext; CREATE TABLE config (what text, own boolean); "
            "INSERT INTO config VALUES ('configured', true), ('comes with it', false); "
            "CREATE TABLE fixed AS SELECT 1 AS i; "
            "ALTER EXTENSION citext ADD TABLE config; ALTER EXTENSION citext ADD TABLE fixed; "
            "UPDATE pg_extension SET extconfig = ARRAY['config'::regclass::oid], "
            "extcondition = ARRAY['WHERE own'] WHERE extname = 'citext'",
            name,
        )
        dump = dump_all(source_of(newest_postgres, name, accounts="no", layout="tables"))
    assert of_rows(dump) == {"data/public.config": b"configured\tt\n"}


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["archive", "tables"])
@pytest.mark.parametrize("encoding", ["LATIN1", "EUC_JP", "WIN1251"])
def test_rows_have_the_encoding_of_the_database(
    newest_postgres: PostgresServer, source_of: MakeSource, encoding: str, layout: str
) -> None:
    word = {"LATIN1": "Größe", "EUC_JP": "東京", "WIN1251": "Москва"}[encoding]
    clauses = f" ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
    with newest_postgres.database("encoded", clauses) as name:
        with newest_postgres.connect(name, client_encoding="UTF8") as connection:
            connection.execute(f'CREATE TABLE "t {word}" AS SELECT \'{word}\'::text AS "{word}"'.encode())
            connection.execute(f'CREATE SEQUENCE "s {word}" START 7'.encode())
        dump = dump_all(source_of(newest_postgres, name, accounts="no", layout=layout))
        codec = {"LATIN1": "latin-1", "EUC_JP": "euc_jp", "WIN1251": "cp1251"}[encoding]
        assert word.encode(codec) + b"\n" in list(dump.values())[-1][1]
        newest_postgres.drop(name)
        restore_all(source_of(newest_postgres, name), dump)
        with newest_postgres.connect(name, client_encoding="UTF8") as connection:
            query = f'SELECT "{word}", last_value FROM "t {word}", "s {word}"'
            assert connection.execute(query.encode()).fetchall() == [(word, 7)]


def test_a_database_without_an_encoding_is_refused_with_what_to_do(
    newest_postgres: PostgresServer, source_of: MakeSource
) -> None:
    with newest_postgres.database("bytes", " ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0") as name:
        source = source_of(newest_postgres, name, layout="tables")
        with pytest.raises(SourceError, match="SQL_ASCII") as caught:
            source.inspect()
    assert "layout = archive" in (caught.value.hint or "")


@pytest.mark.slow
class TestRestore:
    @pytest.fixture
    def dump(self, newest_postgres: PostgresServer, source_of: MakeSource) -> Dump:
        with newest_postgres.database("linked") as name:
            newest_postgres.execute(LINKED, name)
            return dump_all(source_of(newest_postgres, name, accounts="no", layout="tables"))

    @pytest.mark.parametrize("options", [{}, {"beside": "no"}, {"beside": "no", "single_transaction": "no"}])
    def test_a_clean_restore_brings_back_what_was_changed(
        self, postgres: PostgresServer, source_of: MakeSource, options: dict[str, str]
    ) -> None:
        with postgres.database("changed") as name:
            postgres.execute(LINKED, name)
            source = source_of(postgres, name, accounts="no", layout="tables")
            dump, before = dump_all(source), postgres.as_text(name)
            postgres.execute(
                "UPDATE b SET what = 'mine'; SELECT setval('counter', 1); SELECT lo_put(77, 0, 'changed')", name
            )
            restore_all(source, dump, RestoreTarget(clean=True, options=options))
            assert postgres.as_text(name) == before

    @pytest.mark.parametrize("options", [{}, {"beside": "no"}])
    def test_one_that_fails_leaves_the_old_database(
        self, newest_postgres: PostgresServer, source_of: MakeSource, dump: Dump, options: dict[str, str]
    ) -> None:
        def damaged(data: bytes) -> Any:
            yield from blocks_of(data)
            raise DamagedObject("packs/aa/aa", "its digest is wrong")

        with newest_postgres.database("kept") as name:
            newest_postgres.execute(LINKED + "UPDATE b SET what = 'mine'", name)
            source = source_of(newest_postgres, name)
            plan = source.plan_restore([one for one, _ in dump.values()], RestoreTarget(clean=True, options=options))

            def restore() -> None:
                with source.restore(plan) as restoring:
                    for spec, data in dump.values():
                        restoring.write(spec, damaged(data) if spec.name == "data/public.b" else blocks_of(data))

            with pytest.raises(DamagedObject):
                restore()
            assert newest_postgres.query("SELECT DISTINCT what FROM b", name) == [("mine",)]
            assert newest_postgres.query("SELECT datname FROM pg_database WHERE datname LIKE '%penstock%'") == []

    def test_one_that_nobody_finishes_leaves_nothing(
        self, newest_postgres: PostgresServer, source_of: MakeSource, dump: Dump
    ) -> None:
        newest_postgres.drop("unfinished")
        source = source_of(newest_postgres, "unfinished")
        with source.restore(source.plan_restore([one for one, _ in dump.values()], RestoreTarget())) as restoring:
            for spec, data in dump.values():
                restoring.write(spec, blocks_of(data))
        assert newest_postgres.query("SELECT FROM pg_database WHERE datname = 'unfinished'") == []

    def test_a_table_that_cannot_be_made_costs_itself_and_its_rows(
        self, newest_postgres: PostgresServer, source_of: MakeSource
    ) -> None:
        script = "CREATE TYPE {}.kind AS ENUM ('x'); CREATE TABLE t AS SELECT 'x'::{}.kind AS k; "
        with newest_postgres.database("typed") as name:
            newest_postgres.execute("CREATE SCHEMA other; " + script.format("other", "other"), name)
            newest_postgres.execute("CREATE TABLE u AS SELECT 1 AS i", name)
            source = source_of(newest_postgres, name, accounts="no", layout="tables", tables=["public.t", "public.u"])
            dump = dump_all(source)
        with newest_postgres.database("untyped") as target:
            source = source_of(newest_postgres, target)
            source.report = said = Heard()
            restore_all(source, dump)
            assert newest_postgres.query("SELECT i FROM u", target) == [(1,)]
            kinds = [(one.kind, one.name) for one in said.lost]
            assert ("rows of the table", "public.t") in kinds
        with newest_postgres.database("untyped") as target, pytest.raises(RestoreFailed):
            restore_all(source_of(newest_postgres, target), dump, RestoreTarget(strict=True))

    def test_rows_alone_are_refused(self, newest_postgres: PostgresServer, source_of: MakeSource, dump: Dump) -> None:
        with pytest.raises(UsageError, match=r"without the schema of linked"):
            source_of(newest_postgres, "postgres").plan_restore([dump["data/public.a"][0]], RestoreTarget())

    @pytest.mark.parametrize(
        "changed",
        [
            {"schema": ""},
            {"table": "a\0b"},
            {"columns": '["id) FROM PROGRAM (", 1]'},
            {"columns": "id"},
            {"client_version": "9" * 300},
        ],
    )
    def test_what_no_dump_records_is_refused_before_anything_is_done(
        self, newest_postgres: PostgresServer, source_of: MakeSource, dump: Dump, changed: dict[str, str]
    ) -> None:
        spec, _ = dump["data/public.a"]
        streams = [
            replace(one, attributes={**one.attributes, **changed}) if one.name == spec.name else one
            for one, _ in dump.values()
        ]
        with pytest.raises(RestoreFailed, match=r"data/public\.a cannot be restored"):
            source_of(newest_postgres, "postgres").plan_restore(streams, RestoreTarget())
