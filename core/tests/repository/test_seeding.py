"""Chunk sizes in a new domain, whichever secret its repository got."""

import os
import random
from collections.abc import Iterator

import pytest
from core.tests.repository.lab import Lab

from penstock.format.chunker import Chunker, ChunkerParameters
from penstock.format.encoding import new_id
from penstock.format.keys import RootSecret
from penstock.repository.trust import seeding
from penstock.repository.trust.keyring import add_writer

#: Numbers, small columns and width differ from the rows by which a seed is chosen.
ROWS = b"".join(b"%d\t%d\t%d\t%70s\n" % (number, number % 7, number // 1000, b"") for number in range(500_000, 520_000))
#: The rows by which it is chosen.
CHOOSING = b"".join(
    b"%d\t%d\t0\t%84s\n" % (number, number // 100_000 + 1, b"")
    for first in range(7_000, 3_000_000, 28_789)
    for number in range(first, first + 100)
)
FILLINGS = [b"\0", b" ", b"0", b"\xff"]


def chosen(monkeypatch: pytest.MonkeyPatch, count: int) -> Iterator[int]:
    """The seeds of so many domains, each chosen for a secret of its own: the same ones in every run."""
    chance = random.Random(7)
    monkeypatch.setattr(seeding, "new_id", lambda: chance.randbytes(16))
    for _ in range(count):
        root = RootSecret(chance.randbytes(32), chance.randbytes(16))
        yield root.domain(seeding.even_domain(root, ChunkerParameters())).chunker_seed


def cut(data: bytes, seed: int) -> list[int]:
    return Chunker(ChunkerParameters(), seed).cut(memoryview(data), last=True)


def mean(data: bytes, seed: int) -> float:
    return len(data) / len(cut(data, seed))


def spoiled(data: bytes, seed: int) -> float:
    """The mean size of the chunk around a changed byte."""
    return sum(length * length for length in cut(data, seed)) / len(data)


@pytest.mark.slow
def test_padded_rows_are_cut_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in chosen(monkeypatch, 20):
        assert 3000 < mean(ROWS, seed) < 10_000
        assert spoiled(ROWS, seed) < 18_000
        # These are the rows by which it was chosen.
        assert 5000 <= mean(CHOOSING, seed) < 10_000
        assert spoiled(CHOOSING, seed) < 18_000


def test_the_domain_of_a_new_repository_is_chosen(lab: Lab) -> None:
    assert 5000 <= mean(CHOOSING, lab.domain.keys.chunker_seed) < 10_000
    assert spoiled(CHOOSING, lab.domain.keys.chunker_seed) < 18_000


@pytest.mark.parametrize("filling", FILLINGS)
def test_long_runs_of_one_byte_are_not_cut_small(filling: bytes, lab: Lab) -> None:
    assert mean(filling * 1_000_000, lab.domain.keys.chunker_seed) > 5000


def test_the_domain_of_a_new_writer_is_chosen_as_well(lab: Lab) -> None:
    keys = lab.open(add_writer(lab.repository, "host")).domain.keys
    assert keys.chunker_seed != lab.domain.keys.chunker_seed
    assert 5000 <= mean(CHOOSING, keys.chunker_seed) < 10_000
    assert spoiled(CHOOSING, keys.chunker_seed) < 18_000


@pytest.mark.parametrize("repository", range(5))
def test_the_best_of_all_candidates_is_chosen(repository: int, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[bytes] = []

    def draw() -> bytes:
        drawn.append(new_id())
        return drawn[-1]

    monkeypatch.setattr(seeding, "new_id", draw)
    root = RootSecret(os.urandom(32), os.urandom(16))
    best = seeding.even_domain(root, ChunkerParameters())

    assert len(drawn) == 32
    seeds = {domain: root.domain(domain).chunker_seed for domain in drawn}
    allowed = [
        domain
        for domain, seed in seeds.items()
        if all(mean(data, seed) >= 5000 for data in (CHOOSING, *(filling * 16384 for filling in FILLINGS)))
    ]
    assert best == min(allowed, key=lambda domain: spoiled(CHOOSING, seeds[domain]))


def test_a_domain_is_chosen_even_if_none_can_be_good() -> None:
    smallest = ChunkerParameters(64, 256, 1024)
    root = RootSecret(os.urandom(32), os.urandom(16))
    assert seeding.even_domain(root, smallest) != seeding.even_domain(root, smallest)


def new_bytes(before: bytes, after: bytes, seed: int) -> int:
    """The bytes of `after` in chunks that `before` does not have."""
    known: set[bytes] = set()
    found: set[bytes] = set()
    for data in (before, after):
        known, found, start = found, set(), 0
        for length in cut(data, seed):
            found.add(data[start : start + length])
            start += length
    return sum(map(len, found - known))


@pytest.mark.slow
def test_cuts_are_found_again_behind_changed_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [b"%d\t%d\t0\t%s\n" % (row, row // 9000, b" " * 84) for row in range(20_000)]
    table = b"".join(lines)
    for row in range(500, 20_000, 1000):
        lines[row] = b"" if row % 3 else lines[row].replace(b"\t0\t", b"\t4321\t")
    changed = b"".join(lines)

    assert max(new_bytes(table, changed, seed) for seed in chosen(monkeypatch, 10)) < 0.25 * len(table)
    # Some seeds could cut in so many rows that the cuts move after each change.
    chance = random.Random(4)
    assert max(new_bytes(table, changed, chance.getrandbits(63) | 1) for _ in range(60)) > 0.5 * len(table)
