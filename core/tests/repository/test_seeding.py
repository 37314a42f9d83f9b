"""Chunk sizes in a new domain, whichever secret its repository got."""

import pytest
from core.tests.repository.lab import Lab

from penstock.format.chunker import Chunker, ChunkerParameters
from penstock.repository.trust.keyring import add_writer

#: Numbers, small columns and width differ from the rows by which a seed is chosen.
ROWS = b"".join(b"%d\t%d\t%d\t%70s\n" % (number, number % 7, number // 1000, b"") for number in range(500_000, 520_000))


@pytest.mark.parametrize("repository", range(3))
def test_padded_rows_are_cut_evenly(repository: int, lab: Lab) -> None:
    chunker = Chunker(ChunkerParameters(), lab.domain.keys.chunker_seed)
    lengths = chunker.cut(memoryview(ROWS), last=True)
    assert 500 < len(ROWS) / len(lengths) < 4000
    # The mean size of the chunk around a changed byte.
    assert sum(length * length for length in lengths) / len(ROWS) < 6000


@pytest.mark.parametrize("filling", [b"\0", b" ", b"0", b"\xff"])
def test_long_runs_of_one_byte_are_not_cut_small(filling: bytes, lab: Lab) -> None:
    chunker = Chunker(ChunkerParameters(), lab.domain.keys.chunker_seed)
    lengths = chunker.cut(memoryview(filling * 1_000_000), last=True)
    assert 1_000_000 / len(lengths) > 1000


def test_the_domain_of_a_new_writer_is_chosen_as_well(lab: Lab) -> None:
    keys = lab.open(add_writer(lab.repository, "host")).domain.keys
    assert keys.chunker_seed != lab.domain.keys.chunker_seed
    lengths = Chunker(ChunkerParameters(), keys.chunker_seed).cut(memoryview(ROWS), last=True)
    assert sum(length * length for length in lengths) / len(ROWS) < 6000
