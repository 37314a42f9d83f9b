"""What a restore reads on a host that knows nothing: what its snapshot needs and no more, to the byte."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import pytest
from core.tests.engine.nightly import Nightly
from core.tests.repository.lab import KIB, PASSPHRASE, BytesSource, Lab, noise

from penstock.format.manifest import StreamRecord
from penstock.format.pack import MAGIC, SegmentId
from penstock.format.part import Key
from penstock.repository import SnapshotEntry
from penstock.repository.layout import CONFIG, GRANTS, SLOTS
from penstock.repository.read.content import Content, parts_of, sessions_of
from penstock.repository.read.ends import PLACES_TAIL, TAIL, read_end
from penstock.repository.sessions import data_sealer
from penstock.repository.snapshots import list_snapshots
from penstock.workspace.sinks.forwarding import ForwardingSink

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow

NIGHTS = 5
#: The night that is restored by its id: later ones are of no use to it, and it goes back to earlier ones.
MIDDLE = 3


class CountingSink(ForwardingSink):
    """Notes what is read of which object, and allows one request at a time, so that none overtakes another.

    Listings, and asking for an object's size, are not counted: they give no bytes of any object.
    """

    connections = 1

    def __init__(self, inner: Lab) -> None:
        super().__init__(inner.sink)
        self.read: dict[str, list[tuple[int, int]]] = defaultdict(list)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        data = super().get(key, start=start, length=length)
        self.read[key].append((start, start + len(data)))
        return data

    def bytes_of(self, keys: Iterable[str]) -> int:
        """How many bytes were read of these objects."""
        return sum(end - start for key in keys for start, end in self.read[key])


def rows(count: int, seed: int) -> list[bytes]:
    chance = random.Random(seed)
    return [chance.randbytes(40).hex().encode() + b"\n" for _ in range(count)]


def changed(data: list[bytes], count: int, seed: int) -> list[bytes]:
    places = random.Random(seed).sample(range(len(data)), count)
    new = dict(zip(places, rows(count, seed), strict=True))
    return [new.get(place, row) for place, row in enumerate(data)]


@pytest.fixture(scope="module")
def nightly(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lab, list[bytes]]:
    """A repository with three backups of several nights, and the snapshots of `shop`.

    `shop` has one stream, which takes over rows of `wiki` one night, and loses many the next. `crm` has several, most
    of them small, whose recipes are in parts of their own.
    """
    lab = Lab(tmp_path_factory.mktemp("cache"))
    wiki, shop, crm = rows(30_000, 1), rows(80_000, 2), rows(30_000, 3)
    made = []
    for night in range(NIGHTS):
        lab.backup(Nightly({"d": b"".join(wiki), "of tonight": noise(300_000, night)}), name="wiki")
        made.append(lab.backup(Nightly({"d": b"".join(shop)}), name="shop").snapshot)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("penstock.repository.write.stream.ENOUGH", 0)
            streams = {f"small {number}": b"".join(crm[number::3000]) for number in range(4)}
            lab.backup(Nightly({"large": b"".join(crm), **streams}), name="crm")
        wiki, shop, crm = (changed(data, 200, 3 * night + seed) for seed, data in enumerate((wiki, shop, crm)))
        match night:
            case 0:
                shop[70_000:70_000] = wiki[5000:25_000]
            case 1:
                del shop[20_000:60_000]
    return lab, made


class Needs:
    """What these streams of a snapshot need, read from the repository beside the sink that counts."""

    def __init__(self, lab: Lab, snapshot: bytes, names: Iterable[str] | None = None) -> None:
        self.lab = lab
        self.entry: SnapshotEntry = lab.find(snapshot.hex())
        content = Content(self.entry, partial(data_sealer, self.entry.domain))
        every = content.manifest.streams
        self.records = [one for one in every if names is None or one.name in names]
        self.sessions = {lab.at.session_key(session) for session in sessions_of(self.entry)}
        # What all streams share: the segment table, the sessions, the manifest.
        head = self.entry.head
        shared = [ref for at, ref in enumerate(head.parts) if ref.key is not Key.DATA or at >= head.manifest]
        recipes = [ref for record in self.records for ref in content.recipe_parts(record).values()]
        self.parts = {lab.at.part_key(ref.part) for ref in (*shared, *recipes)}
        #: Which segments each stream needs.
        self.segments = [self._segments(content, record) for record in self.records]
        if names is None:
            assert self.parts == {lab.at.part_key(ref.part) for ref in parts_of(self.entry)}
            listed = {
                SegmentId(pack, ordinal)
                for pack, used in content.table.used()
                for ordinal in range(used.bit_length())
                if used >> ordinal & 1
            }
            assert listed == set().union(*self.segments)
        content.table.close()
        self.packs = {lab.at.pack_key(one.pack): one.pack for segments in self.segments for one in segments}

    @staticmethod
    def _segments(content: Content, record: StreamRecord) -> set[SegmentId]:
        numbers = {extent.segment for extent in content.extents(record)}
        return {content.table.find(number) for number in numbers if number is not None}

    def end(self, key: str) -> tuple[int, int]:
        """What is read of a pack to know where its segments are: its end."""
        size = self.lab.sink.stat(key).size
        return max(0, size - PLACES_TAIL), size

    def places(self, key: str) -> dict[int, tuple[int, SegmentId]]:
        """Where the segments of a pack that are needed begin, and end. The mark in front belongs to the first one."""
        end = read_end(self.entry.domain, self.packs[key], self.lab.sink.stat(key).size, TAIL)
        needed = set().union(*self.segments)
        return {
            0 if place.offset == len(MAGIC) else place.offset: (place.offset + place.sealed_length, place.id)
            for place in end.places.places
            if place.id in needed
        }


def segments_in(needs: Needs, key: str, reads: Iterable[tuple[int, int]]) -> Iterator[SegmentId]:
    """The segments that these reads of a pack are made of; fails for bytes of anything that is not needed."""
    places = needs.places(key)
    for start, end in reads:
        at = start
        while at < end:
            assert at in places, f"{key}: bytes from {at} on, up to {end}, are of no segment that is needed"
            at, segment = places[at]
            yield segment
        assert at == end


def each_whole(sink: CountingSink, lab: Lab) -> Counter[str]:
    """How often each object but packs was read: as a whole, or this fails."""
    small = {key: reads for key, reads in sink.read.items() if not key.startswith(lab.at.packs)}
    for key, reads in small.items():
        assert set(reads) == {(0, lab.sink.stat(key).size)}
    return Counter({key: len(reads) for key, reads in small.items()})


def to_find(lab: Lab, needs: Needs, name: str, *, passphrase: bool) -> Counter[str]:
    """What may be read, and how often, before the snapshot is known.

    All of the owner's log says who may have written it. Who asks for the latest has all heads read, for the name of a
    backup is in its head and sealed, and the one that is chosen once more. One session a writer, of its newest
    snapshot that was met, tells whether the end of the log is missing.
    """
    expected = Counter([CONFIG, *lab.keys(GRANTS), *(lab.keys(SLOTS) if passphrase else ())])
    expected.update([*lab.keys(lab.at.notices), *lab.keys(lab.at.deletions)])
    expected[lab.at.snapshot_key(needs.entry.id)] += 1
    met = [needs.entry]
    if name.startswith("latest"):
        expected.update(lab.keys(lab.at.snapshots))
        met = list_snapshots(lab.repository)
    newest = max(met, key=lambda entry: entry.head.sequence)
    expected[lab.at.session_key(newest.session)] += 1
    return expected


def test_the_repository_holds_much_that_no_snapshot_needs_alone(nightly: tuple[Lab, list[bytes]]) -> None:
    """Otherwise the tests below would show nothing."""
    lab, made = nightly
    needs = Needs(lab, made[MIDDLE])
    assert len(needs.entry.head.bases) == MIDDLE
    assert len(needs.parts) < len(lab.keys(lab.at.parts)) / 2
    assert len(needs.packs) < len(lab.keys(lab.at.packs)) / 2
    # Two packs are of another backup: of its rows, and of those among them that had changed by then; and in one there
    # is a gap between segments that are needed.
    others = {pack for one in list_snapshots(lab.repository) if one.head.backup == "wiki" for pack in packs(lab, one)}
    assert len(needs.packs.keys() & others) == 2
    assert any(gaps(needs.places(key)) for key in needs.packs)


def packs(lab: Lab, entry: SnapshotEntry) -> set[str]:
    return set(Needs(lab, entry.id).packs)


def gaps(places: dict[int, tuple[int, SegmentId]]) -> int:
    return sum(end not in places for end, _ in places.values()) - 1


@pytest.mark.parametrize("verify_first", [False, True])
@pytest.mark.parametrize("passphrase", [False, True])
@pytest.mark.parametrize("name", ["by its id", "latest:shop"])
def test_a_restore_on_a_fresh_host_reads_each_byte_that_its_snapshot_needs_once(
    nightly: tuple[Lab, list[bytes]], name: str, passphrase: bool, verify_first: bool
) -> None:
    lab, made = nightly
    snapshot = made[MIDDLE if name == "by its id" else -1]
    name = snapshot.hex() if name == "by its id" else name
    needs = Needs(lab, snapshot)
    sink = CountingSink(lab)
    target = BytesSource({})
    repository = lab.open(PASSPHRASE if passphrase else None, sink)
    lab.restore(name, into=target, by=repository, verify_first=verify_first)

    expected = to_find(lab, needs, name, passphrase=passphrase)
    expected.update([*needs.parts, *needs.sessions])
    assert each_whole(sink, lab) == expected
    # The end of each pack once, and each segment once a pass, with nothing between them.
    passes = 2 if verify_first else 1
    assert {key for key in sink.read if key.startswith(lab.at.packs)} == needs.packs.keys()
    segments: Counter[SegmentId] = Counter()
    for key in needs.packs:
        end, *reads = sink.read[key]
        assert end == needs.end(key)
        segments.update(segments_in(needs, key, reads))
    assert segments == Counter(dict.fromkeys(set().union(*needs.segments), passes))
    # The same as a number of bytes.
    assert sink.bytes_of(list(sink.read)) == (
        sum(count * lab.sink.stat(key).size for key, count in expected.items())
        + sum(stop - start for start, stop in map(needs.end, needs.packs))
        + passes * sum(end - start for key in needs.packs for start, (end, _) in needs.places(key).items())
    )


@pytest.mark.parametrize("verify_first", [False, True])
@pytest.mark.parametrize("names", [None, ["small 1"], ["large", "small 3"]])
def test_a_restore_of_some_streams_reads_nothing_that_only_others_need(
    nightly: tuple[Lab, list[bytes]], names: list[str] | None, verify_first: bool
) -> None:
    lab, _ = nightly
    snapshot = lab.find("latest:crm").id
    needs = Needs(lab, snapshot, names)
    sink = CountingSink(lab)
    lab.restore(snapshot.hex(), by=lab.open(sink=sink), streams=names, verify_first=verify_first)

    expected = to_find(lab, needs, snapshot.hex(), passphrase=False)
    # All sessions, whatever is chosen: a lost one has to be noticed before the target is touched.
    expected.update([*needs.parts, *needs.sessions])
    assert each_whole(sink, lab) == expected
    assert {key for key in sink.read if key.startswith(lab.at.packs)} == needs.packs.keys()
    # A segment that several of them need: once a pass, for all of them fit into the memory given.
    shared = Counter(segment for one in needs.segments for segment in one)
    assert (max(shared.values()) > 1) == (len(needs.records) > 1)
    passes = 2 if verify_first else 1
    segments: Counter[SegmentId] = Counter()
    for key in needs.packs:
        end, *reads = sink.read[key]
        assert end == needs.end(key)
        segments.update(segments_in(needs, key, reads))
    assert segments == Counter(dict.fromkeys(shared, passes))


@pytest.mark.parametrize("verify_first", [False, True])
def test_a_segment_that_many_small_streams_share_is_read_once(tmp_path: Path, verify_first: bool) -> None:
    lab = Lab(tmp_path)
    streams = {f"small {number:02}": noise(8 * KIB, number) for number in range(60)}
    snapshot = lab.backup(streams).snapshot
    needs = Needs(lab, snapshot)
    assert len(set(map(frozenset, needs.segments))) == 1, "they do not share all segments"
    ((segment,), *_) = needs.segments
    (key,) = needs.packs
    sink = CountingSink(lab)
    target = BytesSource({})
    lab.restore(snapshot.hex(), into=target, by=lab.open(sink=sink), verify_first=verify_first)
    assert target.restored == streams
    end, *reads = sink.read[key]
    assert end == needs.end(key)
    assert list(segments_in(needs, key, reads)) == [segment] * (2 if verify_first else 1)
