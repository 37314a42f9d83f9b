"""Packs: segments that keep their identity, two ends, and a pin that proves every byte of every segment."""

import contextlib
import struct
from array import array
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from blake3 import blake3
from core.tests.format import independent_reader
from core.tests.format.damage import EFFORT, damaged, every_damage, flipped, spelled
from core.tests.format.examples import (
    DATA,
    DOMAIN,
    IDS,
    LAYOUT,
    NAME,
    OTHER_PACK,
    PACK,
    PLACES,
    REPOSITORY,
    SCOPE,
    SESSION,
    SIGNER,
    WRITER,
    secret,
    small,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.soak import examples

from penstock.format.chunks import Chunks, open_chunks, seal_chunks
from penstock.format.codec import RAW, compress
from penstock.format.encoding import Malformed
from penstock.format.keys import SigningKey
from penstock.format.pack import (
    MAGIC,
    MAX_ENDS,
    MAX_SEGMENT,
    MAX_SEGMENTS,
    TRAILER_BYTES,
    Carried,
    Place,
    Places,
    SegmentId,
    Trailer,
    open_places,
    open_segment,
    pin_of,
    seal_places,
    seal_segment,
    sign_trailer,
    zeroes_for,
)
from penstock.format.padding import padded
from penstock.format.sealing import Sealer, message

PUBLIC = SIGNER.public
A_PACK = st.binary(min_size=16, max_size=16)
DIGESTS = st.binary(min_size=32, max_size=32)


CARRIED = st.builds(Carried, st.binary(max_size=40), A_PACK, DIGESTS, st.binary(min_size=64, max_size=64))


@st.composite
def packs(draw: st.DrawFn) -> tuple[Places, Chunks]:
    pack = draw(A_PACK)
    origins, sessions = [pack, *draw(st.lists(A_PACK, max_size=3))], draw(st.lists(A_PACK, min_size=1, max_size=3))
    places, counts, lengths, offset = [], [], array("H"), 8
    for _ in range(draw(st.integers(0, 6))):
        identity = SegmentId(draw(st.sampled_from(origins)), draw(st.integers(0, MAX_SEGMENTS - 1)))
        own = draw(st.lists(st.integers(1, 65535), max_size=20))
        sealed = draw(st.integers(29, 2**40))
        session = draw(st.sampled_from(sessions))
        places.append(Place(identity, session, offset, sealed, sum(own), draw(DIGESTS)))
        counts.append(len(own))
        lengths.extend(own)
        offset += sealed
    ids = draw(st.binary(min_size=12 * len(lengths), max_size=12 * len(lengths)))
    carried = draw(st.dictionaries(A_PACK, CARRIED, max_size=3))
    return Places(pack, tuple(places), carried), Chunks(tuple(counts), lengths, ids)


@pytest.mark.slow
@EFFORT
@given(packs(), A_PACK)
def test_places_and_ids_round_trip(pack: tuple[Places, Chunks], repository: bytes) -> None:
    places, chunks = pack
    scope = repository + DOMAIN
    sealed = seal_places(places, LAYOUT, scope)
    ids = seal_chunks(chunks, IDS, scope, places.pack, [place.id for place in places.places])

    assert open_places(sealed, LAYOUT, scope, places.pack) == places
    assert open_chunks(ids, IDS, scope, places) == chunks
    for other_scope, other_pack in ((scope, bytes(15) + b"\1"), (scope[::-1] + b"x", places.pack)):
        with pytest.raises(Malformed):
            open_places(sealed, LAYOUT, other_scope, other_pack)
    if places.places:
        with pytest.raises(Malformed):
            open_chunks(ids, IDS, scope[::-1] + b"x", places)


@EFFORT
@given(st.binary(max_size=200) | st.binary(max_size=5).map(lambda part: part * 300), st.integers(0, 2**32 - 1))
def test_segments_round_trip(data: bytes, ordinal: int) -> None:
    segment = SegmentId(PACK, ordinal)

    assert open_segment(seal_segment(data, 3, DATA, SCOPE, segment), DATA, SCOPE, segment) == data


def test_a_segment_above_the_limit_is_neither_sealed_nor_opened() -> None:
    segment = SegmentId(PACK, 0)
    place = message("segment", SCOPE, PACK, bytes(4))

    largest = seal_segment(bytes(MAX_SEGMENT), 1, DATA, SCOPE, segment)
    assert len(open_segment(largest, DATA, SCOPE, segment)) == MAX_SEGMENT == 8 * 1024 * 1024
    with pytest.raises(ValueError, match="8 MiB"):
        seal_segment(bytes(MAX_SEGMENT + 1), 1, DATA, SCOPE, segment)
    for larger in (compress(bytes(MAX_SEGMENT + 1), 1), bytes((RAW,)) + bytes(MAX_SEGMENT + 1)):
        with pytest.raises(Malformed, match="larger"):
            open_segment(DATA.seal(larger, place), DATA, SCOPE, segment)


SEGMENT = seal_segment(b"a row of a table", 3, DATA, SCOPE, SegmentId(PACK, 7))
ELSEWHERE: dict[str, Callable[[], bytes]] = {
    "another repository": lambda: open_segment(SEGMENT, DATA, NAME + DOMAIN, SegmentId(PACK, 7)),
    "another domain": lambda: open_segment(SEGMENT, DATA, REPOSITORY + NAME, SegmentId(PACK, 7)),
    "another pack of birth": lambda: open_segment(SEGMENT, DATA, SCOPE, SegmentId(OTHER_PACK, 7)),
    "another ordinal": lambda: open_segment(SEGMENT, DATA, SCOPE, SegmentId(PACK, 8)),
    "another session's key": lambda: open_segment(SEGMENT, Sealer(bytes(32)), SCOPE, SegmentId(PACK, 7)),
    "the layout key": lambda: open_segment(SEGMENT, LAYOUT, SCOPE, SegmentId(PACK, 7)),
}


@pytest.mark.parametrize("misplaced", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_segment_does_not_open_elsewhere(misplaced: Callable[[], bytes]) -> None:
    with pytest.raises(Malformed):
        misplaced()


# --- Places


def opened_places(change: Callable[[dict[str, Any]], None], body: bytes | None = None) -> Places:
    """Open the places of the example after a change of their record."""
    plain = independent_reader.unpadded(
        LAYOUT.open(seal_places(PLACES, LAYOUT, SCOPE), message("places", SCOPE, PACK)), 1 << 20
    )
    header, rest = independent_reader.record(plain)
    change(header)
    payload = bytes((RAW,)) + spelled(header, rest if body is None else body)
    sealed = LAYOUT.seal(struct.pack("<I", len(payload)) + payload, message("places", SCOPE, PACK))
    return open_places(sealed, LAYOUT, SCOPE, PACK)


def row(number: int, column: int, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        header["segments"][number][column] = value

    return change


HUGE = 2**62


@pytest.mark.parametrize(
    ("number", "column", "value"),
    [
        (0, 0, 2),
        (0, 0, HUGE),
        (1, 1, MAX_SEGMENTS),
        (1, 1, 2**32),
        (0, 2, 2),
        (0, 2, HUGE),
        (0, 3, 0),
        (0, 3, 7),
        (0, 3, 9),
        (1, 3, 137),
        (2, 3, 8),
        (0, 4, 127),
        (1, 4, HUGE),
        (1, 5, MAX_SEGMENT + 1),
        (1, 5, HUGE),
        (0, 5, True),
        (0, 3, 8.0),
        (0, 1, "0"),
        (0, 1, None),
    ],
)
@pytest.mark.timeout(60)
def test_impossible_figures_of_a_segment_are_refused(number: int, column: int, value: Any) -> None:
    with pytest.raises(Malformed):
        opened_places(row(number, column, value))


def test_a_segment_of_the_largest_size_and_number_is_accepted() -> None:
    changed = opened_places(row(1, 5, MAX_SEGMENT)).places[1]

    assert (changed.plain_length, changed.id.ordinal) == (MAX_SEGMENT, MAX_SEGMENTS - 1)


WRONG: dict[str, Callable[[dict[str, Any]], None]] = {
    "no origins": lambda header: header.update(origins=[]),
    "another first origin": lambda header: header.update(origins=header["origins"][::-1]),
    "one origin less": lambda header: header["origins"].pop(),
    "no sessions": lambda header: header.update(sessions=[]),
    "a segment more": lambda header: header["segments"].append([0, 9, 0, 5165, 29, 0]),
    "a segment less": lambda header: header["segments"].pop(),
    "segments in another order": lambda header: header["segments"].reverse(),
    "a row with less": lambda header: header["segments"][0].pop(),
    "a row with more": lambda header: header["segments"][0].append(0),
    "a row that is none": lambda header: header["segments"].insert(0, 5),
    "no segments": lambda header: header.pop("segments"),
    "no carried": lambda header: header.pop("carried"),
    "carried that is a dictionary": lambda header: header.update(carried={OTHER_PACK.hex(): 29}),
    "carried less": lambda header: header.update(carried=[]),
    "carried that is shorter": lambda header: header["carried"][0].__setitem__(1, 28),
    "carried that is longer": lambda header: header["carried"][0].__setitem__(1, 30),
    "carried that is huge": lambda header: header["carried"][0].__setitem__(1, HUGE),
    "carried of no pack": lambda header: header["carried"][0].__setitem__(0, "00"),
    "carried twice": lambda header: header["carried"].append(header["carried"][0]),
    "carried without a signature": lambda header: header["carried"][0].pop(),
    "carried with more": lambda header: header["carried"][0].append(0),
    "carried of no signer": lambda header: header["carried"][0].__setitem__(2, "00"),
    "carried with a digest that is shorter": lambda header: header["carried"][0].__setitem__(3, "00" * 31),
    "carried with a signature that is shorter": lambda header: header["carried"][0].__setitem__(4, "00" * 63),
    "carried with a signature in upper case": lambda header: header["carried"][0].__setitem__(4, "AB" * 64),
    "carried with a signature that is a number": lambda header: header["carried"][0].__setitem__(4, 64),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
@pytest.mark.timeout(60)
def test_places_that_contradict_themselves_are_refused(change: Callable[[dict[str, Any]], Any]) -> None:
    with pytest.raises(Malformed):
        opened_places(change)


@pytest.mark.parametrize("length", [0, 1, 31, 95, 96, 124, 126])
def test_a_body_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(Malformed):
        opened_places(lambda header: None, bytes(length))


def many(count: int) -> Places:
    found = (
        Place(SegmentId(PACK, number % MAX_SEGMENTS), SESSION, 8 + 29 * number, 29, 0, bytes(32))
        for number in range(count)
    )
    return Places(PACK, tuple(found))


@pytest.mark.slow
def test_a_pack_has_at_most_4096_segments() -> None:
    assert MAX_SEGMENTS == 4096
    assert open_places(seal_places(many(4096), LAYOUT, SCOPE), LAYOUT, SCOPE, PACK) == many(4096)
    with pytest.raises(ValueError, match="more segments"):
        seal_places(many(4097), LAYOUT, SCOPE)

    def grow(header: dict[str, Any]) -> None:
        header["segments"] = [[0, number % 4096, 0, 8 + 29 * number, 29, 0] for number in range(4097)]
        header["carried"] = []

    with pytest.raises(Malformed, match="more segments"):
        opened_places(grow, bytes(32 * 4097))


FIRST, MOVED, LAST = PLACES.places


def kept(places: bytes) -> Carried:
    return replace(PLACES.carried[OTHER_PACK], places=places)


NEVER: dict[str, Places] = {
    "a gap between segments": replace(PLACES, places=(FIRST, replace(MOVED, offset=137))),
    "a segment that overlaps the mark at the beginning": replace(PLACES, places=(replace(FIRST, offset=7),)),
    "segments in another order": replace(PLACES, places=(MOVED, FIRST)),
    "an ordinal that no pack has": replace(PLACES, places=(replace(FIRST, id=SegmentId(PACK, 4096)),)),
    "an ordinal below the first": replace(PLACES, places=(replace(FIRST, id=SegmentId(PACK, -1)),)),
    "a segment above the limit": replace(PLACES, places=(replace(FIRST, plain_length=MAX_SEGMENT + 1),)),
    "a length below zero": replace(PLACES, places=(replace(FIRST, sealed_length=-1),)),
    "places above the limit": replace(PLACES, carried={OTHER_PACK: kept(bytes(MAX_ENDS))}),
}


@pytest.mark.parametrize("places", NEVER.values(), ids=NEVER)
def test_places_that_nobody_would_read_are_not_written(places: Places) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - each says something else
        seal_places(places, LAYOUT, SCOPE)
    assert not isinstance(refused.value, Malformed), "nothing stored is damaged"


def test_as_many_carried_places_as_fit_are_read_and_more_are_refused() -> None:
    plain = independent_reader.unpadded(
        LAYOUT.open(seal_places(PLACES, LAYOUT, SCOPE), message("places", SCOPE, PACK)), 1 << 20
    )
    # Its length in the header needs seven digits instead of two.
    most = MAX_ENDS - len(plain) + len(PLACES.carried[OTHER_PACK].places) - 5
    fits = replace(PLACES, carried={OTHER_PACK: kept(bytes(most))})

    assert open_places(seal_places(fits, LAYOUT, SCOPE), LAYOUT, SCOPE, PACK) == fits
    with pytest.raises(ValueError, match="more than 8388608 bytes"):
        seal_places(replace(PLACES, carried={OTHER_PACK: kept(bytes(most + 1))}), LAYOUT, SCOPE)


def test_carried_places_prove_what_the_pin_of_the_old_pack_pinned() -> None:
    old = seal_places(replace(PLACES, pack=OTHER_PACK, carried={}), LAYOUT, SCOPE)
    found = open_places(
        seal_places(replace(PLACES, carried={OTHER_PACK: kept(old)}), LAYOUT, SCOPE), LAYOUT, SCOPE, PACK
    )

    assert pin_of(found.carried[OTHER_PACK].places) == pin_of(old) == blake3(old).digest()
    assert open_places(found.carried[OTHER_PACK].places, LAYOUT, SCOPE, OTHER_PACK).pack == OTHER_PACK


# --- Trailers


@EFFORT
@given(st.binary(min_size=1, max_size=100), st.binary(min_size=1, max_size=100), st.integers(0, 100), A_PACK)
def test_trailers_round_trip(ids: bytes, places: bytes, more: int, pack: bytes) -> None:
    data = sign_trailer(SIGNER, WRITER, SCOPE, pack, ids, places)
    least = len(MAGIC) + len(ids) + len(places) + TRAILER_BYTES
    trailer = Trailer.decode(data, least + more)

    assert len(data) == TRAILER_BYTES == 92
    assert (trailer.ids_length, trailer.places_length, trailer.signer) == (len(ids), len(places), WRITER)
    trailer.verify(PUBLIC, SCOPE, pack, pin_of(places), ids)
    with pytest.raises(Malformed, match="impossible"):
        Trailer.decode(data, least - 1)


def test_carried_places_are_the_word_of_who_signed_the_old_pack() -> None:
    trailer = Trailer.decode(sign_trailer(SIGNER, WRITER, SCOPE, PACK, b"ids", b"places"), 1000)
    carried = Carried(b"places", WRITER, blake3(b"ids").digest(), trailer.signature)

    carried.verify(PUBLIC, SCOPE, PACK)
    for other in (
        replace(carried, places=b"place"),
        replace(carried, signer=NAME),
        replace(carried, ids=blake3(b"id").digest()),
        replace(carried, signature=bytes(64)),
    ):
        with pytest.raises(Malformed, match="signed by nobody"):
            other.verify(PUBLIC, SCOPE, PACK)
    with pytest.raises(Malformed, match="signed by nobody"):
        carried.verify(PUBLIC, SCOPE, OTHER_PACK)


TRAILER = Trailer.decode(sign_trailer(SIGNER, WRITER, SCOPE, PACK, b"ids", b"places"), 1000)
UNSIGNED: dict[str, Callable[[], None]] = {
    "another signer": lambda: TRAILER.verify(SigningKey(b"\3" * 32).public, SCOPE, PACK, pin_of(b"places"), b"ids"),
    "another repository": lambda: TRAILER.verify(PUBLIC, NAME + DOMAIN, PACK, pin_of(b"places"), b"ids"),
    "another domain": lambda: TRAILER.verify(PUBLIC, REPOSITORY + NAME, PACK, pin_of(b"places"), b"ids"),
    "another pack": lambda: TRAILER.verify(PUBLIC, SCOPE, OTHER_PACK, pin_of(b"places"), b"ids"),
    "other places": lambda: TRAILER.verify(PUBLIC, SCOPE, PACK, pin_of(b"place"), b"ids"),
    "other ids": lambda: TRAILER.verify(PUBLIC, SCOPE, PACK, pin_of(b"places"), b"id"),
    "another name": lambda: replace(TRAILER, signer=NAME).verify(PUBLIC, SCOPE, PACK, pin_of(b"places"), b"ids"),
}


@pytest.mark.parametrize("verify", UNSIGNED.values(), ids=UNSIGNED)
def test_a_trailer_of_something_else_is_refused(verify: Callable[[], None]) -> None:
    with pytest.raises(Malformed, match="signature"):
        verify()


def test_a_trailer_is_signed_as_the_page_says() -> None:
    signed = b"penstock/1 pack\0" + SCOPE + PACK + WRITER + blake3(b"places").digest() + blake3(b"ids").digest()

    assert PUBLIC.verify(TRAILER.signature, signed)


@pytest.mark.parametrize("ids", [0, 1, 10, 892, 893, 2**32 - 1])
@pytest.mark.parametrize("places", [0, 8, 891, 2**32 - 1])
def test_ends_that_do_not_fit_into_the_pack_are_refused(ids: int, places: int) -> None:
    data = struct.pack("<II16s64s4s", ids, places, WRITER, bytes(64), b"PEND")
    if ids and places and ids + places <= 900:
        assert Trailer.decode(data, 1000).ids_length == ids
    else:
        with pytest.raises(Malformed):
            Trailer.decode(data, 1000)


@EFFORT
@given(
    st.binary(max_size=100) | st.binary(min_size=88, max_size=88).map(lambda part: part + b"PEND"),
    st.integers(0, 2**34),
)
def test_any_bytes_as_a_trailer_are_refused_or_plausible(data: bytes, size: int) -> None:
    with contextlib.suppress(Malformed):
        found = Trailer.decode(data, size)
        assert 8 + found.ids_length + found.places_length + 92 <= size


# --- Whole packs


@EFFORT
@given(st.integers(8, 2**25), st.integers(2 * 4096, 2**20))
def test_zeroes_make_the_pack_as_long_as_its_class(size: int, ends: int) -> None:
    zeroes = zeroes_for(size, ends)

    assert zeroes >= 0
    assert size + zeroes + ends + TRAILER_BYTES == padded(size + ends + TRAILER_BYTES)


def test_a_pack_of_the_largest_size_stays_within_the_limit() -> None:
    limit = 20 * 1024 * 1024

    assert zeroes_for(limit - 8192 - TRAILER_BYTES, 8192) == 0
    assert limit - 400_000 + zeroes_for(limit - 400_000 - 8192 - TRAILER_BYTES, 8192) == limit


def read_whole(data: bytes, pack: bytes) -> Chunks:
    """Check a pack like a reader that has all keys but the data keys, and so sees all of it."""
    domain = small().domain
    writer, scope = small().writer, domain.keys.scope
    if data[: len(MAGIC)] != MAGIC:
        raise Malformed("magic")
    trailer = Trailer.decode(data[-TRAILER_BYTES:], len(data))
    middle = len(data) - TRAILER_BYTES - trailer.places_length
    sealed_ids, sealed_places = data[middle - trailer.ids_length : middle], data[middle:-TRAILER_BYTES]
    if trailer.signer != writer.id:
        raise Malformed("writer")
    trailer.verify(writer.key.public, scope, pack, pin_of(sealed_places), sealed_ids)
    places = open_places(sealed_places, domain.layout, scope, pack)
    for place in places.places:
        if blake3(data[place.offset : place.offset + place.sealed_length]).digest() != place.digest:
            raise Malformed("digest")
    last = places.places[-1]
    end = last.offset + last.sealed_length
    zeroes = data[end : middle - trailer.ids_length]
    if any(zeroes) or len(zeroes) != zeroes_for(end, len(sealed_ids) + len(sealed_places)):
        raise Malformed("zeroes")
    return open_chunks(sealed_ids, domain.id_sealer, scope, places)


@pytest.fixture(scope="module")
def stored() -> tuple[bytes, bytes]:
    """A pack, and its id."""
    pack = small().packs[1]
    return small().objects[small().domain.key("packs", pack.id)], pack.id


@pytest.mark.slow
def test_a_pack_has_no_bit_that_nobody_sees(stored: tuple[bytes, bytes]) -> None:
    data, pack = stored

    assert read_whole(data, pack) == small().packs[1].chunks
    for other in every_damage(data):
        with pytest.raises(Malformed):
            read_whole(other, pack)


@settings(EFFORT, max_examples=examples(40))
@given(data=st.data())
def test_any_damage_to_a_pack_is_refused(stored: tuple[bytes, bytes], data: st.DataObject) -> None:
    with pytest.raises(Malformed):
        read_whole(data.draw(damaged(stored[0]) | st.binary(max_size=200)), stored[1])


def test_a_pack_is_not_valid_under_another_id(stored: tuple[bytes, bytes]) -> None:
    for other in small().packs:
        if other.id != stored[1]:
            with pytest.raises(Malformed):
                read_whole(stored[0], other.id)


def test_a_pack_shows_neither_rows_nor_names_in_the_clear(stored: tuple[bytes, bytes]) -> None:
    data, pack = stored

    assert len(data) == padded(len(data))
    assert pack not in data
    assert b"INSERT" not in data
    assert small().packs[1].chunks.ids[:16] not in data


def test_the_pin_proves_each_segment_wherever_it_lies(stored: tuple[bytes, bytes]) -> None:
    data, pack = stored
    places = open_places(small().packs[1].sealed_places, small().domain.layout, small().domain.keys.scope, pack)

    for place in places.places:
        sealed = data[place.offset : place.offset + place.sealed_length]
        assert blake3(sealed).digest() == place.digest
        assert blake3(flipped(sealed, 12, 0)).digest() != place.digest
    assert pin_of(small().packs[1].sealed_places) != secret("pin")
