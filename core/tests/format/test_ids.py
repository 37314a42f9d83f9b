"""Chunk ids, hooks and stream digests."""

from itertools import accumulate, pairwise

from blake3 import blake3
from core.tests.format.damage import EFFORT
from hypothesis import given
from hypothesis import strategies as st

from penstock.format.ids import ChunkNamer, StreamDigest, chunk_ids, hooks
from penstock.format.index import hooks_of

KEY = bytes(range(32))
IDS = st.lists(st.binary(min_size=12, max_size=12), max_size=80)


@EFFORT
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=8))
def test_an_id_is_the_beginning_of_the_keyed_hash_of_a_chunk(data: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    chunks = [data[start:end] for start, end in pairwise(places)]

    ids = chunk_ids(KEY, memoryview(data), list(map(len, chunks)))
    assert ids == [blake3(chunk, key=KEY).digest()[:12] for chunk in chunks]


def test_another_key_gives_other_ids() -> None:
    assert chunk_ids(KEY, memoryview(b"a row"), [5]) != chunk_ids(bytes(32), memoryview(b"a row"), [5])


@EFFORT
@given(st.binary(min_size=1, max_size=300), st.lists(st.integers(1, 40), max_size=20), st.integers(0, 400))
def test_chunks_are_alike_up_to_the_first_byte_that_differs(data: bytes, lengths: list[int], place: int) -> None:
    ends = list(accumulate(lengths))
    ids = chunk_ids(KEY, memoryview(data + bytes(800)), lengths)
    other = bytearray(data)
    other[min(place, len(data) - 1)] ^= 1

    whole = sum(end <= len(data) for end in ends)
    assert ChunkNamer(KEY).alike(memoryview(data), ids, lengths) == whole
    until = sum(end <= min(place, len(data) - 1) for end in ends)
    assert ChunkNamer(KEY).alike(memoryview(other), ids, lengths) == until


@EFFORT
@given(IDS)
def test_a_hook_has_the_low_six_bits_of_its_last_byte_clear(ids: list[bytes]) -> None:
    assert hooks(b"".join(ids)) == [one for one in ids if one[11] & 63 == 0]
    assert hooks_of(b"".join(ids)) == tuple(dict.fromkeys(one for one in ids if one[11] & 63 == 0))


def test_one_last_byte_in_sixty_four_makes_a_hook() -> None:
    for last in range(256):
        # A zero or a line end before the last byte must not count.
        one = b"\0\n" * 5 + b"\0" + bytes([last])
        assert hooks(one * 2) == [one] * 2 * (last % 64 == 0)


def test_a_hook_is_kept_once_a_pack() -> None:
    first, second = b"a" * 11 + b"\0", b"b" * 11 + b"\x40"

    assert hooks_of(first + second + first + b"c" * 12) == (first, second)


@EFFORT
@given(st.lists(st.binary(max_size=50), max_size=5))
def test_a_stream_digest_does_not_depend_on_how_the_stream_is_divided(parts: list[bytes]) -> None:
    digest = StreamDigest()
    for part in parts:
        digest.update(part)

    assert digest.digest() == blake3(b"".join(parts)).digest()
