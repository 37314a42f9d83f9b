"""The ids of chunks: sealed segment by segment, so that they go where the segment goes, and nowhere else."""

import contextlib
import struct
from array import array
from collections.abc import Callable
from dataclasses import replace

import pytest
from core.tests.format.damage import EFFORT, damaged
from core.tests.format.examples import CHUNKS, IDS, NAME, OTHER_PACK, PACK, PLACES, SCOPE
from hypothesis import given
from hypothesis import strategies as st

from penstock.format.chunks import Chunks, join_ids, open_chunks, seal_chunks, split_ids
from penstock.format.codec import RAW
from penstock.format.encoding import Malformed
from penstock.format.pack import MAX_ENDS, Places, SegmentId
from penstock.format.padding import padded
from penstock.format.sealing import message

SEGMENTS = [place.id for place in PLACES.places]
FIRST, MOVED, LAST = PLACES.places
SEALED, NO_LIST = split_ids(seal_chunks(CHUNKS, IDS, SCOPE, PACK, SEGMENTS), 3)


def raw(plain: bytes, segment: SegmentId) -> bytes:
    payload = bytes((RAW,)) + plain
    place = message("ids", SCOPE, segment.pack, struct.pack("<I", segment.ordinal))
    return IDS.seal(struct.pack("<I", len(payload)) + payload, place)


def opened(*plain: bytes, listed: bytes = b"") -> Chunks:
    """Of the example's segments, from their plain ids."""
    sealed = [raw(one, segment) for one, segment in zip(plain, SEGMENTS, strict=False)]
    return open_chunks(join_ids(sealed, listed), IDS, SCOPE, PLACES)


def chunks_of(lengths: list[int], ids: int | None = None) -> bytes:
    return struct.pack(f"<{len(lengths)}H", *lengths) + bytes(12 * len(lengths) if ids is None else ids)


TRUE = (chunks_of([60, 40]), chunks_of([65535, 1]), b"")


def test_ids_of_a_segment_are_lengths_then_ids() -> None:
    assert opened(*TRUE) == replace(CHUNKS, ids=bytes(48))
    assert not NO_LIST


def test_ids_go_with_the_segment_into_another_pack() -> None:
    places = Places(NAME, (MOVED, FIRST))
    found = open_chunks(join_ids([SEALED[1], SEALED[0]]), IDS, SCOPE, places)

    assert found.counts == (2, 2)
    assert list(found.lengths) == [*CHUNKS.lengths[2:], *CHUNKS.lengths[:2]]
    assert found.ids == CHUNKS.ids[24:] + CHUNKS.ids[:24]
    with pytest.raises(Malformed):
        open_chunks(join_ids([SEALED[0], SEALED[1]]), IDS, SCOPE, places)


IMPOSSIBLE: dict[str, tuple[bytes, ...]] = {
    "nothing": (),
    "one segment less": TRUE[:2],
    "no lengths": (b"", *TRUE[1:]),
    "fewer ids": (chunks_of([60, 40], 23), *TRUE[1:]),
    "more ids": (chunks_of([60, 40], 25), *TRUE[1:]),
    "one id more": (chunks_of([60, 40], 36), *TRUE[1:]),
    "a chunk in an empty segment": (*TRUE[:2], chunks_of([1])),
    "a segment that is longer": (chunks_of([61, 40]), *TRUE[1:]),
    "a segment that is shorter": (chunks_of([60, 39]), *TRUE[1:]),
    "a chunk of no bytes": (chunks_of([0, 100]), *TRUE[1:]),
    "a last chunk of no bytes": (chunks_of([100, 0]), *TRUE[1:]),
}


@pytest.mark.parametrize("plain", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_ids_that_contradict_the_places_are_refused(plain: tuple[bytes, ...]) -> None:
    with pytest.raises(Malformed):
        opened(*plain)


def test_zeroes_make_the_ids_as_long_as_their_class() -> None:
    ids = join_ids(SEALED)
    assert len(ids) == padded(sum(4 + len(one) for one in SEALED) + 4)
    for other in (ids[:-1] + b"\1", ids[:-1], ids + b"\0"):
        with pytest.raises(Malformed, match="padding"):
            split_ids(other, 3)


ELSEWHERE: dict[str, Callable[[], object]] = {
    "another pack of birth": lambda: open_chunks(
        join_ids([SEALED[0]]), IDS, SCOPE, Places(PACK, (replace(FIRST, id=SegmentId(OTHER_PACK, 0)),))
    ),
    "another ordinal": lambda: open_chunks(
        join_ids([SEALED[0]]), IDS, SCOPE, Places(PACK, (replace(FIRST, id=SegmentId(PACK, 1)),))
    ),
    "another domain": lambda: open_chunks(join_ids(SEALED), IDS, SCOPE[::-1], PLACES),
    "a list of the pack in the place of a segment": lambda: open_chunks(
        join_ids([IDS.seal(bytes(5), message("assembled", SCOPE, PACK)), *SEALED[1:]]), IDS, SCOPE, PLACES
    ),
}


@pytest.mark.parametrize("attempt", ELSEWHERE.values(), ids=ELSEWHERE)
def test_ids_open_nowhere_else(attempt: Callable[[], object]) -> None:
    with pytest.raises(Malformed):
        attempt()


@pytest.mark.parametrize(
    ("chunks", "segments"),
    [
        (replace(CHUNKS, counts=(2, 1, 0)), SEGMENTS),
        (replace(CHUNKS, counts=(2, 2, 1)), SEGMENTS),
        (replace(CHUNKS, ids=CHUNKS.ids[:-1]), SEGMENTS),
        (replace(CHUNKS, ids=CHUNKS.ids + bytes(12)), SEGMENTS),
        (replace(CHUNKS, lengths=CHUNKS.lengths[:-1]), SEGMENTS),
        (CHUNKS, SEGMENTS[:2]),
    ],
)
def test_ids_of_another_number_than_stated_are_not_written(chunks: Chunks, segments: list[SegmentId]) -> None:
    with pytest.raises(ValueError, match="number of"):
        seal_chunks(chunks, IDS, SCOPE, PACK, segments)


@pytest.mark.parametrize("listed", [b"", bytes(8)])
def test_a_list_of_no_assembled_chunks_is_refused(listed: bytes) -> None:
    payload = bytes((RAW,)) + listed
    sealed = IDS.seal(struct.pack("<I", len(payload)) + payload, message("assembled", SCOPE, PACK))
    with pytest.raises(Malformed):
        opened(*TRUE, listed=sealed)


def test_ids_above_the_limit_are_neither_sealed_nor_opened() -> None:
    most = MAX_ENDS // 14
    for count, fits in ((most, True), (most + 1, False)):
        halves = (count // 2, count - count // 2)
        chunks = Chunks(halves, array("H", [1]) * count, bytes(12 * count))
        pair = (replace(FIRST, plain_length=halves[0]), replace(LAST, plain_length=halves[1]))
        places, segments = replace(PLACES, places=pair), [FIRST.id, LAST.id]
        if fits:
            assert open_chunks(seal_chunks(chunks, IDS, SCOPE, PACK, segments), IDS, SCOPE, places) == chunks
            continue
        with pytest.raises(ValueError, match="more than 8388608 bytes"):
            seal_chunks(chunks, IDS, SCOPE, PACK, segments)
        sealed = [raw(chunks_of([1] * half), one) for half, one in zip(halves, segments, strict=True)]
        with pytest.raises(Malformed, match="larger"):
            open_chunks(join_ids(sealed), IDS, SCOPE, places)


@EFFORT
@given(damaged(TRUE[0]) | st.binary(max_size=120))
def test_any_bytes_as_ids_are_refused_or_add_up(plain: bytes) -> None:
    with contextlib.suppress(Malformed):
        found = opened(plain, *TRUE[1:])
        assert sum(found.lengths) == sum(place.plain_length for place in PLACES.places)


@EFFORT
@given(damaged(join_ids([b"one", b"another"], b"list")) | st.binary(max_size=40), st.integers(0, 4))
def test_any_bytes_are_split_into_what_they_are_joined_of_or_refused(data: bytes, segments: int) -> None:
    with contextlib.suppress(Malformed):
        assert join_ids(*split_ids(data, segments)) == data
