"""Rows that no statement can hold: everything else is dumped and restored, and each of them is named."""

import json
import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plugins.sources.mysql.tests.conftest import MakeSource, dump_all, read_all, restore_all
from tests.servers.mysql import MySQLServer

from penstock.api import RestoreFailed, RestoreTarget
from penstock_mysql import watching
from penstock_mysql.feeding import passed_over
from penstock_mysql.watching import Watch

LIMIT = 12 << 20


@pytest.fixture
def large(mysql: MySQLServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database with a row that is too large, between others."""
    monkeypatch.setattr(watching, "LARGEST_ROW", LIMIT)
    with mysql.database("large") as name:
        mysql.execute("CREATE TABLE small (i INT PRIMARY KEY, b LONGBLOB)", name)
        mysql.execute("INSERT INTO small VALUES (1, REPEAT('x', 5000000)), (2, REPEAT('x', 5000000))", name)
        mysql.execute("CREATE TABLE `va``st` (i INT PRIMARY KEY, b LONGBLOB)", name)
        mysql.execute("INSERT INTO `va``st` VALUES (1, 'x'), (2, REPEAT('x', 7000000)), (3, REPEAT('y', 10)), "
                      "(4, REPEAT('x', 7000000)), (5, REPEAT('x', 7000000)), (6, 'z')", name)  # fmt: skip
        yield name


@pytest.mark.server
def test_a_row_that_no_server_takes_back_costs_itself(mysql: MySQLServer, source_of: MakeSource, large: str) -> None:
    source = source_of(mysql, large)
    with source.dump() as held:
        stream = held.open(held.plan.streams[0])
        read_all(stream)
    found = stream.outcome().left_out
    assert [(one.kind, one.name, one.database) for one in found] == [("row of", "va`st", large)] * 3
    dump = dump_all(source)
    plan = source.plan_restore([spec for spec, _ in dump.values()], RestoreTarget(clean=True))
    assert [one.name for one in plan.left_out] == ["va`st"] * 3
    assert len(restore_all(source, dump, clean=True).lost) == 3
    assert mysql.query("SELECT i, LENGTH(b) FROM `va``st`", large) == [(1, 1), (3, 10), (6, 1)]
    assert mysql.query("SELECT i, LENGTH(b) FROM small", large) == [(1, 5000000), (2, 5000000)]
    with pytest.raises(RestoreFailed, match="row of va`st"):
        restore_all(source, dump, clean=True, strict=True)


@pytest.mark.server
def test_a_table_with_such_rows_that_is_left_out_is_no_loss(
    mysql: MySQLServer, source_of: MakeSource, large: str
) -> None:
    with source_of(mysql, large, exclude_tables=["large.va`st"]).dump() as held:
        stream = held.open(held.plan.streams[0])
        read_all(stream)
    assert stream.outcome().left_out == ()
    assert 10_000_000 < int(stream.outcome().attributes["longest_row"]) < LIMIT


@pytest.mark.slow
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=6), st.integers(1, 60))
def test_what_is_passed_over_is_what_is_named(data: bytes, cuts: list[int], size: int) -> None:
    ends = sorted(min(cut, len(data)) for cut in cuts[: len(cuts) // 2 * 2])
    parts = [(start, end, "t") for start, end in zip(ends[::2], ends[1::2], strict=True)]
    blocks = [memoryview(data)[at : at + size] for at in range(0, len(data), size)]
    kept = [byte for at, byte in enumerate(data) if not any(start <= at < end for start, end, _ in parts)]
    assert b"".join(passed_over(blocks, parts)) == bytes(kept)


@pytest.mark.parametrize("mariadb", [True, False])
@pytest.mark.parametrize("size", [1, 7, 100, 999])
def test_the_parts_are_found_however_the_text_comes(monkeypatch: pytest.MonkeyPatch, mariadb: bool, size: int) -> None:
    monkeypatch.setattr(watching, "LARGEST_ROW", 1000)
    text, expected = b"-- a dump\n", []
    for number in range(30):
        length = random.Random(number).choice([3, 900, 2000])
        row = b"INSERT INTO `t%d` VALUES%b(1,'%b');\n" % (number, b"\n" if mariadb else b" ", b"x" * length)
        if length == 2000:
            expected.append([len(text), len(text) + len(row), f"t{number}"])
        text += row + b"-- more\n" * (number % 3)
    watch = Watch("shop")
    for at in range(0, len(text), size):
        watch.see(memoryview(text)[at : at + size])
    assert json.loads(watch.outcome().attributes["too_large"]) == expected
    assert len(expected) > 5
