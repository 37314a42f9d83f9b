"""Which backups need a segment, and since when: the same answers as from sets in memory, and in little of it."""

import tracemalloc
from collections import defaultdict
from typing import Any, cast

import numpy as np
import pytest
from core.tests.repository.lab import MIB
from hypothesis import given
from hypothesis import strategies as st

from penstock.format.part import Key, PartRef, Row
from penstock.repository.snapshots import SnapshotEntry
from penstock.repository.upkeep import needs
from penstock.repository.upkeep.needs import Needs

PACKS = [bytes([number]) * 16 for number in range(3)]
SEGMENTS = 11


def row(pack: bytes, used: frozenset[int], segments: int = SEGMENTS) -> Row:
    return Row(0, pack, bytes(32), segments, used)


def added(needs_: Needs, rows: list[Row], parts: list[bytes], backup: int, day: int) -> None:
    """As `Needs.add`, of a snapshot that has these in its table and these parts."""
    refs = [PartRef(part, 1, bytes(32), Key.DATA) for part in parts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(needs, "each_row", lambda _: iter(rows))
        patch.setattr(needs, "parts_of", lambda _: iter(refs))
        needs_.add(cast("SnapshotEntry", None), backup, day)


used = st.frozensets(st.integers(0, SEGMENTS - 1))
snapshots = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from(PACKS), used), max_size=4),
        st.lists(st.sampled_from(PACKS), max_size=3),
        st.integers(0, 2),
        st.integers(1, 9),
    ),
    max_size=8,
)
takes = st.lists(st.tuples(st.sampled_from(PACKS), st.frozensets(st.integers(0, SEGMENTS + 3))), max_size=6)


@pytest.mark.slow
@given(snapshots, takes)
def test_it_knows_who_needs_what_since_when_and_gives_it_out_once(snapshots: Any, takes: Any) -> None:
    found = Needs()
    segments: dict[tuple[bytes, int], dict[int, int]] = defaultdict(dict)
    parts: dict[bytes, dict[int, int]] = defaultdict(dict)
    for rows, its_parts, backup, day in snapshots:
        added(found, [row(pack, used) for pack, used in rows], its_parts, backup, day)
        for pack, used in rows:
            for one in used:
                segments[pack, one][backup] = min(day, segments[pack, one].get(backup, day))
        for part in its_parts:
            parts[part][backup] = min(day, parts[part].get(backup, day))
    for pack, ordinals in takes:
        assert found.needs_pack(pack) == any(one == pack for one, _ in segments)
        asked = np.array(sorted(ordinals), np.intp)
        got: dict[int, dict[int, int]] = defaultdict(dict)
        for backup, needed, since in found.take_segments(pack, asked):
            for one, is_needed, day in zip(asked, needed, since, strict=True):
                if is_needed:
                    got[int(one)][backup] = int(day)
        expected = {one: segments.pop((pack, one)) for one in ordinals if (pack, one) in segments}
        assert got == expected
    assert found.left() == (len({pack for pack, _ in segments}), len(parts))
    for part in PACKS:
        assert dict(found.take_part(part)) == parts.get(part, {})
        assert found.take_part(part) == []
    found.close()


def test_a_row_that_says_of_more_segments_than_another_counts_whole() -> None:
    found = Needs()
    added(found, [row(PACKS[0], frozenset({1}), 2)], [], 0, 5)
    added(found, [row(PACKS[0], frozenset({1, 9}), 10)], [], 0, 7)
    added(found, [row(PACKS[0], frozenset({0}), 2)], [], 0, 6)
    ((_, needed, since),) = found.take_segments(PACKS[0], np.arange(10))
    assert [int(one) for one in np.flatnonzero(needed)] == [0, 1, 9]
    assert [int(since[one]) for one in (0, 1, 9)] == [6, 5, 7]


@pytest.mark.slow
def test_memory_does_not_grow_with_packs() -> None:
    found = Needs()
    everything = frozenset(range(16))
    tracemalloc.start()
    try:
        for number in range(0, 20_000, 1000):
            packs = [one.to_bytes(16, "big") for one in range(number, number + 1000)]
            added(found, [row(pack, everything, 16) for pack in packs], packs, 0, 1)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < MIB
    assert found.left() == (20_000, 20_000)
