"""Directories, index objects and snapshots round-trip, and any change is refused."""

import contextlib
import struct
from array import array
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from core.tests.format import independent_reader
from core.tests.format.damage import EFFORT, damaged, every_damage, with_one_value_replaced
from core.tests.format.examples import CATALOGUE, DIRECTORY, MANIFEST, REPOSITORY, SNAPSHOT, SUMMARY
from core.tests.format.test_encoding import OBJECTS, TEXTS
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.soak import examples

from penstock.format.codec import RAW, decompress
from penstock.format.encoding import Malformed, decode_record, encode_json, encode_record, encode_varints
from penstock.format.index import open_index, seal_index, summarize
from penstock.format.keys import SigningKey
from penstock.format.pack import (
    MAX_SEGMENT,
    Directory,
    SegmentId,
    SegmentPlace,
    decode_trailer,
    encode_trailer,
    open_directory,
    open_segment,
    seal_directory,
    seal_segment,
)
from penstock.format.sealing import OVERHEAD, Sealer, binding
from penstock.format.snapshot import (
    Catalogue,
    Manifest,
    SealedSnapshot,
    StreamRecord,
    decode_snapshot,
    encode_snapshot,
)

KEY = bytes(range(32))
SEALER = Sealer(KEY)
DATA_SEALER = Sealer(bytes(32))
SIGNER = SigningKey(b"\2" * 32)
SESSION, WRITER = bytes([3]) * 16, bytes([5]) * 16

IDS = st.binary(min_size=16, max_size=16)
SIZES = st.integers(0, 2**63 - 1)


@st.composite
def directories(draw: st.DrawFn) -> Directory:
    pack = draw(IDS)
    packs, sessions = [pack, *draw(st.lists(IDS, max_size=3))], draw(st.lists(IDS, min_size=1, max_size=3))
    places, lengths, offset = [], array("H"), 8
    for _ in range(draw(st.integers(0, 6))):
        identity = SegmentId(draw(st.sampled_from(packs)), draw(st.integers(0, 2**32 - 1)))
        own = draw(st.lists(st.integers(1, 65535), max_size=20))
        sealed = draw(st.integers(29, 2**40))
        places.append(SegmentPlace(identity, draw(st.sampled_from(sessions)), offset, sealed, sum(own), len(own)))
        lengths.extend(own)
        offset += sealed
    size = 16 * len(lengths)
    ids = draw(st.binary(min_size=size, max_size=size))
    return Directory(pack, draw(st.binary(min_size=32, max_size=32)), tuple(places), lengths, ids)


@EFFORT
@given(directories(), IDS)
def test_directories_round_trip(directory: Directory, repository: bytes) -> None:
    sealed = seal_directory(directory, SEALER, repository)

    assert open_directory(sealed, SEALER, repository, directory.pack) == directory
    with pytest.raises(Malformed):
        open_directory(sealed, SEALER, repository, bytes(15) + b"\1")


@EFFORT
@given(st.lists(directories(), max_size=4), IDS, st.integers(0, 2**50))
def test_index_objects_round_trip(found: list[Directory], index: bytes, offset: int) -> None:
    packs = [summarize(directory, offset + 9 + 8, offset, 9) for directory in found]

    assert open_index(seal_index(index, packs, SEALER, REPOSITORY), SEALER, REPOSITORY, index) == packs


STREAMS = st.builds(
    StreamRecord,
    name=TEXTS,
    format=TEXTS,
    phase=st.integers(0, 9),
    optional=st.booleans(),
    attributes=st.dictionaries(TEXTS, TEXTS, max_size=3),
    size=SIZES,
    digest=st.binary(min_size=32, max_size=32),
    recipe=st.binary(max_size=50),
)
MANIFESTS = st.builds(Manifest, TEXTS, OBJECTS, st.lists(STREAMS, max_size=4).map(tuple))
SEGMENTS = st.lists(
    st.builds(SegmentId, st.sampled_from([b"a" * 16, b"b" * 16]), st.integers(0, 2**32 - 1)), max_size=30
)
CATALOGUES = st.builds(
    Catalogue,
    snapshot=IDS,
    backup=TEXTS,
    source=TEXTS,
    started=TEXTS,
    finished=TEXTS,
    host=TEXTS,
    program=TEXTS,
    parent=st.none() | IDS,
    size=SIZES,
    streams=SIZES,
    stored=SIZES,
    index=st.lists(IDS, max_size=3).map(tuple),
    sessions=st.lists(IDS, max_size=3).map(tuple),
    segments=SEGMENTS.map(tuple),
)


def encode(catalogue: Catalogue, manifest: Manifest) -> bytes:
    return encode_snapshot(
        catalogue,
        manifest,
        repository=REPOSITORY,
        session=SESSION,
        writer=WRITER,
        index_sealer=SEALER,
        data_sealer=DATA_SEALER,
        signer=SIGNER,
    )


@EFFORT
@given(CATALOGUES, MANIFESTS)
def test_snapshots_round_trip(catalogue: Catalogue, manifest: Manifest) -> None:
    sealed = decode_snapshot(catalogue.snapshot, encode(catalogue, manifest))

    sealed.verify(REPOSITORY, SIGNER.public)
    assert (sealed.session, sealed.writer) == (SESSION, WRITER)
    assert sealed.open_catalogue(SEALER, REPOSITORY) == catalogue
    assert sealed.open_manifest(DATA_SEALER, REPOSITORY) == manifest


@EFFORT
@given(SEGMENTS)
def test_segment_tables_round_trip_as_specified(segments: list[SegmentId]) -> None:
    sealed = decode_snapshot(SNAPSHOT, encode(replace(CATALOGUE, segments=tuple(segments)), MANIFEST))
    plain = decompress(SEALER.open(sealed.catalogue, binding("catalogue", REPOSITORY, SNAPSHOT)), 1 << 20)

    assert list(independent_reader.segment_table(bytes(decode_record(plain)[1]))) == segments


@EFFORT
@given(st.binary(max_size=200) | st.binary(max_size=5).map(lambda part: part * 300), st.integers(0, 2**32 - 1))
def test_segments_round_trip(data: bytes, ordinal: int) -> None:
    segment = SegmentId(b"p" * 16, ordinal)

    assert open_segment(seal_segment(data, 3, SEALER, REPOSITORY, segment), SEALER, REPOSITORY, segment) == data


def test_a_segment_above_the_limit_is_refused() -> None:
    segment = SegmentId(b"p" * 16, 0)

    largest = seal_segment(bytes(MAX_SEGMENT), 1, SEALER, REPOSITORY, segment)
    assert len(open_segment(largest, SEALER, REPOSITORY, segment)) == MAX_SEGMENT
    larger = seal_segment(bytes(MAX_SEGMENT + 1), 1, SEALER, REPOSITORY, segment)
    with pytest.raises(Malformed):
        open_segment(larger, SEALER, REPOSITORY, segment)


@EFFORT
@given(st.integers(1, 2**32 - 1), st.integers(0, 100))
def test_trailers_round_trip(length: int, more: int) -> None:
    assert decode_trailer(encode_trailer(length), 16 + length + more) == length
    with pytest.raises(Malformed):
        decode_trailer(encode_trailer(length), 15 + length)


@EFFORT
@given(st.binary(max_size=10) | st.binary(max_size=5).map(lambda part: part + b"PEND"), st.integers(0, 2**33))
def test_any_bytes_as_a_trailer_are_refused_or_plausible(data: bytes, size: int) -> None:
    with contextlib.suppress(Malformed):
        assert 0 < decode_trailer(data, size) <= size - 16


# --- Sealed: the slightest change, and any other place


def read_whole(data: bytes) -> SealedSnapshot:
    """Open a snapshot like a reader, in the same order."""
    sealed = decode_snapshot(SNAPSHOT, data)
    sealed.verify(REPOSITORY, SIGNER.public)
    sealed.open_catalogue(SEALER, REPOSITORY)
    sealed.open_manifest(DATA_SEALER, REPOSITORY)
    return sealed


SEGMENT = SegmentId(DIRECTORY.pack, 7)
SEALED: dict[str, tuple[bytes, Callable[[bytes], Any]]] = {
    "directory": (
        seal_directory(DIRECTORY, SEALER, REPOSITORY),
        lambda data: open_directory(data, SEALER, REPOSITORY, DIRECTORY.pack),
    ),
    "index": (
        seal_index(SNAPSHOT, [SUMMARY], SEALER, REPOSITORY),
        lambda data: open_index(data, SEALER, REPOSITORY, SNAPSHOT),
    ),
    "segment": (
        seal_segment(b"plain bytes " * 20, 3, SEALER, REPOSITORY, SEGMENT),
        lambda data: open_segment(data, SEALER, REPOSITORY, SEGMENT),
    ),
    "snapshot": (encode(CATALOGUE, MANIFEST), read_whole),
}


@pytest.mark.parametrize(("sealed", "read"), SEALED.values(), ids=SEALED)
def test_the_slightest_change_of_a_sealed_object_is_refused(sealed: bytes, read: Callable[[bytes], Any]) -> None:
    read(sealed)
    for other in every_damage(sealed):
        with pytest.raises(Malformed):
            read(other)


@pytest.mark.parametrize(("sealed", "read"), SEALED.values(), ids=SEALED)
@settings(EFFORT, max_examples=examples(100))
@given(data=st.data())
def test_any_damage_to_a_sealed_object_is_refused(
    sealed: bytes, read: Callable[[bytes], Any], data: st.DataObject
) -> None:
    with pytest.raises(Malformed):
        read(data.draw(damaged(sealed) | st.binary(max_size=100)))


PLACES: dict[str, Callable[[], Any]] = {
    "another repository": lambda: open_segment(SEALED["segment"][0], SEALER, SNAPSHOT, SEGMENT),
    "another pack": lambda: open_segment(SEALED["segment"][0], SEALER, REPOSITORY, SegmentId(SNAPSHOT, 7)),
    "another ordinal": lambda: open_segment(SEALED["segment"][0], SEALER, REPOSITORY, SegmentId(DIRECTORY.pack, 8)),
    "another key": lambda: open_segment(SEALED["segment"][0], DATA_SEALER, REPOSITORY, SEGMENT),
    "a directory as an index": lambda: open_index(SEALED["directory"][0], SEALER, REPOSITORY, DIRECTORY.pack),
    "another index id": lambda: open_index(SEALED["index"][0], SEALER, REPOSITORY, DIRECTORY.pack),
    "a snapshot's signature under another name": lambda: decode_snapshot(REPOSITORY, SEALED["snapshot"][0]).verify(
        REPOSITORY, SIGNER.public
    ),
    "a snapshot's signature in another repository": lambda: decode_snapshot(SNAPSHOT, SEALED["snapshot"][0]).verify(
        SNAPSHOT, SIGNER.public
    ),
    "a snapshot's signature of another writer": lambda: decode_snapshot(SNAPSHOT, SEALED["snapshot"][0]).verify(
        REPOSITORY, SigningKey(b"\3" * 32).public
    ),
    "a snapshot's catalogue under another name": lambda: decode_snapshot(
        REPOSITORY, SEALED["snapshot"][0]
    ).open_catalogue(SEALER, REPOSITORY),
    "a snapshot's manifest under another name": lambda: decode_snapshot(
        REPOSITORY, SEALED["snapshot"][0]
    ).open_manifest(DATA_SEALER, REPOSITORY),
}


@pytest.mark.parametrize("misplaced", PLACES.values(), ids=PLACES)
def test_nothing_sealed_opens_in_another_place(misplaced: Callable[[], Any]) -> None:
    with pytest.raises(Malformed):
        misplaced()


def test_sealing_uses_a_fresh_nonce_and_adds_the_stated_overhead() -> None:
    one, other = SEALER.seal(b"x" * 50, b"place"), SEALER.seal(b"x" * 50, b"place")

    assert one[:12] != other[:12]
    assert len(one) == 50 + OVERHEAD
    assert KEY.hex() not in repr(SEALER)


# --- Opened: a holder of the keys may still write nonsense, which must not crash a reader


def opened(kind: str) -> tuple[dict[str, Any], bytes]:
    """Header and body of the example of that kind."""
    sealed = decode_snapshot(SNAPSHOT, SEALED["snapshot"][0])
    plain = {
        "directory": lambda: SEALER.open(SEALED["directory"][0], binding("directory", REPOSITORY, DIRECTORY.pack)),
        "index": lambda: SEALER.open(SEALED["index"][0], binding("index", REPOSITORY, SNAPSHOT)),
        "catalogue": lambda: SEALER.open(sealed.catalogue, binding("catalogue", REPOSITORY, SNAPSHOT)),
        "manifest": lambda: DATA_SEALER.open(sealed.manifest, binding("manifest", REPOSITORY, SNAPSHOT)),
    }[kind]()
    header, body = decode_record(decompress(plain, 1 << 20))
    return header, bytes(body)


def read_plain(kind: str, plain: bytes) -> Any:
    """Seal `plain` as an object of that kind, and open it."""
    payload = bytes((RAW,)) + plain
    if kind == "directory":
        sealed = SEALER.seal(payload, binding("directory", REPOSITORY, DIRECTORY.pack))
        return open_directory(sealed, SEALER, REPOSITORY, DIRECTORY.pack)
    if kind == "index":
        return open_index(SEALER.seal(payload, binding("index", REPOSITORY, SNAPSHOT)), SEALER, REPOSITORY, SNAPSHOT)
    sealer = SEALER if kind == "catalogue" else DATA_SEALER
    part = memoryview(sealer.seal(payload, binding(kind, REPOSITORY, SNAPSHOT)))
    snapshot = SealedSnapshot(SNAPSHOT, SESSION, WRITER, part, part, part, b"")
    return getattr(snapshot, f"open_{kind}")(sealer, REPOSITORY)


def plain_again(kind: str, value: Any) -> bytes:
    """The plaintext that today's code seals for `value`."""
    if kind == "directory":
        again = SEALER.open(seal_directory(value, SEALER, REPOSITORY), binding("directory", REPOSITORY, value.pack))
    elif kind == "index":
        again = SEALER.open(seal_index(SNAPSHOT, value, SEALER, REPOSITORY), binding("index", REPOSITORY, SNAPSHOT))
    else:
        catalogue = value if kind == "catalogue" else CATALOGUE
        snapshot = decode_snapshot(SNAPSHOT, encode(catalogue, value if kind == "manifest" else MANIFEST))
        sealer, part = (SEALER, snapshot.catalogue) if kind == "catalogue" else (DATA_SEALER, snapshot.manifest)
        again = sealer.open(part, binding(kind, REPOSITORY, SNAPSHOT))
    return decompress(again, 1 << 20)


KINDS = ["directory", "index", "catalogue", "manifest"]


@pytest.mark.parametrize("kind", KINDS)
def test_opened_objects_are_sealed_again_unchanged(kind: str) -> None:
    header, body = opened(kind)

    assert plain_again(kind, read_plain(kind, encode_record(header, [body]))) == encode_record(header, [body])


def spelled(header: dict[str, Any]) -> bytes:
    return encode_json({name: value for name, value in header.items() if value is not None})


@pytest.mark.parametrize("kind", KINDS)
@settings(EFFORT, max_examples=examples(120))
@given(data=st.data())
def test_a_wrong_value_in_a_header_is_refused_or_preserved(kind: str, data: st.DataObject) -> None:
    header, body = opened(kind)
    changed = data.draw(with_one_value_replaced(header))
    plain = encode_record(changed, [body])
    try:
        value = read_plain(kind, plain)
    except Malformed:
        return
    # Accepted unchanged: nothing was silently rounded or converted to a string. Missing entries are null.
    again = decode_record(plain_again(kind, value))[0]
    if kind == "directory":
        # Origins and sessions without segments need not round-trip.
        assert read_plain(kind, plain_again(kind, value)) == value
        assert all(type(figure) is int for row in again["segments"] for figure in row)
    else:
        assert spelled(again) == spelled(changed)


@pytest.mark.parametrize("kind", KINDS)
@settings(EFFORT, max_examples=examples(120))
@given(data=st.data())
def test_a_damaged_record_is_refused_or_can_be_sealed_again(kind: str, data: st.DataObject) -> None:
    header, body = opened(kind)
    plain = data.draw(
        st.one_of(
            st.binary(max_size=60),
            damaged(encode_record(header, [body])),
            damaged(body).map(lambda other: encode_record(header, [other])),
            OBJECTS.map(lambda other: encode_record(other, [body])),
        )
    )
    try:
        value = read_plain(kind, plain)
    except Malformed:
        return
    plain_again(kind, value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("plain", [b"", b"\0\0\0", b"\xff\xff\xff\xff", b"\2\0\0\0{}", b"\2\0\0\0[]"])
def test_an_empty_record_is_refused(kind: str, plain: bytes) -> None:
    with pytest.raises(Malformed):
        read_plain(kind, plain)


HUGE = 2**62


@pytest.mark.parametrize("column", range(1, 6))
def test_an_index_with_wrong_counts_is_refused(column: int) -> None:
    header, body = opened("index")
    header["packs"][0][column] = 2**64
    with pytest.raises(Malformed):
        read_plain("index", encode_record(header, [body]))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("count", [2, HUGE, 2**63 - 1])
def test_more_hooks_than_bytes_are_refused_at_once(count: int) -> None:
    header, body = opened("index")
    header["packs"][0][5] = count

    with pytest.raises(Malformed):
        read_plain("index", encode_record(header, [body]))


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("column", "value"), [(1, 2**32), (6, HUGE), (5, MAX_SEGMENT + 1), (5, HUGE), (4, HUGE), (0, 9)]
)
def test_a_directory_with_wrong_counts_is_refused(column: int, value: int) -> None:
    header, body = opened("directory")
    header["segments"][1][column] = value

    with pytest.raises(Malformed):
        read_plain("directory", encode_record(header, [body]))


def test_a_directory_above_the_limit_is_refused() -> None:
    with pytest.raises(Malformed):
        read_plain("directory", bytes(8 * 1024 * 1024 + 1))


@pytest.mark.parametrize(
    "table",
    [
        b"p" * 15,
        b"p" * 16,
        b"p" * 16 + b"\x80",
        b"p" * 16 + b"\x80" * 100,
        b"p" * 16 + b"\2\0",
        b"p" * 16 + b"\1\x80",
        b"p" * 16 + b"\1\1",
        b"p" * 16 + b"\x81\0\0",
        b"p" * 16 + encode_varints([HUGE]) + b"\0",
        b"p" * 16 + b"\5" + encode_varints([2**33]),
        b"p" * 16 + b"\0",
    ],
)
def test_a_damaged_segment_table_is_refused(table: bytes) -> None:
    header, _ = opened("catalogue")

    with pytest.raises(Malformed):
        read_plain("catalogue", encode_record(header, [table]))


@EFFORT
@given(st.binary(max_size=60))
def test_any_bytes_as_a_segment_table_are_refused_or_preserved(table: bytes) -> None:
    header, _ = opened("catalogue")
    try:
        value = read_plain("catalogue", encode_record(header, [table]))
    except Malformed:
        return
    assert all(segment.ordinal < 2**32 for segment in value.segments)


@pytest.mark.parametrize("parts", [(2**32 - 1, 0), (0, 2**32 - 1), (2**32 - 1, 2**32 - 1), (0, 0), (1, 1)])
def test_a_snapshot_whose_parts_do_not_add_up_is_refused(parts: tuple[int, int]) -> None:
    data = SEALED["snapshot"][0]

    with pytest.raises(Malformed):
        decode_snapshot(SNAPSHOT, data[:40] + struct.pack("<II", *parts) + data[48:])


@EFFORT
@given(st.binary(max_size=200), st.integers(0, 200), st.integers(0, 200))
def test_any_bytes_as_a_snapshot_are_refused(data: bytes, first: int, second: int) -> None:
    header = struct.pack("<8s16s16sII", b"PSSNAP\1\0", SESSION, WRITER, first, second)
    with pytest.raises(Malformed):
        read_whole(data)
    with pytest.raises(Malformed):
        read_whole(header + data)
    with pytest.raises(Malformed):
        read_whole(header + data[:first].ljust(first, b"x") + data[:second].ljust(second, b"y") + bytes(64))
