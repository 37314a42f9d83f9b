import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_mysql.feeding import adapted, invalid_dates_kept, sequences_renamed

SANDBOX = b"/*M!999999\\- enable the sandbox mode */ \n"


def adapt(data: bytes, cuts: list[int], old: str = "shop", new: str = "shop") -> bytes:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    blocks = [data[start:end] for start, end in itertools.pairwise(edges)]
    return b"".join(adapted((memoryview(bytearray(block)) for block in blocks), old, new))


@pytest.mark.slow
@given(st.lists(st.integers(0, 1000)), st.binary(max_size=50))
def test_the_sandbox_line_is_left_out_wherever_the_blocks_are_cut(cuts: list[int], rest: bytes) -> None:
    assert adapt(SANDBOX + b"-- MariaDB dump\n" + rest, cuts) == b"-- MariaDB dump\n" + rest


@given(st.lists(st.integers(0, 1000)), st.binary(max_size=100))
def test_anything_else_stays_as_it_is(cuts: list[int], data: bytes) -> None:
    assert adapt(data, cuts) == data.removeprefix(SANDBOX)
    assert adapt(b"-- MySQL dump\n" + data, cuts, "a", "b") == b"-- MySQL dump\n" + data


@pytest.mark.slow
@given(st.lists(st.integers(0, 1000)))
def test_a_renamed_database_is_renamed_where_the_dump_alters_it(cuts: list[int]) -> None:
    line = "\nALTER DATABASE `{}` CHARACTER SET latin1 COLLATE latin1_swedish_ci ;\n"
    data = SANDBOX + (line.format("a``b") * 2 + "ALTER DATABASE `a``b` COMMENT 'x'" + line.format("other")).encode()
    renamed = (line.format("näw") * 2 + "ALTER DATABASE `a``b` COMMENT 'x'" + line.format("other")).encode()
    assert adapt(data, cuts, "a`b", "näw") == renamed
    assert adapt(data, cuts, "a`b", "a`b") == data.removeprefix(SANDBOX)


@given(st.lists(st.integers(0, 1000)))
def test_a_default_takes_its_value_from_the_sequence_of_the_copy_and_rows_stay(cuts: list[int]) -> None:
    column = "\n  `id` bigint(20) NOT NULL DEFAULT nextval(`{}`.`s`),\n  `t` text\n"
    row = "\n(1,'  `x` DEFAULT nextval(`old`.`s`)'),\n(2,'b');\n"
    data = (column.format("old") + row + column.format("other") + column.format("old")).encode()
    wanted = (column.format("new") + row + column.format("other") + column.format("new")).encode()
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    blocks = [data[start:end] for start, end in itertools.pairwise(edges)]
    assert b"".join(sequences_renamed(blocks, "old", "new")) == wanted


@given(st.lists(st.integers(0, 10_000)))
def test_the_mode_is_set_once_wherever_the_blocks_are_cut(cuts: list[int]) -> None:
    head = "-- MySQL dump\n" * 20 + "/*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO{}' */;\n"
    rows = (
        "INSERT INTO t VALUES ('SQL_MODE=\\'NO_AUTO_VALUE_ON_ZERO\\' */'),('SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */');\n"
        * 90
    )
    data = (head.format("") + rows).encode()
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    blocks = [data[start:end] for start, end in itertools.pairwise(edges)]
    assert b"".join(invalid_dates_kept(blocks)) == (head.format(",ALLOW_INVALID_DATES") + rows).encode()


@given(st.binary(max_size=20_000))
def test_what_sets_no_mode_stays_as_it_is(data: bytes) -> None:
    assert b"".join(invalid_dates_kept([data[:7000], data[7000:]])) == data
    rows = b"x" * 9000 + b"SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */" + data
    assert b"".join(invalid_dates_kept([rows])) == rows
