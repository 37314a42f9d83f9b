"""Neither a dump's size, nor the number of snapshots, nor that of their segments, makes a run take more memory."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from blake3 import blake3
from core.tests.engine.measured import TINY, Peak, create, measure, open_again
from core.tests.repository.forging import put_part, put_session
from core.tests.repository.lab import KIB, MIB
from tests.soak import long, times

from penstock.format.encoding import new_id
from penstock.format.head import MAX_BASES, MAX_REFS, Base, Head, encode_head
from penstock.format.keys import new_secret
from penstock.format.manifest import Manifest, StreamRecord, encode_manifest
from penstock.format.part import Kind, Row, encode_rows, encode_sessions
from penstock.format.sealing import Sealer
from penstock.repository.budget import PACK_TARGET, SEGMENT
from penstock.repository.domain import Domain
from penstock.repository.write.parts import ENOUGH, Piece, WrittenPart, put_parts, referred
from penstock.repository.write.recipes import RecipeWriter

GIB = 1024 * MIB
#: What a night usually makes of them.
SEGMENTS_A_PACK = PACK_TARGET // SEGMENT
#: Bytes of the synthetic source in a tiny segment.
TINY_BYTES = 830
#: What a check remembers fills caches of some MiB (the ledger, the local cache, a segment table), and is in files from
#: there on.
CHECK_CACHES = 24 * MIB


def assert_the_same(small: Peak, large: Peak, usual: Peak | None = None) -> None:
    """Within a tenth; of what is `usual`, where both leave buffers empty that a dump of as many segments fills."""
    assert large - small < (usual or small) / 10, f"{large / MIB:.1f} MiB instead of {small / MIB:.1f} MiB"


# the size of a dump


@pytest.mark.parametrize(
    "larger",
    [pytest.param(GIB, marks=pytest.mark.slow), pytest.param(times(4) * GIB, marks=long(30))],
    ids=["short", "for long"],
)
def test_a_larger_dump_takes_no_more_memory_on_its_first_night_or_later(tmp_path: Path, larger: int) -> None:
    smaller = 256 * MIB  # with more packs than buffers
    peaks = {}
    for size in (smaller, larger):
        folder = tmp_path / str(size)
        create(folder)
        first = measure("backup", folder, size=size, hollow=True)
        later = measure("backup", folder, size=size, generation=1, changed=0.01, hollow=True)
        assert first.said["stored"] > size > 10 * later.said["stored"]
        compared = measure("command", folder, arguments=["diff"])
        assert size // 100 <= compared.said["summary"]["new"] < size // 20
        peaks[size] = (first, later, compared)
    for small, large in zip(peaks[smaller], peaks[larger], strict=True):
        assert_the_same(small, large)


# the number of snapshots


@pytest.mark.parametrize(
    "more",
    [pytest.param(100, marks=pytest.mark.slow), pytest.param(times(250), marks=long(30))],
    ids=["short", "for long"],
)
def test_more_snapshots_take_no_more_memory(tmp_path: Path, more: int) -> None:
    fewer = 10
    size = 4 * MIB
    peaks: dict[int, list[Peak]] = {}
    for count in (fewer, more):
        folder = tmp_path / str(count)
        create(folder)
        # As much new data in all, so that what is known of it takes as much of the room for that.
        measure("nights", folder, size=size, count=count, changed=0.008 * more / count)
        listed = measure("command", folder, arguments=["snapshots"])
        assert len(listed.said["snapshots"]) == count
        found = measure("latest", folder)
        assert found.said == listed.said["snapshots"][-1]["id"]
        restored = measure("restore", folder)
        assert restored.said["written"] == size
        checked = measure("check", folder, read_data=False)
        assert (checked.said["findings"], checked.said["snapshots"]) == ([], count)
        next_night = measure("backup", folder, size=size, generation=count)
        # A host without a cache has to read of all nights.
        (folder / "cache").rename(folder / "lost")
        fresh = measure("backup", folder, size=size, generation=count + 1)
        assert max(night.said["stored"] for night in (next_night, fresh)) < size // 4
        peaks[count] = [listed, found, restored, next_night, fresh, checked]
    for small, large in zip(peaks[fewer][:-1], peaks[more][:-1], strict=True):
        assert_the_same(small, large)
    assert peaks[more][-1] < peaks[fewer][-1] + CHECK_CACHES


# the number of segments


def table_of(segments: int) -> Iterator[Row]:
    chance = random.Random(4)
    for number in range(segments // SEGMENTS_A_PACK):
        used = frozenset(range(SEGMENTS_A_PACK))
        yield Row(number, chance.randbytes(16), chance.randbytes(32), SEGMENTS_A_PACK, used)


def gathered(pieces: Iterator[Piece]) -> Iterator[list[Piece]]:
    """As many at a time as a writer puts into a part."""
    some: list[Piece] = []
    for piece in pieces:
        some.append(piece)
        if sum(one.size for one in some) > ENOUGH:
            yield some
            some = []
    yield some


class ManyNights:
    """Snapshots of as many segments as one likes, none of which is there; their heads and parts are."""

    def __init__(self, domain: Domain, segments: int) -> None:
        self.domain = domain
        self.segments = segments
        self.data_key = new_secret()
        self.snapshots: list[bytes] = []
        self.digest: bytes | None = None
        self.parts: list[WrittenPart] = []
        for some in gathered(self._pieces()):
            self.parts += self._put(some)
        recipe = tuple(number for number, part in enumerate(self.parts) if part.streams)
        size = segments * SEGMENT
        record = StreamRecord("d", "raw", 0, False, {}, size, bytes(32), (recipe,))
        self.manifest = len(self.parts)
        self.parts += self._put([Piece(Kind.MANIFEST, encode_manifest(Manifest("one state", {}, (record,))))])
        refs = [part.ref for part in self.parts]
        self.refs = referred(domain, refs, Sealer(self.data_key), MAX_REFS - 1, domain.sink.put)

    def _put(self, pieces: list[Piece]) -> list[WrittenPart]:
        return list(put_parts(self.domain, pieces, Sealer(self.data_key), self.domain.sink.put))

    def _pieces(self) -> Iterator[Piece]:
        rows = list(table_of(self.segments))
        for at in range(0, len(rows), 1024):
            yield Piece(Kind.TABLE, encode_rows(rows[at : at + 1024]))
        recipe = RecipeWriter(0)
        for row in rows:
            for ordinal in sorted(row.used):
                yield from recipe.add(row.number * 4096 + ordinal, 0, SEGMENT)
        yield from recipe.finish()

    def put_heads(self, until: int) -> list[bytes]:
        """Each of a session of its own, until there are so many; gives the ids, oldest first.

        The parts are the same ones, and each has as many bases as a head may have.
        """
        domain, access = self.domain, self.domain.access
        snapshots = self.snapshots
        digest = self.digest
        for night in range(len(snapshots), until):
            session = put_session(domain, self.data_key, by=access)
            pinned = {session: blake3(domain.sink.get(domain.at.session_key(session))).digest()}
            time = datetime(2026, 1, 31, tzinfo=UTC) + timedelta(minutes=night)
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            head = Head(
                snapshot=new_id(),
                backup="shop",
                source="synthetic",
                started=stamp,
                finished=stamp,
                host="prod-db",
                program="penstock",
                parent=snapshots[-1] if snapshots else None,
                size=self.segments * SEGMENT,
                streams=1,
                stored=0,
                sequence=night + 1,
                previous=digest,
                seen={},
                index=(),
                parts=(*self.refs, put_part(domain, [(Kind.SESSIONS, encode_sessions(pinned))], by=access)),
                manifest=self.manifest,
                bases=tuple(Base(new_id(), new_id(), tuple(self.refs[:1])) for _ in range(MAX_BASES)),
            )
            data = encode_head(
                head,
                session=session,
                writer=access.key,
                scope=domain.scope,
                layout_sealer=domain.layout_sealer,
                signer=access.signing,
            )
            domain.sink.put(domain.at.snapshot_key(head.snapshot), data)
            digest = self.digest = blake3(data).digest()
            snapshots.append(head.snapshot)
        return snapshots


@pytest.mark.slow
def test_a_thousand_snapshots_of_a_million_segments_are_listed_in_little_memory(tmp_path: Path) -> None:
    create(tmp_path)
    nights = ManyNights(open_again(tmp_path).domain, 1_000_000)
    assert sum(part.ref.size for part in nights.parts) > 3 * MIB
    nights.put_heads(10)
    few = measure("command", tmp_path, arguments=["snapshots"])
    snapshots = nights.put_heads(1000)
    listed = measure("command", tmp_path, arguments=["snapshots"])
    assert [one["id"] for one in listed.said["snapshots"]] == [one.hex() for one in snapshots]
    assert {one["size"] for one in listed.said["snapshots"]} == {1_000_000 * SEGMENT}
    assert_the_same(few, listed)
    assert listed < 100 * MIB
    found = measure("latest", tmp_path)
    assert found.said == snapshots[-1].hex()
    assert found < 100 * MIB
    # The one whose table and manifest are looked at.
    shown = measure("command", tmp_path, arguments=["show", "latest"])
    assert json.dumps(shown.said).count(snapshots[-1].hex()) > 0
    assert shown < 100 * MIB


@pytest.mark.parametrize(
    "more",
    [pytest.param(40_000, marks=pytest.mark.slow), pytest.param(times(250_000), marks=long(30))],
    ids=["short", "for long"],
)
def test_more_segments_take_no_more_memory(tmp_path: Path, more: int) -> None:
    """What a terabyte has of segments and packs, each of them tiny; all that counts them is as usual."""
    create(tmp_path / "usual")
    usual = [measure("backup", tmp_path / "usual", size=256 * MIB), measure("restore", tmp_path / "usual")]
    fewer = 5_000
    peaks: dict[int, list[Peak]] = {}
    for count in (fewer, more):
        folder = tmp_path / str(count)
        create(folder, TINY)
        size = count * TINY_BYTES
        stored = measure("backup_of_tiny_segments", folder, segments_a_pack=SEGMENTS_A_PACK, size=size)
        restored = measure("restore", folder)
        assert restored.said["written"] == size
        ends = measure("check", folder, read_data=False)
        data = measure("check", folder, read_data=True)
        assert ends.said == data.said
        assert ends.said["findings"] == []
        assert ends.said["segments"] > count
        assert ends.said["packs"] > count // 20
        peaks[count] = [stored, restored, ends, data]
    for small, large, real in zip(peaks[fewer][:2], peaks[more][:2], usual, strict=True):
        assert_the_same(small, large, real)
    for small, large in zip(peaks[fewer][2:], peaks[more][2:], strict=True):
        assert large < small + CHECK_CACHES


@pytest.mark.slow
def test_what_measures_says_so_where_memory_grows(tmp_path: Path) -> None:
    create(tmp_path)
    small = measure("nights", tmp_path, size=64 * KIB, count=1)
    with pytest.raises(AssertionError, match="instead of"):
        assert_the_same(small, Peak(small + 16 * MIB))
