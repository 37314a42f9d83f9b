"""Records: where they end, and that their hashes are what they are said to be, whatever is cut together."""

import random
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.repository.write.records import BLOCK, LONGEST, RecordCutter, Records

KEY = bytes(range(32))
LINES = RecordCutter(KEY, b"\n")


def cut(cutter: RecordCutter, chunks: Sequence[bytes]) -> Records:
    data = b"".join(chunks)
    padded = np.frombuffer(data + b"\xaa" * BLOCK, dtype=np.uint8)
    return cutter.records(padded, [(0, len(data))], list(map(len, chunks)))


def pieces(cutter: RecordCutter, chunk: bytes) -> list[bytes]:
    found, at = [], 0
    for length in cut(cutter, [chunk]).lengths.tolist():
        found.append(chunk[at : at + length])
        at += length
    assert at == len(chunk)
    return found


def plainly(cutter: RecordCutter, record: bytes) -> int:
    """The hash by its definition, in Python's numbers."""
    words = record + bytes(-len(record) % BLOCK)
    total = [
        int(first) + int(factor) * len(record) for first, factor in zip(cutter._first, cutter._of_length, strict=True)
    ]
    for which in (0, 1):
        for number in range(len(words) // 4):
            word = int.from_bytes(words[4 * number : 4 * number + 4], "little")
            total[which] += int(cutter._keys[which][number]) * word
    one, two = (sums % 2**64 >> 32 for sums in total)
    return one << 32 | two


def rows(count: int, seed: int = 1, width: int = 90) -> list[bytes]:
    chance = random.Random(seed)
    return [b"%d\t%s\n" % (n, chance.randbytes(width // 2).hex().encode()) for n in range(count)]


def test_records_end_behind_the_separator_and_with_the_chunk() -> None:
    some = rows(5)
    assert pieces(LINES, b"".join(some)) == some
    assert pieces(LINES, b"".join(some) + b"the rest") == [*some, b"the rest"]
    assert pieces(RecordCutter(KEY, b"),("), b"a" * 100 + b"),(" + b"b" * 100) == [b"a" * 100 + b"),(", b"b" * 100]


def test_a_separator_is_found_where_it_is_whole() -> None:
    data = b",(" + b"x" * 70 + b")," + b"y" * 70 + b"),(" + b"z" * 70
    assert pieces(RecordCutter(KEY, b"),("), data) == [data[:-70], b"z" * 70]


def test_a_long_record_is_cut_at_the_same_places_whatever_follows() -> None:
    line = random.Random(2).randbytes(5000).replace(b"\n", b" ")
    found = pieces(LINES, line + b"\nnext")
    assert [len(piece) for piece in found] == [LONGEST] * 4 + [5001 - 4 * LONGEST, 4]
    assert pieces(LINES, line + b"more\n")[:4] == found[:4]


@pytest.mark.parametrize("separator", [b"\n", b""])
def test_there_are_never_more_records_than_their_entries_are_worth(separator: bytes) -> None:
    cutter = RecordCutter(KEY, separator)
    for byte in (b"\n", b"\0", b" ", b"a\n", b"\0\1"):
        data = byte * (1 << 16)
        assert len(cut(cutter, [data[: 1 << 15], data[1 << 15 :]]).hashes) <= len(data) // 24


def test_short_rows_are_taken_together_as_their_content_says() -> None:
    short = [b"%d,%d\n" % (n, n * n) for n in range(4000)]
    found = pieces(LINES, b"".join(short))
    assert 30 < sum(map(len, found)) / len(found) < 80
    # A change moves no cut but those beside it.
    changed = [*short[:2000], b"something else\n", *short[2001:]]
    other = pieces(LINES, b"".join(changed))
    assert len(set(other) - set(found)) <= 3


def test_records_by_content_are_found_again_behind_a_change() -> None:
    cutter = RecordCutter(KEY, b"")
    data = random.Random(3).randbytes(100_000)
    found = pieces(cutter, data)
    assert 80 < len(data) / len(found) < 250
    other = pieces(cutter, data[:40_000] + b"inserted" + data[40_000:])
    assert len(set(other) - set(found)) <= 3


@pytest.mark.slow
@given(st.lists(st.binary(min_size=1, max_size=LONGEST), min_size=1, max_size=40))
def test_hashes_are_what_they_are_defined_to_be(records: list[bytes]) -> None:
    data = b"".join(records)
    ends = np.cumsum([len(record) for record in records])
    sizes = np.diff(ends, prepend=0)
    padded = np.frombuffer(data + b"\xff" * BLOCK, dtype=np.uint8)
    assert LINES._hashes(padded, ends - sizes, sizes).tolist() == [plainly(LINES, record) for record in records]


def test_records_that_differ_have_other_hashes() -> None:
    """Also where they differ in one bit, in what fills them up, or by two words that changed places."""
    record = bytes(range(64)) * 2
    others = {record, record + b"\0", record + b"\0\0", record[:-1], b"", b"\0", bytes(128), bytes(127)}
    others |= {record[:at] + bytes([record[at] ^ 1 << bit]) + record[at + 1 :] for at in range(128) for bit in range(8)}
    others |= {
        record[:at] + record[at + 4 : at + 8] + record[at : at + 4] + record[at + 8 :] for at in range(0, 120, 4)
    }
    hashes = [plainly(LINES, other) for other in others]
    assert len(set(hashes)) == len(others)
    assert len({one & 0xFFFFFFFF for one in hashes}) == len({one >> 32 for one in hashes}) == len(others)


def test_another_domain_has_other_hashes() -> None:
    data = b"".join(rows(100))
    assert set(cut(LINES, [data]).hashes.tolist()).isdisjoint(
        cut(RecordCutter(b"k" * 32, b"\n"), [data]).hashes.tolist()
    )


@pytest.mark.slow
@pytest.mark.parametrize("separator", [b"\n", b"", b"),("])
@given(
    st.lists(st.sampled_from([b"\n", b"),(", b"a" * 30, b"row\n" * 9, *rows(12)]), min_size=4, max_size=60),
    st.sets(st.integers(1, 3000), max_size=8),
    st.sets(st.integers(0, 8), max_size=5),
)
def test_what_records_a_chunk_has_depends_on_the_chunk_alone(
    separator: bytes, words: list[bytes], cuts: set[int], chosen: set[int]
) -> None:
    cutter = RecordCutter(KEY, separator)
    data = b"".join(words) + b"x" * 4000
    edges = [0, *sorted(cuts), len(data)]
    chunks = [data[a:b] for a, b in pairwise(edges)]
    padded = np.frombuffer(data + bytes(BLOCK), dtype=np.uint8)
    some = sorted(number for number in chosen if number < len(chunks)) or [0]
    spans = [(edges[number], edges[number + 1]) for number in some]
    together = cutter.records(padded, spans, [len(chunks[number]) for number in some])
    if not len(together.hashes):
        return  # too many short ones in the batch
    at = 0
    for number, count in zip(some, together.counts.tolist(), strict=True):
        alone = cut(cutter, [chunks[number]])
        if len(alone.hashes):
            assert alone.hashes.tolist() == together.hashes[at : at + count].tolist()
            assert int(together.lengths[at : at + count].sum()) == len(chunks[number])
        at += count
    assert at == len(together.hashes)
