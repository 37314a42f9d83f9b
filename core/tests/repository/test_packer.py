"""Chunks land in the same places of packs whether added one by one or in bulk."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from core.tests.repository.lab import MIB, Lab, noise
from core.tests.repository.packing import DATA_KEY, SESSION, packing

from penstock.api import DamagedObject
from penstock.format.ids import CHUNK_ID_BYTES
from penstock.format.pack import TRAILER_BYTES
from penstock.format.padding import padded
from penstock.repository.budget import SEGMENT
from penstock.repository.known.known_pack import KnownPack, Lender
from penstock.repository.read.ends import PackEnd
from penstock.repository.read.verify import verify_pack

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow

#: For every pack: plain length and chunks of its segments, chunk lengths, ids.
Placed = list[tuple[list[tuple[int, int]], list[int], bytes]]


def pack(lab: Lab, chunks: list[tuple[bytes, int]], data: bytes, batch: int) -> tuple[list[KnownPack], list[PackEnd]]:
    """What the packer tells of the packs that it closed, and the ends of those that landed."""
    view = memoryview(data)
    start = 0
    with packing(lab) as made:
        for at in range(0, len(chunks), batch):
            ids, lengths = zip(*chunks[at : at + batch], strict=True)
            end = start + sum(lengths)
            told = 0
            for known, segment, offset, length in made.packer.add(ids, lengths, view[start:end]):
                first, begin = known.chunks[ids[told]], told
                while length > sum(lengths[begin:told]):
                    assert known.chunks[ids[told]] == first + told - begin
                    told += 1
                assert list(known.extents(first, first + told - begin)) == [(known, segment, offset, length)]
            assert told == len(ids)
            start = end
    return made.closed, made.ends()


def packed(lab: Lab, chunks: list[tuple[bytes, int]], data: bytes, batch: int) -> Placed:
    placed = []
    for end in pack(lab, chunks, data, batch)[1]:
        found = end.chunks()
        lengths = [place.plain_length for place in end.places.places]
        placed.append((list(zip(lengths, found.counts, strict=True)), list(found.lengths), found.ids))
    return placed


def random_chunks(data: bytes, longest: int) -> list[tuple[bytes, int]]:
    chance = random.Random(longest)
    chunks: list[tuple[bytes, int]] = []
    done = 0
    while done < len(data):
        length = min(chance.randint(1, longest), len(data) - done)
        chunks.append((chance.randbytes(CHUNK_ID_BYTES), length))
        done += length
    return chunks


@pytest.mark.parametrize("longest", [300, 60_000])
def test_chunks_are_packed_the_same_in_bulk_as_one_by_one(tmp_path: Path, longest: int) -> None:
    lab = Lab(tmp_path)
    data = noise(20 * MIB) if longest > 1000 else noise(7 * MIB)
    chunks = random_chunks(data, longest)
    alone = packed(lab, chunks, data, 1)
    assert len(alone) > 1
    assert packed(lab, chunks, data, 5000) == alone
    assert packed(lab, chunks, data, len(chunks)) == alone


def rows(size: int) -> bytes:
    """Lines that compress to about a half, as those of some dumps do."""
    chance = random.Random(size)
    lines = (b"%d\t%b\t2026-01-31 12:00:00+00\n" % (n, chance.randbytes(25).hex().encode()) for n in range(size))
    data = bytearray()
    while len(data) < size:
        data += next(lines)
    return bytes(data[:size])


@pytest.mark.parametrize(
    ("made", "size", "longest"),
    [(rows, 70 * MIB, 2400), (rows, 70 * MIB, 9000), (noise, 40 * MIB, 2400)],
    ids=["chunks as in a dump", "large chunks", "incompressible"],
)
def test_packs_end_where_few_zeroes_are_needed(lab: Lab, made: Callable[[int], bytes], size: int, longest: int) -> None:
    data = made(size)
    _, ends = pack(lab, random_chunks(data, longest), data, 5000)
    zeroes, sizes = [], []
    for end in ends[:-1]:  # the last is as long as the stream
        last = end.places.places[-1]
        stop = last.offset + last.sealed_length
        zeroes.append(end.size - TRAILER_BYTES - end.trailer.ids_length - end.trailer.places_length - stop)
        sizes.append(end.size)
    assert sizes
    assert sum(zeroes) < sum(sizes) / 150
    assert [padded(size) for size in sizes] == sizes


def test_a_chunk_that_fills_a_segment_to_the_byte_is_not_split_off(tmp_path: Path) -> None:
    sizes = [32_768] * 63 + [31_768, 1000, 500]
    data = noise(sum(sizes))
    chunks = [(bytes([number]) * CHUNK_ID_BYTES, size) for number, size in enumerate(sizes)]
    ((segments, _, _),) = packed(Lab(tmp_path), chunks, data, len(chunks))
    assert segments == [(SEGMENT, 65), (500, 1)]


def test_what_is_known_of_a_pack_on_its_way_is_what_its_end_says_later(lab: Lab) -> None:
    data = noise(20 * MIB)
    chunks = random_chunks(data, 60_000)
    closed, ends = pack(lab, chunks, data, 500)
    assert len(closed) == len(ends) > 1
    for known, end in zip(closed, ends, strict=True):
        later = KnownPack.of(end, {end.places.pack: Lender.of(end)})
        assert (known.pack, known.pin, known.sessions) == (later.pack, later.pin, later.sessions)
        assert (known.segments, known.chunks) == (later.segments, later.chunks)
        assert known.pin == end.pin
        assert known.sessions == {SESSION}
        count = len(known.chunks)
        for first, stop in ((0, count), (0, 1), (count - 1, count), (count // 3, 2 * count // 3)):
            assert [one[1:] for one in known.extents(first, stop)] == [one[1:] for one in later.extents(first, stop)]


def test_extents_are_the_bytes_of_the_chunks_in_their_segments(lab: Lab) -> None:
    data = noise(5 * MIB)
    chunks = random_chunks(data, 30_000)
    _, (end,) = pack(lab, chunks, data, len(chunks))
    known = KnownPack.of(end, {end.places.pack: Lender.of(end)})
    bounds = [0]
    for _, length in chunks:
        bounds.append(bounds[-1] + length)
    starts = {
        place.id: sum(one.plain_length for one in end.places.places[:at]) for at, place in enumerate(end.places.places)
    }
    for first, stop in ((0, len(chunks)), (0, 1), (7, 8), (3, len(chunks) - 5), (len(chunks) - 1, len(chunks))):
        position = bounds[first]
        for _, segment, offset, length in known.extents(first, stop):
            assert starts[segment] + offset == position
            position += length
        assert position == bounds[stop]
    assert len(list(known.extents(0, len(chunks)))) == len(end.places.places) == known.segments
    assert list(known.extents(5, 5)) == []


def test_a_chunk_that_a_pack_holds_twice_is_found_at_its_first_place_by_others(lab: Lab) -> None:
    chunks = [(bytes([number]) * CHUNK_ID_BYTES, 1000) for number in (1, 2, 1, 3)]
    (own,), (end,) = pack(lab, chunks, noise(4000), 1)
    assert KnownPack.of(end, {end.places.pack: Lender.of(end)}).chunks[chunks[0][0]] == 0
    assert own.chunks[chunks[0][0]] == 2


def test_a_pack_is_padded_signed_and_whole(lab: Lab) -> None:
    data = noise(3 * MIB)
    _, (end,) = pack(lab, random_chunks(data, 30_000), data, 500)
    assert end.size == padded(end.size)
    segments = end.end_of_segments
    assert end.size == padded(segments + end.ends.ids_length + end.ends.places_length + TRAILER_BYTES)
    assert end.ends.ids_length == padded(end.ends.ids_length)
    assert end.ends.places_length == padded(end.ends.places_length)
    assert end.require_signer() == lab.owner.key
    sealed = lab.sink.get(lab.at.pack_key(end.places.pack))
    assert not any(sealed[segments : end.ends.offset])
    # Its ids are made up, as nobody can tell who cannot open it.
    assert verify_pack(lab.domain, end.places.pack, end.size, lambda _: None).pin == end.pin
    with pytest.raises(DamagedObject, match="other chunks than were recorded"):
        verify_pack(lab.domain, end.places.pack, end.size, lambda _: DATA_KEY)


@pytest.mark.parametrize("repeated", [False, True])
def test_a_partly_known_batch_stores_only_the_rest(tmp_path: Path, repeated: bool) -> None:
    lab = Lab(tmp_path)
    first, second = noise(3 * MIB, 1), noise(3 * MIB, 2)
    stored = [lab.backup({"d": part}).stored for part in (first, first + second)]
    assert stored[1] < 1.1 * stored[0]
    if repeated:
        assert lab.backup({"d": second + first + second}).stored < stored[0] / 10
    assert lab.restored()["d"] == (second + first + second if repeated else first + second)


@pytest.mark.parametrize("known", [10 * 1024, MIB])
def test_a_batch_with_next_to_nothing_known_is_stored_whole(tmp_path: Path, known: int) -> None:
    lab = Lab(tmp_path)
    first, second = noise(2 * MIB, 1), noise(4 * MIB, 2)
    lab.backup({"d": first})
    content = second[: 2 * MIB] + first[MIB : MIB + known] + second[2 * MIB :]
    stored = lab.backup({"d": content}).stored
    assert stored > len(content) if known < MIB else stored < len(content) - known / 2
    assert lab.restored()["d"] == content
    assert lab.check(read_data=True).findings == ()
