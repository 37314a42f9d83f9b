"""Segments that are not where they were written: compaction copied them, and the pinned places say what they are."""

from dataclasses import replace

import pytest
from core.tests.repository.forging import (
    NOW,
    Hand,
    Planted,
    carried_of,
    compacted,
    encode_pack,
    end_of,
    keys,
    put_index,
    put_notice,
    resealed,
)
from core.tests.repository.hanging_sink import HangingSink, stop_when_it_hangs
from core.tests.repository.lab import MIB, BytesSource, Lab, noise

from penstock.api import (
    DamagedObject,
    Interrupted,
    MissingObject,
    SinkDenied,
    SinkError,
    SinkUnreachable,
)
from penstock.engine import verify
from penstock.format.encoding import new_id
from penstock.format.index import PackSummary
from penstock.format.notice import Action, Deletion, Things
from penstock.format.pack import TRAILER_BYTES, SegmentId
from penstock.repository.layout import id_of
from penstock.repository.read.content import each_row
from penstock.repository.read.reader import SnapshotReader
from penstock.repository.temporary import PackSegments
from penstock.testing import Fail, FaultySink, MemorySink
from penstock.testing.faults import Method

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow

A, B = noise(5 * MIB, 1), noise(3 * MIB, 2)


@pytest.fixture
def pack(lab: Lab) -> str:
    """The only pack of a snapshot whose stream `d` is A: three segments."""
    lab.backup({"d": A})
    (key,) = keys(lab, "packs")
    assert len(segments_of(lab, key)) == 3
    return key


def segments_of(lab: Lab, key: str) -> list[SegmentId]:
    return [place.id for place in end_of(lab.domain, key).places.places]


def put(lab: Lab, made: Planted, *, index: bool = True) -> str:
    """Put a pack, and an index object that leads to it."""
    key = lab.at.pack_key(made.pack)
    lab.sink.put(key, made.data)
    if index:
        put_index(lab.domain, [made.summary], lab.owner)
    return key


def compact(lab: Lab, *packs: str, without: tuple[SegmentId, ...] = (), index: bool = True) -> str:
    """Put a pack with copies of the segments of others, which stay; its key."""
    return put(lab, compacted(lab.domain, packs, lab.owner, without=without), index=index)


def flip_segment(lab: Lab, key: str, segment: SegmentId) -> None:
    """Damage a segment in a pack."""
    (place,) = (place for place in end_of(lab.domain, key).places.places if place.id == segment)
    lab.flip(key, place.offset + place.sealed_length // 2)


def refused(lab: Lab, key: str, problem: str, streams: list[str] | None = None) -> None:
    """A restore ends with what was wrong with this object first, and has not touched the target."""
    target = BytesSource({})
    with pytest.raises((DamagedObject, MissingObject)) as raised:
        lab.restore(into=target, streams=streams)
    assert (raised.value.key, raised.value.reason) == (key, problem)
    assert target.touched == []


def restored(lab: Lab, *streams: str) -> dict[str, bytes]:
    target = BytesSource({})
    lab.restore(into=target, streams=streams)
    return target.restored


INDEXED = pytest.mark.parametrize("index", [True, False], ids=["with an index", "without an index"])


# where copies are read


@INDEXED
def test_a_pack_that_is_gone_is_read_from_its_copy(lab: Lab, pack: str, index: bool) -> None:
    copy = compact(lab, pack, index=index)
    lab.sink.delete(pack)
    assert lab.restored() == {"d": A}
    lab.sink.delete(copy)
    refused(lab, pack, "the pack is gone")


@INDEXED
@pytest.mark.parametrize("at", [-1, -TRAILER_BYTES - 20], ids=["end mark", "places"])
def test_a_pack_with_a_damaged_end_is_read_from_its_copy(lab: Lab, pack: str, index: bool, at: int) -> None:
    compact(lab, pack, index=index)
    lab.flip(pack, at)
    assert lab.restored() == {"d": A}


@INDEXED
def test_a_pack_with_other_places_than_are_pinned_is_read_from_its_copy(lab: Lab, pack: str, index: bool) -> None:
    compact(lab, pack, index=index)
    lab.sink.put(pack, resealed(lab.domain, pack, lab.owner))
    assert lab.restored() == {"d": A}


@INDEXED
def test_only_the_segment_that_is_damaged_is_read_from_its_copy(lab: Lab, pack: str, index: bool) -> None:
    copy = compact(lab, pack, index=index)
    for segment in segments_of(lab, copy)[:2]:
        flip_segment(lab, copy, segment)
    flip_segment(lab, pack, segments_of(lab, pack)[2])
    assert lab.restored() == {"d": A}


@INDEXED
def test_a_pack_whose_mark_is_damaged_is_read_from_its_copy(lab: Lab, pack: str, index: bool) -> None:
    compact(lab, pack, index=index)
    lab.flip(pack, 0)
    assert lab.restored() == {"d": A}


@INDEXED
def test_a_pack_that_was_copied_in_two_halves_is_read_from_both(lab: Lab, pack: str, index: bool) -> None:
    one, other, third = segments_of(lab, pack)
    halves = [compact(lab, pack, without=without, index=index) for without in ((one, third), (other,))]
    lab.sink.delete(pack)
    assert lab.restored() == {"d": A}
    for half in halves:
        kept = lab.sink.get(half)
        lab.sink.delete(half)
        refused(lab, pack, "the pack is gone")
        lab.sink.put(half, kept)


def test_one_half_that_the_index_knows_and_one_that_it_does_not_know_make_a_whole(lab: Lab, pack: str) -> None:
    one, other, third = segments_of(lab, pack)
    compact(lab, pack, without=(one,))
    compact(lab, pack, without=(other, third), index=False)
    lab.sink.delete(pack)
    assert lab.restored() == {"d": A}


@INDEXED
def test_another_copy_is_read_where_one_is_damaged(lab: Lab, pack: str, index: bool) -> None:
    copies = [compact(lab, pack, index=index) for _ in range(3)]
    lab.sink.delete(pack)
    for number, (copy, segment) in enumerate(zip(copies, segments_of(lab, copies[0]), strict=True)):
        if number:
            flip_segment(lab, copy, segment)
    lab.flip(copies[0], -TRAILER_BYTES - 20)
    assert lab.restored() == {"d": A}


@INDEXED
def test_a_copy_of_a_copy_is_read(lab: Lab, index: bool) -> None:
    lab.backup({"d": A})
    lab.backup({"d": A + B})
    packs = keys(lab, "packs")
    assert len(packs) == 2
    first = compact(lab, *packs, index=index)
    compact(lab, first, index=index)
    for key in (*packs, first):
        lab.sink.delete(key)
    assert lab.restored() == {"d": A + B}


def test_a_pack_that_goes_while_it_is_being_read_is_read_from_its_copy(lab: Lab, pack: str) -> None:
    with SnapshotReader(lab.find("latest"), 64 * MIB) as reader:
        (record,) = reader.manifest.streams
        reader.require([record])
        assert b"".join(map(bytes, reader.blocks(record))) == A
        compact(lab, pack)
        lab.sink.delete(pack)
        assert b"".join(map(bytes, reader.blocks(record))) == A


def test_a_stream_is_verified_from_copies(lab: Lab, pack: str) -> None:
    compact(lab, pack)
    lab.sink.delete(pack)
    report = verify([lab.find("latest")], memory=64 * MIB, listener=lab.events.append)
    assert (report.problems, report.snapshots[0].read) == (0, len(A))


# what is not believed


@INDEXED
@pytest.mark.parametrize("gone", [True, False])
def test_where_the_copy_is_damaged_too_the_pack_itself_is_named(lab: Lab, pack: str, index: bool, gone: bool) -> None:
    copy = compact(lab, pack, index=index)
    segment = segments_of(lab, pack)[1]
    flip_segment(lab, copy, segment)
    if gone:
        lab.sink.delete(pack)
        refused(lab, pack, "the pack is gone")
    else:
        flip_segment(lab, pack, segment)
        refused(lab, pack, f"segment {segment.ordinal}: not the bytes that the snapshot pins")


@INDEXED
@pytest.mark.parametrize("lie", ["other places", "none", "damaged", "of another pack"])
def test_carried_places_without_the_pin_are_not_believed(lab: Lab, pack: str, index: bool, lie: str) -> None:
    made = compacted(lab.domain, [pack], lab.owner)
    origin = id_of(pack)
    true = made.carried[origin]
    if lie == "other places":
        # The same figures, sealed once more under the same key.
        carried = {origin: carried_of(resealed(lab.domain, pack, lab.owner))}
    elif lie == "none":
        carried = {}
    elif lie == "damaged":
        carried = {origin: replace(true, places=true.places[:-1] + bytes([true.places[-1] ^ 1]))}
    else:
        carried = {new_id(): true}
    put(lab, encode_pack(lab.domain, made.pack, made.segments, lab.owner, carried=carried), index=index)
    lab.sink.delete(pack)
    refused(lab, pack, "the pack is gone")
    assert lab.check(read_data=False).finding_count


def test_an_index_object_that_lies_misleads_nobody(lab: Lab, pack: str) -> None:
    """It names packs that are not there, or carry nothing, and says other figures than are true."""
    lab.backup({"e": B}, name="wiki")
    (other,) = set(keys(lab, "packs")) - {pack}
    origin = id_of(pack)
    made = compacted(lab.domain, [pack], lab.owner)
    put(lab, made, index=False)
    innocent = end_of(lab.domain, other)
    lies = [
        replace(made.summary.ends, pack=new_id()),
        replace(made.summary.ends, size=made.summary.ends.size - 1),
        replace(made.summary.ends, pack=new_id(), size=(1 << 63) - 1, places_length=1 << 62),
        replace(innocent.ends, origins=(origin,)),
        replace(innocent.ends, origins=(id_of(other), new_id())),
    ]
    put_index(lab.domain, [PackSummary(ends, 0, ()) for ends in lies], lab.owner)
    lab.sink.delete(pack)
    assert lab.restored("latest:shop") == {"d": A}
    lab.sink.delete(lab.at.pack_key(made.pack))
    with pytest.raises(MissingObject, match=pack):
        lab.restored("latest:shop")


def test_junk_among_packs_and_index_objects_is_passed_over(lab: Lab, pack: str) -> None:
    compact(lab, pack, index=False)
    lab.sink.delete(pack)
    for number, size in enumerate((0, 1, 100, 100_000)):
        for key in (lab.at.pack_key(new_id()), lab.at.packs + f"junk{number}", lab.at.packs + f"xy/{new_id().hex()}"):
            lab.sink.put(key, noise(size, number))
        lab.sink.put(lab.at.index_key(new_id()), noise(size, number))
        lab.sink.put(lab.at.index + f"junk{number}", noise(size, number))
    assert lab.restored() == {"d": A}


def test_what_a_stranger_signed_is_as_good_as_its_bytes(lab: Lab, pack: str) -> None:
    """The pin decides, not the signature."""
    stranger = replace(Hand.of(lab.owner), key=new_id())
    put(lab, compacted(lab.domain, [pack], stranger), index=False)
    lab.sink.delete(pack)
    assert lab.restored() == {"d": A}


# what the sink refuses


@INDEXED
@pytest.mark.parametrize("what", ["the pack", "its segments"])
def test_what_the_sink_cannot_read_is_read_from_a_copy(lab: Lab, pack: str, index: bool, what: str) -> None:
    assert isinstance(lab.sink, MemorySink)
    compact(lab, pack, index=index)
    fault = Fail("get", nth=1 if what == "the pack" else 2, times=None, prefix=pack, error=SinkError)
    target = BytesSource({})
    lab.restore(into=target, by=lab.open(sink=FaultySink(lab.sink, fault)))
    assert target.restored == {"d": A}


@pytest.mark.parametrize("method", ["get", "list"])
@pytest.mark.parametrize("error", [SinkDenied, SinkUnreachable])
def test_an_index_that_cannot_be_read_is_not_needed(
    lab: Lab, pack: str, method: Method, error: type[SinkError]
) -> None:
    assert isinstance(lab.sink, MemorySink)
    compact(lab, pack)
    lab.sink.delete(pack)
    fault = Fail(method, times=None, prefix=lab.at.index, error=error)
    target = BytesSource({})
    lab.restore(into=target, by=lab.open(sink=FaultySink(lab.sink, fault)))
    assert target.restored == {"d": A}


def test_where_packs_must_not_be_listed_the_missing_pack_is_named(lab: Lab, pack: str) -> None:
    assert isinstance(lab.sink, MemorySink)
    lab.sink.delete(pack)
    fault = Fail("list", times=None, prefix=lab.at.packs, error=SinkDenied)
    with pytest.raises(MissingObject, match=pack):
        lab.restore(by=lab.open(sink=FaultySink(lab.sink, fault)))


def test_a_search_that_a_retry_may_complete_is_not_taken_for_a_loss(lab: Lab, pack: str) -> None:
    assert isinstance(lab.sink, MemorySink)
    copy = compact(lab, pack, index=False)
    lab.sink.delete(pack)
    for fault in (Fail("list", prefix=lab.at.packs), Fail("get", prefix=copy), Fail("get", nth=2, prefix=copy)):
        repository = lab.open(sink=FaultySink(lab.sink, fault))
        with pytest.raises(SinkUnreachable):
            lab.restore(by=repository)
        target = BytesSource({})
        lab.restore(into=target, by=repository)
        assert target.restored == {"d": A}


# some streams only


def test_a_stream_that_does_not_need_the_lost_pack_needs_no_copy(lab: Lab) -> None:
    lab.backup({"a": A, "b": b""})
    (first,) = keys(lab, "packs")
    lab.backup({"a": A, "b": B})
    (second,) = set(keys(lab, "packs")) - {first}
    lab.sink.delete(second)
    assert restored(lab, "a") == {"a": A}
    refused(lab, second, "the pack is gone", ["b"])
    refused(lab, second, "the pack is gone")


@INDEXED
def test_a_stream_whose_segments_of_the_lost_pack_are_in_copies_is_restored(lab: Lab, index: bool) -> None:
    lab.backup({"a": noise(2 * MIB, 3), "b": noise(2 * MIB, 4)})
    (pack,) = keys(lab, "packs")
    needed = needed_by(lab, "a")
    assert needed
    assert needed_by(lab, "b") - needed, "the streams share all of their segments"
    others = tuple(segment for segment in segments_of(lab, pack) if segment not in needed)
    compact(lab, pack, without=others, index=index)
    lab.sink.delete(pack)
    assert restored(lab, "a") == {"a": noise(2 * MIB, 3)}
    refused(lab, pack, "the pack is gone", ["b"])
    refused(lab, pack, "the pack is gone")
    with SnapshotReader(lab.find("latest"), 64 * MIB) as reader:
        reader.require([reader.stream("a")])
        for records in ([reader.stream("b")], reader.manifest.streams):
            with pytest.raises(MissingObject, match=pack):
                reader.require(records)


def needed_by(lab: Lab, stream: str) -> set[SegmentId]:
    with SnapshotReader(lab.find("latest"), 64 * MIB) as reader:
        content = reader._content
        return {content.table.find(one.segment or 0) for one in content.extents(reader.stream(stream))}


@INDEXED
@pytest.mark.parametrize("harm", ["gone", "damaged"])
def test_a_lost_session_that_no_copy_needs_is_no_obstacle(lab: Lab, index: bool, harm: str) -> None:
    lab.backup({"a": A, "b": b""})
    (first,) = keys(lab, "packs")
    lost = lab.find("latest").session
    lab.backup({"a": A, "b": B})
    (second,) = set(keys(lab, "packs")) - {first}
    compact(lab, second, index=index)
    if harm == "gone":
        lab.sink.delete(second)
    else:
        lab.flip(second, -TRAILER_BYTES - 20)
    with SnapshotReader(lab.find("latest"), 64 * MIB) as reader:
        for record in (reader.stream("a"), reader.stream("b")):
            reader.require([record])
        lab.sink.delete(lab.at.session_key(lost))
    with SnapshotReader(lab.find("latest"), 64 * MIB) as reader:
        with pytest.raises(MissingObject, match=lab.at.session_key(lost)):
            reader.require([reader.stream("a")])
        reader.require([reader.stream("b")])


def test_all_packs_that_are_gone_without_copies_are_named(lab: Lab) -> None:
    for night in range(4):
        lab.backup({"d": b"".join(noise(MIB, number) for number in range(night + 1))})
    packs = keys(lab, "packs")
    assert len(packs) == 4
    compact(lab, packs[1], index=False)
    for key in packs:
        lab.sink.delete(key)
    with pytest.raises(MissingObject) as raised:
        lab.restore()
    assert [raised.value.key, *raised.value.details] == [packs[0], *(f"{key}: the pack is gone" for key in packs[2:])]


# what it costs


def test_nobody_looks_for_copies_while_nothing_is_missing(lab: Lab, pack: str) -> None:
    assert isinstance(lab.sink, MemorySink)
    compact(lab, pack)
    sink = FaultySink(lab.sink)
    lab.restore(by=lab.open(sink=sink))
    assert not [key for method, key in sink.calls if key.startswith(lab.at.index) or (method, key) == ("list", "")]
    assert {key for method, key in sink.calls if method == "get" and key.startswith(lab.at.packs)} == {pack}


@INDEXED
def test_the_places_of_a_copy_are_read_once_for_all_segments(lab: Lab, pack: str, index: bool) -> None:
    assert isinstance(lab.sink, MemorySink)
    copy = compact(lab, pack, index=index)
    lab.sink.delete(pack)
    # The first that is asked.
    lie = bytes(16)
    ends = replace(end_of(lab.domain, copy).ends, pack=lie)
    put_index(lab.domain, [PackSummary(ends, 0, ())], lab.owner)
    sink = FaultySink(lab.sink)
    with SnapshotReader(lab.find("latest", by=lab.open(sink=sink)), 64 * MIB) as reader:
        (record,) = reader.manifest.streams
        reader.require([record])
        before = len(sink.calls)
        for _ in range(2):
            assert b"".join(map(bytes, reader.blocks(record))) == A
    read = [key for method, key in sink.calls[before:] if method == "get" and key.startswith(lab.at.packs)]
    assert set(read) == {copy}
    assert sink.calls.count(("get", lab.at.pack_key(lie))) == 1
    assert sink.calls.count(("list", lab.at.index)) == 1
    assert sink.calls.count(("list", lab.at.packs)) == (0 if index else 1)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("call", ["get index/", "list index/", "list packs/", "get packs/"])
def test_a_stop_ends_the_search_though_the_sink_never_answers(lab: Lab, call: str) -> None:
    sink = HangingSink()
    lab = Lab(lab.cache, sink)
    lab.backup({"d": A})
    (pack,) = keys(lab, "packs")
    compact(lab, pack, index=call == "get index/")
    lab.sink.delete(pack)
    repository = lab.open()
    sink.call = call
    stop_when_it_hangs(sink)
    try:
        with pytest.raises(Interrupted):
            lab.restore(by=repository)
        assert sink.hangs.is_set()
    finally:
        sink.let_go.set()


# what check says of it


def findings(lab: Lab, *, read_data: bool) -> dict[str, str]:
    return {finding.key: finding.problem for finding in lab.check(read_data=read_data).findings}


READ = pytest.mark.parametrize("read_data", [True, False])


@READ
def test_check_finds_nothing_wrong_with_a_pack_that_compaction_replaced(lab: Lab, pack: str, read_data: bool) -> None:
    compact(lab, pack)
    lab.sink.delete(pack)
    put_notice(lab.domain, Deletion(NOW, Action.DELETE, {}, Things(packs=(id_of(pack),))))
    assert findings(lab, read_data=read_data) == {}


@READ
def test_check_names_a_pack_that_is_gone_for_no_reason_and_says_that_nothing_is_lost(
    lab: Lab, pack: str, read_data: bool
) -> None:
    one, other, third = segments_of(lab, pack)
    compact(lab, pack, without=(one,))
    half = compact(lab, pack, without=(other, third))
    lab.sink.delete(pack)
    problem = "gone, but copies of all that is needed of it are in other packs"
    assert findings(lab, read_data=read_data) == {pack: problem}
    lab.sink.delete(half)
    found = findings(lab, read_data=read_data)
    assert found[pack].startswith("gone or damaged: snapshot")


@READ
def test_check_says_what_is_lost_to_another_snapshot(lab: Lab, read_data: bool) -> None:
    """Copies have all that one snapshot needs, and not all that the other does."""
    lab.backup({"d": A})
    (pack,) = keys(lab, "packs")
    used = {ordinal for row in each_row(lab.find("latest")) for ordinal in row.used}
    lab.backup({"d": A[: 3 * MIB]})
    less = {ordinal for row in each_row(lab.find("latest")) for ordinal in row.used if row.pack == id_of(pack)}
    assert less < used
    without = tuple(SegmentId(id_of(pack), ordinal) for ordinal in used - less)
    compact(lab, pack, without=without)
    lab.sink.delete(pack)
    found = findings(lab, read_data=read_data)
    assert found[pack].startswith("gone or damaged: snapshot")
    assert lab.restored() == {"d": A[: 3 * MIB]}


@READ
def test_check_names_a_damaged_pack_though_its_segments_are_in_copies(lab: Lab, pack: str, read_data: bool) -> None:
    compact(lab, pack)
    lab.flip(pack, -TRAILER_BYTES - 20)
    report = lab.check(read_data=read_data)
    assert [finding.key for finding in report.findings] == [pack]
    assert report.distrusted == 1
    assert lab.restored() == {"d": A}


@READ
def test_check_names_a_pack_that_is_not_the_pinned_one_though_copies_are(lab: Lab, pack: str, read_data: bool) -> None:
    compact(lab, pack)
    lab.sink.put(pack, resealed(lab.domain, pack, lab.owner))
    (problem,) = findings(lab, read_data=read_data).values()
    assert problem.startswith("not the pack that snapshot")


@READ
def test_check_does_not_count_on_copies_that_are_not_what_is_pinned(lab: Lab, pack: str, read_data: bool) -> None:
    """The pack is sound by its own word, which is not that of the places that it carries."""
    made = compacted(lab.domain, [pack], lab.owner)
    first, *rest = made.segments
    longer = replace(first, sealed=noise(len(first.sealed) + 1))
    put(lab, encode_pack(lab.domain, made.pack, [longer, *rest], lab.owner, carried=made.carried))
    lab.sink.delete(pack)
    assert findings(lab, read_data=False)[pack].startswith("gone or damaged: snapshot")
    refused(lab, pack, "the pack is gone")


# needed segments


def test_needed_segments_of_packs_add_up() -> None:
    found = PackSegments()
    packs = [number.to_bytes(16, "big") for number in range(1500)]
    found.add((pack, 1 << 7) for pack in reversed(packs))
    found.add([(packs[3], 1), (packs[3], 1 << 4095), (packs[3], 1)])
    assert list(found) == [(pack, 1 << 7 | (1 | 1 << 4095 if pack == packs[3] else 0)) for pack in packs]
    found.close()


# what a writer makes of copies


@INDEXED
@pytest.mark.parametrize("gone", [False, True], ids=["the old pack is there", "the old pack is gone"])
@pytest.mark.parametrize("fresh", [False, True], ids=["the same host", "a host without a cache"])
def test_a_backup_beside_copies_is_restored(lab: Lab, pack: str, index: bool, gone: bool, fresh: bool) -> None:
    indexes = keys(lab, "index")
    compact(lab, pack, index=index)
    if gone:
        for key in (pack, *indexes):
            lab.sink.delete(key)
    changed = A + B[:1000]
    lab.backup({"d": changed}, cache=lab.cache / "fresh" if fresh else None)
    assert lab.restored() == {"d": changed}
    again = A[:-1000] + B[:1000]
    lab.backup({"d": again})
    assert lab.restored() == {"d": again}
