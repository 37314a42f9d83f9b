"""What a host remembers of a dump: it comes back as it was written, or not at all, and is never an error."""

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from penstock.format.encoding import Malformed
from penstock.format.head import Base
from penstock.format.pack import MAX_SEGMENTS
from penstock.format.part import Key, PartRef
from penstock.repository.extents import Extents
from penstock.repository.known.frames import Frame
from penstock.repository.known.past import (
    Past,
    PastRow,
    PastStream,
    Recorder,
    forget_run,
    open_past,
    write_past,
)
from penstock.repository.known.window import Window

KEY, TAG, RUN = b"k" * 32, b"t" * 16, b"r" * 16
ROWS = [PastRow(n, bytes([n]) * 16, bytes([n]) * 32, n + 1, b"w" * 16, b"s" * 16 * (n % 3)) for n in range(5)]
STREAM = b"o" * 16


def frame(seed: int, *, records: bool = True) -> Frame:
    """Some chunks with their records, and extents that make them."""
    chance = random.Random(seed)
    counts = [chance.randrange(4) if records else 0 for _ in range(chance.randrange(1, 30))]
    lengths = [[chance.randrange(1, 1000) for _ in range(count)] for count in counts]
    chunk_lengths = [sum(some) or chance.randrange(1, 5000) for some in lengths]
    edges = sorted({0, sum(chunk_lengths), *(chance.randrange(sum(chunk_lengths)) for _ in range(9))})
    return Frame(
        chunks=[chance.randbytes(12) for _ in counts],
        chunk_lengths=np.array(chunk_lengths, dtype=np.int64),
        lags=np.array([chance.randrange(min(1025, size)) for size in chunk_lengths], dtype=np.uint16),
        counts=np.array(counts, dtype=np.int64),
        hashes=np.array([chance.getrandbits(64) for some in lengths for _ in some], dtype=np.uint64),
        record_lengths=np.array([one for some in lengths for one in some], dtype=np.uint16),
        extents=Extents(
            np.array([chance.randrange(3) * MAX_SEGMENTS + chance.randrange(9) for _ in edges[1:]], dtype=np.int64),
            np.array([chance.randrange(1 << 20) for _ in edges[1:]], dtype=np.int64),
            np.array([after - before for before, after in pairwise(edges)], dtype=np.int64),
        ),
    )


def same(one: Frame, other: Frame) -> bool:
    arrays = ("chunk_lengths", "lags", "counts", "hashes", "record_lengths")
    columns = ("segments", "starts", "lengths")
    return (
        one.chunks == other.chunks
        and all(np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays)
        and all(np.array_equal(getattr(one.extents, name), getattr(other.extents, name)) for name in columns)
    )


def recorder(
    folder: Path, *, run: bytes = RUN, limit: int | None = None, troubles: list[str] | None = None
) -> Recorder:
    heard = [] if troubles is None else troubles
    return Recorder(folder, TAG, run, "0-0", KEY, limit=limit, on_trouble=heard.append)


def remember(folder: Path, frames: list[Frame], *, run: bytes = RUN, limit: int | None = None) -> Path:
    """Remember two streams, the second one with these frames; gives the folder of the run."""
    writing = recorder(folder, run=run, limit=limit)
    writing.begin(0)
    writing.add(frame(99))
    writing.end()
    writing.begin(1)
    for one in frames:
        writing.add(one)
    there = writing.end()
    writing.begin_rows()
    writing.add_rows(ROWS[:1])
    writing.add_rows(ROWS[1:])
    rows = writing.end()
    writing.close()
    assert there is not None
    assert rows is not None
    part = PartRef(b"p" * 16, 4711, b"d" * 32, Key.DATA)
    layers = [Base(b"n" * 16, RUN, (part,)), Base(b"o" * 16, b"q" * 16, (part, part))]
    write_past(
        folder,
        TAG,
        run,
        KEY,
        snapshot=b"n" * 16,
        digest=b"h" * 32,
        layers=layers,
        streams={STREAM: PastStream(1, there, ((0,), (0, 1)), 17)},
        rows=[rows],
        next_row=5,
    )
    return folder / "past" / TAG.hex() / run.hex()


def remembered(past: Past | None) -> list[Frame]:
    assert past is not None
    return list(past.frames(past.streams[STREAM]))


def test_a_dump_is_remembered_as_it_was(tmp_path: Path) -> None:
    frames = [frame(seed, records=seed != 3) for seed in range(6)]
    folder = remember(tmp_path, frames)
    past = open_past(tmp_path, TAG, KEY)
    assert past is not None
    assert (past.snapshot, past.digest, past.next_row) == (b"n" * 16, b"h" * 32, 5)
    assert list(past.rows()) == ROWS
    assert [(layer.snapshot, layer.session, len(layer.parts)) for layer in past.layers] == [
        (b"n" * 16, RUN, 1),
        (b"o" * 16, b"q" * 16, 2),
    ]
    stream = past.streams[STREAM]
    assert (stream.number, stream.recipe, stream.runs) == (1, ((0,), (0, 1)), 17)
    assert all(map(same, remembered(past), frames))
    assert len(remembered(past)) == len(frames)
    modes = [path.stat().st_mode & 0o077 for path in (folder, folder / "0-0")]
    assert modes == [0, 0]


def test_others_see_nothing(tmp_path: Path) -> None:
    remember(tmp_path, [frame(1)])
    assert open_past(tmp_path, b"other" + bytes(11), KEY) is None
    assert open_past(tmp_path, TAG, b"another" + bytes(25)) is None
    assert open_past(tmp_path / "elsewhere", TAG, KEY) is None


def damages(data: bytes) -> Iterator[bytes]:
    chance = random.Random(8)
    for at in sorted(chance.sample(range(len(data)), min(len(data), 150))):
        yield data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
        yield data[:at]
    at = len(data) // 3
    yield data[at:] + data[:at]
    yield data[::-1]


@pytest.mark.slow
def test_what_is_damaged_is_not_believed(tmp_path: Path) -> None:
    frames = [frame(seed) for seed in range(4)]
    folder = remember(tmp_path, frames)
    whole = (folder / "0-0").read_bytes()
    for data in damages(whole):
        (folder / "0-0").write_bytes(data)
        past = open_past(tmp_path, TAG, KEY)
        assert past is not None
        found, rows = remembered(past), list(past.rows())
        assert all(map(same, found, frames))
        assert rows == ROWS[: len(rows)]
        # What was damaged lies in front of both, or not all was found.
        intact = (len(found), len(rows)) == (len(frames), len(ROWS))
        assert not intact or data[-len(whole) // 2 :] == whole[-len(whole) // 2 :]
    (folder / "0-0").unlink()
    past = open_past(tmp_path, TAG, KEY)
    assert past is not None
    assert remembered(past) == []
    assert list(past.rows()) == []


def test_a_damaged_list_of_streams_is_nothing(tmp_path: Path) -> None:
    folder = remember(tmp_path, [frame(1)])
    for data in damages((folder / "meta").read_bytes()):
        (folder / "meta").write_bytes(data)
        assert open_past(tmp_path, TAG, KEY) is None


def test_frames_of_another_run_or_another_place_are_not_believed(tmp_path: Path) -> None:
    frames = [frame(seed) for seed in range(3)]
    mine = remember(tmp_path / "mine", frames)
    other = remember(tmp_path / "other", frames, run=b"x" * 16)
    (mine / "0-0").write_bytes((other / "0-0").read_bytes())
    assert remembered(open_past(tmp_path / "mine", TAG, KEY)) == []


def test_the_last_run_counts_and_the_others_go(tmp_path: Path) -> None:
    first = remember(tmp_path, [frame(1)], run=b"1" * 16)
    abandoned = first.parent / ("0" * 32)
    abandoned.mkdir()
    os.utime(abandoned, (0, 0))
    going_on = first.parent / ("f" * 32)
    going_on.mkdir()
    last = remember(tmp_path, [frame(2)], run=b"2" * 16)
    assert set(first.parent.iterdir()) == {last, going_on}
    assert same(remembered(open_past(tmp_path, TAG, KEY))[0], frame(2))
    forget_run(tmp_path, TAG, b"2" * 16)
    assert open_past(tmp_path, TAG, KEY) is None


def test_what_runs_left_long_ago_goes_and_a_dump_of_any_age_stays(tmp_path: Path) -> None:
    """A host may store streams of sessions that others commit, and nothing else."""
    old = remember(tmp_path, [frame(1)])
    abandoned = old.parent / ("0" * 32)
    abandoned.mkdir()
    for one in (old, abandoned):
        os.utime(one, (0, 0))
    assert len(remembered(open_past(tmp_path, TAG, KEY))) == 1
    assert set(old.parent.iterdir()) == {old}


def test_a_limit_is_kept_and_what_is_there_helps_as_far_as_it_goes(tmp_path: Path) -> None:
    frames = [frame(seed) for seed in range(20)]
    folder = remember(tmp_path, frames, limit=5000)
    rows = 2 * 20 + sum(len(row.encode()) for row in ROWS)
    assert 3000 < (folder / "0-0").stat().st_size - rows <= 5000
    found = remembered(open_past(tmp_path, TAG, KEY))
    assert 1 < len(found) < len(frames)
    assert all(map(same, found, frames))
    assert recorder(tmp_path / "none", limit=0).end() is None
    assert not (tmp_path / "none").exists()


def _one_less(some: np.ndarray, at: int = -1) -> np.ndarray:
    less = some.copy()
    less[at] -= 1
    return less


CONTRADICTIONS: dict[str, Callable[[Frame], Frame]] = {
    "extents that make less": lambda one: replace(
        one, extents=one.extents._replace(lengths=_one_less(one.extents.lengths))
    ),
    "a longer chunk": lambda one: replace(one, chunk_lengths=one.chunk_lengths + (one.counts > 0)),
    "shorter records": lambda one: replace(one, record_lengths=_one_less(one.record_lengths)),
    "fewer records": lambda one: replace(one, counts=_one_less(one.counts, int(np.argmax(one.counts)))),
    "a lag longer than the chunk": lambda one: replace(one, lags=(one.chunk_lengths + 1).astype(np.uint16)),
    "no extents": lambda one: replace(one, extents=Extents(*(column[:0] for column in one.extents))),
    "a chunk of nothing": lambda one: replace(
        one,
        chunks=[*one.chunks, bytes(12)],
        chunk_lengths=np.append(one.chunk_lengths, 0),
        lags=np.append(one.lags, np.uint16(0)),
        counts=np.append(one.counts, 0),
    ),
}


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_a_frame_that_contradicts_itself_is_where_the_past_ends(tmp_path: Path, what: str) -> None:
    """Whatever made it: what is remembered is there to spare bytes, and no backup may fail of it."""
    frames = [frame(1), frame(2), frame(3)]
    assert all(same(Frame.decode(b"".join(one.encode())), one) for one in frames)
    wrong = CONTRADICTIONS[what](frames[1])
    with pytest.raises(Malformed, match="add up"):
        Frame.decode(b"".join(wrong.encode()))
    remember(tmp_path, [frames[0], wrong, frames[2]])
    found = remembered(open_past(tmp_path, TAG, KEY))
    assert len(found) == 1
    assert same(found[0], frames[0])


def test_by_default_hashes_take_a_tenth_of_the_dump(tmp_path: Path) -> None:
    """In the long run: a little is free."""
    writing = recorder(tmp_path)
    writing.begin(0)
    many = 40_000
    records = Frame(
        chunks=[bytes(12)],
        chunk_lengths=np.array([many * 30], dtype=np.int64),
        lags=np.zeros(1, dtype=np.uint16),
        counts=np.array([many], dtype=np.int64),
        hashes=np.arange(many, dtype=np.uint64),
        record_lengths=np.full(many, 30, dtype=np.uint16),
        extents=Extents(*(np.array([number], dtype=np.int64) for number in (0, 0, many * 30))),
    )
    added = 0
    while writing.takes_records:
        writing.add(records)
        added += 1
    # 8 bytes for 30 of the dump: until the first megabyte is used up that is free.
    assert 4 <= added <= 7
    writing.close()


@pytest.mark.parametrize("what", ["a file in the way", "a closed file"])
def test_a_disk_that_takes_nothing_is_told_once_and_ends_nothing(tmp_path: Path, what: str) -> None:
    troubles: list[str] = []
    if what == "a file in the way":
        (tmp_path / "past").write_bytes(b"")
    writing = recorder(tmp_path, troubles=troubles)
    if what == "a closed file":
        assert writing._file is not None
        os.close(writing._file.fileno())
    writing.begin(0)
    for seed in range(40):
        writing.add(frame(seed, records=False))
    big = frame(7)
    for _ in range(400):
        writing.add(big)
    assert writing.end() is None
    writing.close()
    assert len(troubles) == 1
    assert "not remembered" in troubles[0]


def window(frames: list[Frame], unusable: frozenset[int] = frozenset()) -> Window:
    made = Window(iter(frames), lambda row: 0 if row in unusable else -1)
    made.advance(0)
    return made


def test_a_window_finds_chunks_and_says_where_they_are() -> None:
    frames = [frame(seed) for seed in range(5)]
    ids = [chunk for one in frames for chunk in one.chunks]
    lengths = np.concatenate([one.chunk_lengths for one in frames])
    starts = np.cumsum(lengths) - lengths
    made = window(frames)
    for number, chunk in enumerate(ids):
        assert made.find(chunk, -1) == made.find(chunk, number - 1) == number
        assert made.start(number) == starts[number]
    assert made.find(b"?" * 12, 3) == -1
    lags = np.concatenate([one.lags for one in frames]).tolist()
    assert [made.lag(number) for number in range(-1, len(ids))] == [0, *lags]
    assert made.following(6, 4) == (ids[7:11], lengths[7:11].tolist(), lags[7:11])
    pieces = list(made.copied(2, len(ids) - 1))
    hashes = np.concatenate([one.hashes for one in frames])
    counts = np.concatenate([one.counts for one in frames])
    first, end = int(counts[:2].sum()), int(counts[:-1].sum())
    assert np.array_equal(np.concatenate([piece[0] for piece in pieces]), hashes[first:end])
    assert np.array_equal(np.concatenate([piece[2] for piece in pieces]), counts[2:-1])
    records = made.records(0, len(ids))
    assert np.array_equal(records.hashes, hashes)
    sizes = np.concatenate([one.record_lengths for one in frames]).astype(np.int64)
    within = np.concatenate([np.cumsum(some) - some for some in np.split(sizes, np.cumsum(counts)[:-1])])
    assert np.array_equal(records.starts, np.repeat(starts, counts) + within)


def test_a_window_resolves_any_run_of_bytes() -> None:
    frames = [frame(seed) for seed in range(4)]
    made = window(frames)
    where = [
        (int(segment), int(start) + at)
        for one in frames
        for segment, start, length in zip(one.extents.segments, one.extents.starts, one.extents.lengths, strict=True)
        for at in range(int(length))
    ]
    chance = random.Random(4)
    runs = [(0, len(where))] + [
        (at, chance.randrange(1, len(where) - at)) for at in chance.sample(range(len(where) - 2), 30)
    ]
    starts, lengths = (np.array(column, dtype=np.int64) for column in zip(*runs, strict=True))
    found, counts = made.resolved(starts, lengths)
    pieces = iter(zip(found.segments.tolist(), found.starts.tolist(), found.lengths.tolist(), strict=True))
    for (start, length), count in zip(runs, counts.tolist(), strict=True):
        some = [
            (segment, begin + at) for segment, begin, size in (next(pieces) for _ in range(count)) for at in range(size)
        ]
        assert some == where[start : start + length]
    assert next(pieces, None) is None


def test_chunks_of_unusable_packs_are_not_found() -> None:
    one = frame(11)
    made = window([one], frozenset({1}))
    edges = np.cumsum(one.extents.lengths)
    ends = np.cumsum(one.chunk_lengths)
    expected = []
    for number, end in enumerate(ends.tolist()):
        first = np.searchsorted(edges, end - one.chunk_lengths[number], side="right")
        last = np.searchsorted(edges, end)
        rows = one.extents.segments[first : last + 1] // MAX_SEGMENTS
        expected.append(-1 if 1 in rows else number)
    assert [made.find(chunk, -1) for chunk in one.chunks] == expected
    assert -1 in expected
    assert set(expected) != {-1}
    hidden = [number for number, found in enumerate(expected) if found < 0]
    assert all(made.following(number - 1, 1) == ([], [], []) for number in hidden)
    assert len(made.records(0, len(ends)).hashes) == sum(int(one.counts[number]) for number in expected if number >= 0)


def test_a_chunk_in_too_many_pieces_is_not_found() -> None:
    size = 4096
    for pieces, found in ((24, 0), (25, -1)):
        lengths = np.full(pieces, size // pieces, dtype=np.int64)
        lengths[-1] += size - int(lengths.sum())
        numbers = np.arange(pieces, dtype=np.int64)
        one = Frame(
            chunks=[b"c" * 12],
            chunk_lengths=np.array([size], dtype=np.int64),
            lags=np.zeros(1, dtype=np.uint16),
            counts=np.zeros(1, dtype=np.int64),
            hashes=np.zeros(0, dtype=np.uint64),
            record_lengths=np.zeros(0, dtype=np.uint16),
            extents=Extents(numbers, numbers, lengths),
        )
        assert window([one]).find(b"c" * 12, -1) == found


def test_a_window_keeps_what_is_near_and_lets_go_of_the_rest() -> None:
    chunks = [Frame([bytes([n]) * 12], *_plain(1 << 20)) for n in range(40)]
    made = Window(iter(chunks), lambda _: -1)
    made.advance(0)
    assert [made.find(bytes([n]) * 12, -1) for n in (0, 7, 8)] == [0, 7, -1]
    made.advance(20 << 20)
    assert [made.find(bytes([n]) * 12, -1) for n in (14, 15, 27, 28)] == [-1, 15, 27, -1]
    assert made.start(20) == 20 << 20
    made.advance(40 << 20)
    assert made.find(bytes([39]) * 12, -1) == 39


def _plain(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, Extents]:
    one = np.array([size], dtype=np.int64)
    none = np.zeros(0, dtype=np.int64)
    extents = Extents(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64), one)
    short = none.astype(np.uint16)
    return one, np.zeros(1, dtype=np.uint16), np.zeros(1, dtype=np.int64), none.astype(np.uint64), short, extents
