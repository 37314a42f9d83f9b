import random
import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import chain, repeat
from pathlib import Path

import pytest
from core.tests.repository.lab import KIB, MIB, BytesSource, BytesStream, Lab, noise
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.soak import examples

from penstock.api import SnapshotNotFound, SourceError, UsageError
from penstock.engine import cat
from penstock.format.pack import SegmentId
from penstock.repository import Repository
from penstock.repository.read.content import Content
from penstock.repository.sessions import data_sealer
from penstock.repository.snapshots import list_snapshots

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow

#: What a run stores in any case: its session, three parts and the head, none of which is smaller than 4 KiB or so.
A_RUN = 20 * KIB
#: What it takes besides to store anything new: both ends of a pack and both halves of an index, of 4 KiB each.
A_PACK = 18 * KIB


def table(size: int, seed: int = 0) -> bytes:
    """Rows of text, as dumps have them."""
    chance = random.Random(seed)
    rows = bytearray()
    while len(rows) < size:
        rows += b"%d\tcustomer %d\t%.2f\topen\n" % (chance.randrange(10**6), chance.randrange(999), chance.random())
    return bytes(rows[:size])


PIECES = st.one_of(
    st.builds(bytes, st.integers(0, 200 * KIB)),
    st.builds(noise, st.integers(0, 200 * KIB), st.integers(0, 3)),
    st.builds(table, st.integers(0, 100 * KIB), st.integers(0, 3)),
    st.builds(lambda block, times: block * times, st.binary(min_size=1, max_size=64), st.integers(0, 2000)),
    st.binary(max_size=300),
)
CONTENTS = st.lists(PIECES, max_size=6).map(b"".join)
STREAMS = st.dictionaries(st.sampled_from(["main.dump", "globals.sql", "data/a", "data/b"]), CONTENTS, min_size=1)


@settings(max_examples=examples(40), deadline=None)
@given(nights=st.lists(STREAMS, min_size=1, max_size=3))
def test_whatever_was_backed_up_is_restored(nights: list[dict[str, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder))
        results = [lab.backup(streams) for streams in nights]
        for result, streams in zip(results, nights, strict=True):
            assert lab.restored(result.snapshot.hex()) == streams
            assert result.read == sum(map(len, streams.values()))
        report = lab.check(cache=lab.cache)
    assert report.findings == ()
    assert report.snapshots == len(nights)


@pytest.mark.parametrize(
    "content",
    [b"", b"x", bytes(50 * MIB), noise(5 * MIB), noise(4 * MIB), noise(4 * MIB - 1), noise(1 * MIB) * 9],
    ids=["empty", "one byte", "zeros", "noise", "one batch", "a byte less", "repeated"],
)
def test_extreme_streams_come_back(lab: Lab, content: bytes) -> None:
    lab.backup({"main.dump": content, "small.sql": b"select 1;"})
    assert lab.restored() == {"main.dump": content, "small.sql": b"select 1;"}
    assert lab.check().findings == ()


def test_zeros_are_stored_once(lab: Lab) -> None:
    assert lab.backup({"main.dump": bytes(50 * MIB)}).stored < A_RUN + A_PACK


def test_repeats_within_a_stream_are_stored_once(lab: Lab) -> None:
    assert lab.backup({"main.dump": noise(2 * MIB) * 8}).stored < 3 * MIB


def test_a_plan_without_streams_is_refused(lab: Lab) -> None:
    with pytest.raises(SourceError, match="plan has no streams"):
        lab.backup({})
    assert list_snapshots(lab.open()) == []


def odd_sizes() -> Iterator[int]:
    chance = random.Random(5)
    return iter(lambda: chance.choice([1, 2, 3, 127, 4096, 65536, 99991, MIB]), 0)


def extents(repository: Repository) -> list[list[tuple[SegmentId, int, int]]]:
    """Segment, start in it and length of each extent, of each snapshot's only stream."""
    found = []
    for entry in list_snapshots(repository):
        content = Content(entry, partial(data_sealer, entry.domain))
        (stream,) = content.manifest.streams
        found.append([(content.table.find(one.segment or 0), one.start, one.length) for one in content.extents(stream)])
    return found


@pytest.mark.parametrize("reads", ["single bytes", "odd sizes", "as much as there is room for"])
def test_cuts_do_not_depend_on_how_the_stream_is_read(lab: Lab, reads: str) -> None:
    content = table(6 * MIB, seed=1) + noise(3 * MIB)

    def opener(data: bytes) -> BytesStream:
        match reads:
            case "single bytes":  # and then the rest, for 9 MiB of them take their time
                return BytesStream(data, chain(repeat(1, 300_000), [777_777], odd_sizes()))
            case "odd sizes":
                return BytesStream(data, odd_sizes())
            case _:
                return BytesStream(data, [64 * MIB])

    first = lab.backup({"main.dump": content})
    second = lab.backup(BytesSource({"main.dump": content}, opener=opener))
    assert second.packs == 0
    assert second.stored < A_RUN < first.stored
    one, other = extents(lab.open())
    assert one == other


def test_a_second_backup_of_the_same_stores_next_to_nothing(lab: Lab) -> None:
    streams = {"main.dump": table(5 * MIB), "blobs": noise(20 * MIB)}
    first = lab.backup(streams)
    second = lab.backup(streams)
    assert first.stored > 20 * MIB
    assert second.packs == 0
    assert second.stored < A_RUN


def test_a_small_change_stores_a_small_part(lab: Lab) -> None:
    content = bytearray(noise(24 * MIB))
    lab.backup({"main.dump": bytes(content)})
    content[11 * MIB : 11 * MIB] = b"a new row"
    del content[3 * MIB : 3 * MIB + 100]
    assert lab.backup({"main.dump": bytes(content)}).stored < 64 * KIB
    assert lab.restored() == {"main.dump": bytes(content)}


def test_streams_share_what_they_have_in_common(lab: Lab) -> None:
    content = noise(8 * MIB)
    assert lab.backup({"one": content, "two": content, "three": content[1000:]}).stored < 8.5 * MIB
    assert lab.backup({"renamed": content}).stored < A_RUN


def test_backups_of_two_names_share_chunks_and_not_their_history(lab: Lab) -> None:
    contents = [table(300 * KIB, seed) + noise(2 * MIB) for seed in range(6)]
    names = ["shop", "wiki"] * 3
    results = [lab.backup({"d": content}, name=name) for content, name in zip(contents, names, strict=True)]
    assert all(result.stored < 500 * KIB for result in results[1:])
    for number, (result, content) in enumerate(zip(results, contents, strict=True)):
        assert lab.restored(result.snapshot.hex()) == {"d": content}
        assert result.head.parent == (results[number - 2].snapshot if number > 1 else None)
    assert lab.restored("latest:shop") == {"d": contents[4]}
    assert lab.restored("latest:wiki") == {"d": contents[5]}
    with pytest.raises(SnapshotNotFound, match="the backup mail"):
        lab.restored("latest:mail")


def test_phases_are_restored_in_order(lab: Lab) -> None:
    streams = {"data/b": b"2", "post.sql": b"3", "globals.sql": b"0", "data/a": b"1"}
    phases = {"globals.sql": 0, "data/b": 1, "data/a": 1, "post.sql": 2}
    lab.backup(BytesSource(streams, phases=phases))
    target = BytesSource({})
    lab.restore(into=target)
    assert target.touched == ["globals.sql", "data/b", "data/a", "post.sql"]


def test_some_streams_can_be_restored_alone(lab: Lab) -> None:
    streams = {"a": noise(100 * KIB, 1), "b": noise(100 * KIB, 2), "c": b""}
    lab.backup(streams)
    target = BytesSource({})
    result = lab.restore(into=target, streams=["c", "a"])
    assert target.restored == {"a": streams["a"], "c": b""}
    assert result.written == 100 * KIB
    with pytest.raises(SnapshotNotFound, match="'d'"):
        lab.restore(into=target, streams=["d"])
    with pytest.raises(UsageError, match="no stream was named"):
        lab.restore(into=target, streams=[])


def test_cat_gives_one_stream(lab: Lab) -> None:
    streams = {"a": noise(3 * MIB, 1), "b": noise(100 * KIB, 2)}
    lab.backup(streams)
    entry = lab.find("latest")
    out = bytearray()
    result = cat(entry, "a", out=out.extend, listener=lab.events.append)
    assert out == streams["a"]
    assert (result.stream, result.written) == ("a", len(out))
    with pytest.raises(SnapshotNotFound, match="no stream 'c'") as refusal:
        cat(entry, "c", out=out.extend, listener=lab.events.append)
    assert refusal.value.hint == "Choose one of: a, b."


def test_scattered_changes_over_many_nights_come_back(lab: Lab) -> None:
    chance = random.Random(2)
    content = bytearray(noise(6 * MIB))
    nights = []
    for _ in range(5):
        for _ in range(300):
            at = chance.randrange(len(content))
            content[at : at + 8] = chance.randbytes(8)
        nights.append(bytes(content))
        lab.backup({"d": nights[-1]})
    for entry, night in zip(list_snapshots(lab.open()), nights, strict=True):
        assert lab.restored(entry.id.hex()) == {"d": night}


def test_a_tenth_of_the_default_memory_is_refused(lab: Lab) -> None:
    with pytest.raises(UsageError, match="at least 64 MiB"):
        lab.backup({"d": b""}, memory=12 * MIB)


def test_an_empty_repository_has_no_latest_snapshot(lab: Lab) -> None:
    with pytest.raises(SnapshotNotFound, match="no snapshot of this repository yet"):
        lab.restore()
