"""Chunks land in the same places of packs whether added one by one or in bulk."""

import random
from pathlib import Path

import pytest
from core.tests.repository.lab import MIB, Lab, noise

from penstock.format.index import PackSummary
from penstock.format.sealing import Sealer
from penstock.repository.budget import SEGMENT, Budget
from penstock.repository.read.directories import read_pack_end
from penstock.repository.write.packer import Packer

Placed = list[tuple[list[tuple[int, int]], list[int], bytes]]


def packed(lab: Lab, chunks: list[tuple[bytes, int]], data: bytes, batch: int) -> Placed:
    """For every pack: plain length and chunks of its segments, chunk lengths, ids; `batch` 0 means one by one."""
    landed: list[PackSummary] = []
    packer = Packer(
        lab.repository,
        session=bytes(16),
        data_sealer=Sealer(bytes(32)),
        budget=Budget.of(64 * MIB, connections=4),
        level=1,
        closed=lambda pack, known: None,
        landed=landed.append,
    )
    view = memoryview(data)
    start = 0
    for at in range(0, len(chunks), batch):
        ids, lengths = zip(*chunks[at : at + batch], strict=True)
        end = start + sum(lengths)
        told: list[int] = []
        for known, first, stop in packer.add(ids, lengths, view[start:end]):
            run = ids[len(told) : len(told) + stop - first]
            assert [known.chunks[chunk] for chunk in run] == list(range(first, stop))
            told += range(first, stop)
        assert len(told) == len(ids)
        start = end
    packer.close()
    directories = [read_pack_end(lab.repository, summary.pack)[0] for summary in landed]
    return [
        ([(place.plain_length, place.chunks) for place in found.segments], list(found.lengths), found.ids)
        for found in directories
    ]


@pytest.mark.parametrize("longest", [300, 60_000])
def test_chunks_are_packed_the_same_in_bulk_as_one_by_one(tmp_path: Path, longest: int) -> None:
    lab = Lab(tmp_path)
    chance = random.Random(longest)
    data = noise(20 * MIB) if longest > 1000 else noise(7 * MIB)
    chunks: list[tuple[bytes, int]] = []
    done = 0
    while done < len(data):
        length = min(chance.randint(1, longest), len(data) - done)
        chunks.append((chance.randbytes(16), length))
        done += length
    alone = packed(lab, chunks, data, 1)
    assert len(alone) > 1
    assert packed(lab, chunks, data, 5000) == alone
    assert packed(lab, chunks, data, len(chunks)) == alone


def test_a_chunk_that_fills_a_segment_to_the_byte_is_not_split_off(tmp_path: Path) -> None:
    sizes = [32_768] * 31 + [31_768, 1000, 500]
    data = noise(sum(sizes))
    chunks = [(bytes([number]) * 16, size) for number, size in enumerate(sizes)]
    ((segments, _, _),) = packed(Lab(tmp_path), chunks, data, len(chunks))
    assert segments == [(SEGMENT, 33), (500, 1)]


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
