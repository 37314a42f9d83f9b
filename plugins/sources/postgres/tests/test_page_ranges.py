"""A large table is several streams, each of a range of its pages."""

import json
import re
from collections.abc import Iterator

import pytest
from plugins.sources.postgres.tests.conftest import MakeSource
from tests.servers.postgres import PostgresServer
from tests.servers.streams import Dump, dump_all, read_all, restore_all

from penstock.api import InventoryItem, RestoreFailed, RestoreTarget
from penstock_postgres.attributes import RowsAttributes
from penstock_postgres.source import PostgresSource
from penstock_postgres.table_rows import copy_out

pytestmark = [pytest.mark.server, pytest.mark.slow]

#: About 3.5 MiB.
FILL = "CREATE TABLE {} AS SELECT i, repeat(md5(i::text), 3) AS filler FROM generate_series(1, 25000) AS i"


@pytest.fixture
def name(postgres: PostgresServer) -> Iterator[str]:
    with postgres.database("ranges") as name:
        postgres.execute(FILL.format("large") + "; CREATE TABLE small AS SELECT 1 AS i", name)
        yield name


@pytest.fixture
def source(postgres: PostgresServer, source_of: MakeSource, name: str) -> PostgresSource:
    return source_of(postgres, name, accounts="no", layout="tables", split_above=1 << 20)


def pieces(dump: Dump) -> dict[str, bytes]:
    return {name: data for name, (_, data) in dump.items() if re.match(r"data/public\.large", name)}


def test_each_row_is_in_one_of_them_whatever_changes_meanwhile(
    postgres: PostgresServer, source: PostgresSource, name: str
) -> None:
    with source.dump() as held:
        rows: list[bytes] = []
        for number, spec in enumerate(held.plan.streams):
            # Moves rows to the end, and frees their places for others.
            postgres.execute(f"UPDATE large SET filler = 'moved' WHERE i % 5 = {number % 5}", name)
            postgres.execute("VACUUM large", name)
            if spec.name.startswith("data/public.large"):
                rows += read_all(held.open(spec)).splitlines()
        assert any(spec.name == "data/public.large.3" for spec in held.plan.streams)
    assert sorted(int(row.split(b"\t")[0]) for row in rows) == list(range(1, 25001))
    assert not any(b"moved" in row for row in rows)


def test_they_are_the_same_the_next_night_but_for_the_last(
    postgres: PostgresServer, source: PostgresSource, name: str
) -> None:
    first = pieces(dump_all(source))
    postgres.execute("INSERT INTO large SELECT i, repeat('new', 30) FROM generate_series(1, 20000) AS i", name)
    second = pieces(dump_all(source))
    assert list(first) == ["data/public.large", *(f"data/public.large.{number}" for number in (1, 2, 3))]
    assert len(second) > len(first)
    same = [stream for stream in first if first[stream] == second[stream]]
    assert same == list(first)[:-1]
    assert second["data/public.large.3"].startswith(first["data/public.large.3"])


def test_they_come_back_as_one_table(
    postgres: PostgresServer, source_of: MakeSource, source: PostgresSource, name: str
) -> None:
    dump = dump_all(source)
    before = postgres.as_text(name)
    postgres.drop("ranges_copy")
    restore_all(source_of(postgres, "ranges_copy"), dump)
    assert postgres.as_text("ranges_copy") == before
    spec, data = dump["data/public.large.1"]
    short = {**dump, spec.name: (spec, data[: data.rindex(b"\n", 0, -1) + 1])}
    with pytest.raises(RestoreFailed, match=r"data/public\.large\.1 holds \d+ rows, and \d+ were dumped"):
        restore_all(source_of(postgres, "ranges_copy"), short, RestoreTarget(clean=True))
    postgres.drop("ranges_copy")


def test_a_server_reads_no_page_but_those_of_the_range(newest_postgres: PostgresServer, source_of: MakeSource) -> None:
    with newest_postgres.database("scanned") as name:
        newest_postgres.execute(FILL.format("large"), name)
        source = source_of(newest_postgres, name, accounts="no", layout="tables", split_above=1 << 20)
        with source.dump() as held, newest_postgres.connect(name) as connection:
            (spec,) = [spec for spec in held.plan.streams if spec.name == "data/public.large.1"]
            statement = copy_out(RowsAttributes.of(spec)).as_string(connection)
            query = re.fullmatch(r"COPY \((.*)\) TO stdout", statement)
            assert query is not None
            connection.execute("SET enable_seqscan = off")
            (plan,) = connection.execute(f"EXPLAIN (FORMAT JSON) {query[1]}".encode()).fetchone() or ("",)
    assert plan[0]["Plan"]["Node Type"] == "Tid Range Scan"
    assert json.loads(spec.attributes["pages"]) == [128, 256]


@pytest.mark.parametrize(("row_counts", "counted"), [("exact", 25000), ("auto", None), ("off", None)])
def test_their_rows_are_counted_together_only_if_that_is_asked_for(
    newest_postgres: PostgresServer, source_of: MakeSource, row_counts: str, counted: int | None
) -> None:
    with newest_postgres.database("counted") as name:
        newest_postgres.execute(FILL.format("large"), name)
        source = source_of(
            newest_postgres, name, accounts="no", layout="tables", split_above=1 << 20, row_counts=row_counts
        )
        found: dict[str, InventoryItem] = {}
        with source.dump() as held:
            for spec in held.plan.streams:
                stream = held.open(spec)
                read_all(stream)
                found |= {item.name: item for item in stream.outcome().inventory}
    item = found.get("public.large")
    assert (item and item.rows) == counted
    assert item is None or (item.size or 0) > 3 << 20
