"""A child that turns one stream into another, fed and read by one thread."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from core.tests.api.process.children import children, python

from penstock.api import ClientMissing, DamagedObject, Interrupted, RestoreFailed, StopToken, filtered, run_child

MIB = 1 << 20
UPPER = """
import sys
while block := sys.stdin.buffer.read1(65536):
    sys.stdout.buffer.write(block.upper())
    sys.stdout.buffer.flush()
"""


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    """However the iteration ended: dead, and reaped."""
    assert run_child(python("pass"), name="guardian", timeout=60) is not None  # the guardian stays
    before = children()
    yield
    assert children() == before


def blocks(count: int, size: int = MIB) -> Iterator[memoryview]:
    for number in range(count):
        block = bytearray(bytes([97 + number % 26]) * size)
        yield memoryview(block)
        block[:] = b"?" * size


def test_all_that_is_fed_comes_out_changed_however_much_it_is() -> None:
    with closing(filtered(python(UPPER), blocks(40), name="upper")) as output:
        got = b"".join(bytes(block) for block in output)
    assert got == b"".join(bytes([65 + number % 26]) * MIB for number in range(40))


def test_nothing_in_gives_what_the_child_says_of_it() -> None:
    with closing(filtered(python("print('empty')"), iter(()), name="quiet")) as output:
        assert b"".join(output) == b"empty\n"


def test_a_child_that_reads_no_more_is_judged_by_its_exit_and_all_blocks_are_taken() -> None:
    taken: list[int] = []

    def counted() -> Iterator[memoryview]:
        for block in blocks(8):
            taken.append(len(block))
            yield block

    enough = "import sys; sys.stdin.buffer.read(10); print('enough')"
    with closing(filtered(python(enough), counted(), name="modest")) as output:
        assert b"".join(output) == b"enough\n"
    assert taken == [MIB] * 8


def test_a_failing_child_raises_with_its_last_words() -> None:
    fails = "import sys; sys.stdin.buffer.read(10); print('out'); sys.exit('no archive')"
    with (
        closing(filtered(python(fails), blocks(8), name="pg_restore")) as output,
        pytest.raises(RestoreFailed, match="pg_restore exited with 1") as caught,
    ):
        list(output)
    assert "no archive" in caught.value.details


def test_an_error_of_the_blocks_passes_through_and_ends_the_child() -> None:
    def damaged() -> Iterator[memoryview]:
        yield from blocks(1)
        raise DamagedObject("packs/a", "changed")

    with closing(filtered(python(UPPER), damaged(), name="upper")) as output, pytest.raises(DamagedObject):
        list(output)


def test_one_that_is_left_early_leaves_no_child() -> None:
    with closing(filtered(python(UPPER), blocks(100), name="upper")) as output:
        next(output)


@pytest.mark.slow
def test_a_child_that_neither_takes_nor_gives_is_ended() -> None:
    hangs = "import time; time.sleep(600)"
    with (
        closing(filtered(python(hangs), blocks(8), name="hanging", stall_timeout=0.5)) as output,
        pytest.raises(RestoreFailed, match="neither took nor gave"),
    ):
        list(output)


def test_a_stop_ends_it() -> None:
    stop = StopToken()
    with closing(filtered(python("import time; time.sleep(600)"), blocks(8), name="hanging", stop=stop)) as output:
        stop.stop()
        with pytest.raises(Interrupted):
            next(output)


def test_a_missing_program_is_said() -> None:
    with (
        closing(filtered(["/nowhere/pg_restore"], blocks(1), name="pg_restore")) as output,
        pytest.raises(ClientMissing),
    ):
        next(output)
