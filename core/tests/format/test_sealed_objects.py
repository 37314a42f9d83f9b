"""What all kinds of sealed objects have in common: each belongs to one place, and any change is refused."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import pytest
from blake3 import blake3
from core.tests.format import independent_reader
from core.tests.format.damage import EFFORT, damaged, every_damage, same, spelled, with_one_value_replaced
from core.tests.format.examples import (
    CHUNKS,
    DATA,
    DELETION,
    DOMAIN,
    HEAD,
    IDS,
    LAYOUT,
    MANIFEST,
    NAME,
    NOTICE,
    PACK,
    PLACES,
    REFS,
    REPOSITORY,
    ROWS,
    SCOPE,
    SESSION,
    SIGNER,
    SUMMARIES,
    TOMBSTONE,
    WRITER,
)
from core.tests.format.test_encoding import OBJECTS
from hypothesis import given
from hypothesis import strategies as st

from penstock.format.chunks import join_ids, open_chunks, seal_chunks
from penstock.format.codec import RAW, compress
from penstock.format.encoding import Malformed, decode_record, encode_record
from penstock.format.head import decode_head, encode_head
from penstock.format.index import PackSummary, decode_index, encode_index, seal_hooks
from penstock.format.keys import SigningKey
from penstock.format.manifest import decode_manifest, encode_manifest
from penstock.format.notice import Deletion, Notice, Tombstone, decode_notice, encode_notice
from penstock.format.pack import (
    SegmentId,
    open_places,
    open_segment,
    seal_places,
    seal_segment,
)
from penstock.format.padding import padded
from penstock.format.part import Key, Kind, PartRef, encode_part, encode_refs, encode_rows, open_part, verify_part
from penstock.format.sealing import Sealer, message

MIB = 1 << 20
OTHER_ID = bytes([9]) * 16
#: The same owner's other repository and domain.
OTHER_SCOPES = {"another repository": OTHER_ID + DOMAIN, "another domain": REPOSITORY + OTHER_ID}
PUBLIC = SIGNER.public


class Reader(Protocol):
    """Reads an object like a reader that has the keys and knows where it lies."""

    def __call__(self, data: bytes, scope: bytes = SCOPE, name: bytes = ..., /) -> Any: ...


def read_segment(data: bytes, scope: bytes = SCOPE, name: bytes = PACK) -> bytes:
    return open_segment(data, DATA, scope, SegmentId(name, 7))


def read_places(data: bytes, scope: bytes = SCOPE, name: bytes = PACK) -> Any:
    return open_places(data, LAYOUT, scope, name)


def read_ids(data: bytes, scope: bytes = SCOPE, name: bytes = PACK) -> Any:
    places = tuple(replace(place, id=SegmentId(name, place.id.ordinal)) for place in PLACES.places)
    return open_chunks(data, IDS, scope, replace(PLACES, places=places))


def read_index(data: bytes, scope: bytes = SCOPE, name: bytes = NAME) -> Any:
    sealed = decode_index(name, data)
    sealed.verify(PUBLIC, scope)
    return sealed.open_summaries(LAYOUT, IDS, scope), sealed.open_packs(LAYOUT, scope)[1]


def opened_part(key: Key, data: bytes, scope: bytes, name: bytes, pin: PartRef | None = None) -> Any:
    """The sections of a part, pinned by `pin`, or by whoever made it."""
    pin = pin or PartRef(name, len(data), blake3(data).digest(), key)
    sections = open_part(replace(pin, part=name), data, DATA if key is Key.DATA else LAYOUT, scope)
    return [(section.kind, bytes(section.data)) for section in sections]


def part_reader(key: Key, pin: PartRef) -> Reader:
    """As a restore reads what `pin` pins, and as `check` does: each of the two refuses any damage."""

    def read(data: bytes, scope: bytes = SCOPE, name: bytes = NAME) -> Any:
        found: list[Any] = []
        refusals = []
        looks: tuple[Callable[[], Any], ...] = (
            lambda: opened_part(key, data, scope, name, pin),
            # Whatever is pinned: signed by a writer, and sealed.
            lambda: verify_part(name, data, {WRITER: PUBLIC}.get, scope) and opened_part(key, data, scope, name),
        )
        for look in looks:
            try:
                found.append(look())
            except Malformed as error:
                refusals.append(error)
        assert not (found and refusals), "they agree"
        if refusals:
            raise refusals[-1]
        assert found[0] == found[1]
        return found[0]

    return read


def read_head(data: bytes, scope: bytes = SCOPE, name: bytes = NAME) -> Any:
    sealed = decode_head(name, data)
    sealed.verify(PUBLIC, scope)
    return sealed.open(LAYOUT, scope)


def notice_reader(kind: type[Notice | Tombstone | Deletion]) -> Reader:
    def read(data: bytes, scope: bytes = SCOPE, name: bytes = NAME) -> Any:
        return decode_notice(name, data).open(kind, PUBLIC, LAYOUT, scope)

    return read


INDEXED = [seal_hooks(one, IDS, SCOPE) for one in SUMMARIES]


def index_object() -> bytes:
    return encode_index(NAME, INDEXED, replaces=[PACK], scope=SCOPE, signer=WRITER, layout_sealer=LAYOUT, key=SIGNER)


def head_object(head: Any = HEAD) -> bytes:
    return encode_head(head, session=SESSION, writer=WRITER, scope=SCOPE, layout_sealer=LAYOUT, signer=SIGNER)


def notice_object(content: Any) -> bytes:
    return encode_notice(NAME, content, signer=SIGNER, key=WRITER, layout_sealer=LAYOUT, scope=SCOPE)


LAYOUT_SECTIONS = [(Kind.TABLE, encode_rows(ROWS)), (Kind.TABLE, b"")]
DATA_SECTIONS = [(Kind.MANIFEST, encode_manifest(MANIFEST)), (Kind.RECIPE, b"\0\0\0\0block")]
REFS_SECTIONS = [(Kind.REFS, encode_refs(REFS[:2]))]


def part_object(key: Key, sections: Sequence[tuple[Kind, bytes]]) -> tuple[bytes, Reader]:
    data, pin = encode_part(
        NAME, sections, key, DATA if key is Key.DATA else LAYOUT, SCOPE, writer=WRITER, signer=SIGNER
    )
    return data, part_reader(key, pin)


SEALED: dict[str, tuple[bytes, Reader]] = {
    "segment": (seal_segment(b"plain bytes " * 20, 3, DATA, SCOPE, SegmentId(PACK, 7)), read_segment),
    "places": (seal_places(PLACES, LAYOUT, SCOPE), read_places),
    "ids": (
        seal_chunks(CHUNKS, IDS, SCOPE, PACK, [SegmentId(PACK, place.id.ordinal) for place in PLACES.places]),
        read_ids,
    ),
    "index": (index_object(), read_index),
    "part, layout": part_object(Key.LAYOUT, LAYOUT_SECTIONS),
    "part, data": part_object(Key.DATA, DATA_SECTIONS),
    "part, references": part_object(Key.REFS, REFS_SECTIONS),
    "head": (head_object(), read_head),
    "notice": (notice_object(NOTICE), notice_reader(Notice)),
    "tombstone": (notice_object(TOMBSTONE), notice_reader(Tombstone)),
    "deletion": (notice_object(DELETION), notice_reader(Deletion)),
}
ALL_KINDS = pytest.mark.parametrize(("sealed", "read"), SEALED.values(), ids=SEALED)
EXPECTED: dict[str, Any] = {
    "segment": b"plain bytes " * 20,
    "places": PLACES,
    "ids": CHUNKS,
    "index": (SUMMARIES, (PACK,)),
    "part, layout": LAYOUT_SECTIONS,
    "part, data": DATA_SECTIONS,
    "part, references": REFS_SECTIONS,
    "head": HEAD,
    "notice": NOTICE,
    "tombstone": TOMBSTONE,
    "deletion": DELETION,
}


@pytest.mark.parametrize("kind", SEALED)
def test_sealed_objects_round_trip(kind: str) -> None:
    sealed, read = SEALED[kind]

    assert read(sealed) == EXPECTED[kind]


@pytest.mark.slow
@ALL_KINDS
def test_the_slightest_change_of_a_sealed_object_is_refused(sealed: bytes, read: Reader) -> None:
    for other in every_damage(sealed):
        with pytest.raises(Malformed):
            read(other)


@pytest.mark.slow
@ALL_KINDS
@EFFORT
@given(data=st.data())
def test_any_damage_to_a_sealed_object_is_refused(sealed: bytes, read: Reader, data: st.DataObject) -> None:
    with pytest.raises(Malformed):
        read(data.draw(damaged(sealed) | st.binary(max_size=100)))


@ALL_KINDS
@pytest.mark.parametrize("scope", OTHER_SCOPES.values(), ids=OTHER_SCOPES)
def test_nothing_sealed_opens_in_another_repository_or_domain(sealed: bytes, read: Reader, scope: bytes) -> None:
    with pytest.raises(Malformed):
        read(sealed, scope)


@ALL_KINDS
def test_nothing_sealed_opens_under_another_id(sealed: bytes, read: Reader) -> None:
    with pytest.raises(Malformed):
        read(sealed, SCOPE, OTHER_ID)


@pytest.mark.parametrize("kind", SEALED)
def test_nothing_sealed_passes_for_another_kind(kind: str) -> None:
    # Among them the kinds of parts: a section is refused under another key than its own.
    for other in SEALED.keys() - {kind}:
        with pytest.raises(Malformed):
            SEALED[other][1](SEALED[kind][0])


SIGNED = {
    "index": "index",
    "head": "head",
    "part, layout": "part",
    "part, data": "part",
    "part, references": "part",
    "notice": "notice",
    "tombstone": "tombstone",
    "deletion": "deletion",
}
ALL_SIGNED = pytest.mark.parametrize(("kind", "what"), SIGNED.items())


@ALL_SIGNED
def test_a_signed_object_of_another_signer_is_refused(kind: str, what: str) -> None:
    data = SEALED[kind][0]
    signed = data[:-64]
    forged = SigningKey(b"\3" * 32).sign(message(what, SCOPE, NAME, signed))

    with pytest.raises(Malformed, match="signature"):
        SEALED[kind][1](signed + forged)


@ALL_SIGNED
def test_the_signature_covers_kind_place_and_all_bytes_before_it(kind: str, what: str) -> None:
    data = SEALED[kind][0]

    assert PUBLIC.verify(data[-64:], b"penstock/1 " + what.encode() + b"\0" + SCOPE + NAME + data[:-64])


#: The first bytes of objects, and the least that each needs.
MAGICS = {
    "index": (b"PSINDX\1\0", 28 + 64),
    "part, layout": (b"PSPART\1\0", 24 + 64),
    "head": (b"PSHEAD\1\0", 40 + 64),
    "notice": (b"PSNOTE\1\0", 24 + 64),
}


@pytest.mark.parametrize(("kind", "magic", "least"), [(kind, *one) for kind, one in MAGICS.items()])
def test_objects_begin_with_the_magic_of_the_page(kind: str, magic: bytes, least: int) -> None:
    data, read = SEALED[kind]

    assert data.startswith(magic)
    for other in (b"PSPACK\1\0", magic[:6] + b"\2\0", magic[:6] + b"\1\1", magic.lower(), bytes(8)):
        with pytest.raises(Malformed):
            read(other + data[8:])
    for length in range(least + 40):
        with pytest.raises(Malformed):
            read(magic + bytes(length))


@pytest.mark.parametrize("kind", [kind for kind in SEALED if kind != "segment"])
def test_the_sizes_of_sealed_objects_are_those_of_a_class(kind: str) -> None:
    overhead = {"index": 28 + 64, "head": 40 + 64}
    size = len(SEALED[kind][0]) - (overhead.get(kind, 24 + 64) if kind in SIGNED else 0)

    assert size == (8192 if kind == "index" else 4096)


# --- Bombs


def sealed_raw(plain: bytes, sealer: Sealer, what: str, name: bytes) -> bytes:
    payload = bytes((RAW,)) + plain
    return sealer.seal(struct.pack("<I", len(payload)) + payload, message(what, SCOPE, name))


def padded_bomb(size: int, sealer: Sealer, what: str, name: bytes) -> bytes:
    payload = compress(bytes(size), 1)
    return sealer.seal(struct.pack("<I", len(payload)) + payload, message(what, SCOPE, name))


def signed(data: bytes, what: str) -> bytes:
    return data + SIGNER.sign(message(what, SCOPE, NAME, data))


def index_of(sealed: bytes, hooks: bytes) -> bytes:
    return signed(struct.pack("<8s16sI", b"PSINDX\1\0", WRITER, len(sealed)) + sealed + hooks, "index")


def index_with_hooks(hooks: bytes) -> bytes:
    row = [PACK.hex(), 1, 1, 1, [], [[PACK.hex(), len(hooks)]]]
    hooks += bytes(padded(len(hooks)) - len(hooks))
    return index_of(sealed_raw(spelled({"packs": [row], "replaces": []}), LAYOUT, "index", NAME), hooks)


BOMBS: dict[str, tuple[int, Callable[[int], Any]]] = {
    "segment": (
        8 * MIB,
        lambda size: read_segment(
            DATA.seal(compress(bytes(size), 1), message("segment", SCOPE, PACK, struct.pack("<I", 7)))
        ),
    ),
    "places": (8 * MIB, lambda size: read_places(padded_bomb(size, LAYOUT, "places", PACK))),
    "ids": (8 * MIB, lambda size: read_ids(join_ids([padded_bomb(size, IDS, "ids", PACK + bytes(4)), b"", b""]))),
    "index": (16 * MIB, lambda size: read_index(index_of(padded_bomb(size, LAYOUT, "index", NAME), b""))),
    "hooks": (
        16 * MIB,
        lambda size: read_index(index_with_hooks(padded_bomb(size, IDS, "hooks", PACK))) and bytes(size),
    ),
    "part": (
        4 * MIB,
        lambda size: opened_part(
            Key.DATA, signed(b"PSPART\1\0" + WRITER + padded_bomb(size, DATA, "part", NAME), "part"), SCOPE, NAME
        ),
    ),
    "head": (
        1 * MIB,
        lambda size: read_head(
            signed(b"PSHEAD\1\0" + SESSION + WRITER + padded_bomb(size, LAYOUT, "head", NAME), "head")
        ),
    ),
    **{
        kind: (
            16 * MIB,
            lambda size, kind=kind: SEALED[kind][1](  # type: ignore[misc]
                signed(b"PSNOTE\1\0" + WRITER + padded_bomb(size, LAYOUT, kind, NAME), kind)
            ),
        )
        for kind in ("notice", "tombstone", "deletion")
    },
}


@pytest.mark.parametrize(("limit", "read"), BOMBS.values(), ids=BOMBS)
def test_more_than_the_limit_of_its_kind_is_refused(limit: int, read: Callable[[int], Any]) -> None:
    with pytest.raises(Malformed, match="larger than allowed"):
        read(limit + 1)


@pytest.mark.parametrize(("limit", "read"), BOMBS.values(), ids=BOMBS)
def test_what_is_as_large_as_allowed_is_looked_at(limit: int, read: Callable[[int], Any]) -> None:
    # Nothing but zeroes, which only a segment may be.
    told = ""
    try:
        assert read(limit) == bytes(limit)
    except Malformed as error:
        told = str(error)
    assert "larger than allowed" not in told


# --- What nobody would read is not written


def text_that_fits(object_of: Callable[[str], bytes], limit: int) -> None:
    """`object_of` makes an object whose record is as long as a text, but for what else is in it."""
    assert object_of("a" * (limit - 2000))
    with pytest.raises(ValueError, match=f"more than {limit} bytes"):
        object_of("a" * limit)


TOO_LARGE: dict[str, Callable[[], None]] = {
    "head": lambda: text_that_fits(lambda host: head_object(replace(HEAD, host=host)), MIB),
    "notice": lambda: text_that_fits(lambda why: notice_object(replace(NOTICE, packs={PACK: why})), 16 * MIB),
    "tombstone": lambda: text_that_fits(lambda made: notice_object(replace(TOMBSTONE, made=made)), 16 * MIB),
    "deletion": lambda: text_that_fits(lambda made: notice_object(replace(DELETION, made=made)), 16 * MIB),
}


@pytest.mark.slow
@pytest.mark.parametrize("attempt", TOO_LARGE.values(), ids=TOO_LARGE)
def test_an_object_above_its_limit_is_not_written(attempt: Callable[[], None]) -> None:
    attempt()


def index_with(replaces: int, hooks: int) -> bytes:
    different = tuple(number.to_bytes(12, "big") for number in range(hooks))
    return encode_index(
        NAME,
        [seal_hooks(PackSummary(SUMMARIES[1].ends, 0, different), IDS, SCOPE)],
        replaces=[PACK] * replaces,
        scope=SCOPE,
        signer=WRITER,
        layout_sealer=LAYOUT,
        key=SIGNER,
    )


@pytest.mark.slow
def test_an_index_above_one_of_its_limits_is_not_written() -> None:
    # Two quotation marks, 32 digits and a comma each; and 4 bytes for the number of chunks.
    most = 16 * MIB // 35

    assert len(read_index(index_with(most - 10, 0))[1]) == most - 10
    with pytest.raises(ValueError, match="more than 16777216 bytes"):
        index_with(most, 0)
    hooks = (16 * MIB - 4) // 12
    assert len(read_index(index_with(1, hooks))[0][0].hooks) == hooks
    with pytest.raises(ValueError, match="more than 16777216 bytes"):
        index_with(1, hooks + 1)


# --- Opened: a holder of the keys may still write nonsense, which must not crash a reader


@dataclass(frozen=True)
class Record:
    """A kind of object that holds a record."""

    #: The record of the example.
    plain: bytes
    #: Seal a record as such an object, and read it.
    read: Callable[[bytes], Any]
    #: The record that today's code writes for what was read.
    again: Callable[[Any], bytes]


def opened(sealed: bytes, sealer: Sealer, what: str, name: bytes) -> bytes:
    return independent_reader.unpadded(sealer.open(sealed, message(what, SCOPE, name)), 16 * MIB)


def places_again(places: Any) -> bytes:
    return opened(seal_places(places, LAYOUT, SCOPE), LAYOUT, "places", PACK)


def index_again(value: Any) -> bytes:
    summaries, replaces = value
    data = encode_index(
        NAME,
        [seal_hooks(one, IDS, SCOPE) for one in summaries],
        replaces=replaces,
        scope=SCOPE,
        signer=WRITER,
        layout_sealer=LAYOUT,
        key=SIGNER,
    )
    (length,) = struct.unpack_from("<I", data, 24)
    return opened(data[28 : 28 + length], LAYOUT, "index", NAME)


def notice_record(kind: str, content: Any) -> Record:
    def read(plain: bytes) -> Any:
        sealed = sealed_raw(plain, LAYOUT, kind, NAME)
        return SEALED[kind][1](signed(b"PSNOTE\1\0" + WRITER + sealed, kind))

    def again(value: Any) -> bytes:
        return opened(notice_object(value)[24:-64], LAYOUT, kind, NAME)

    return Record(again(content), read, again)


def head_again(head: Any) -> bytes:
    return opened(head_object(head)[40:-64], LAYOUT, "head", NAME)


SEALED_HOOKS = SEALED["index"][0][28 + struct.unpack_from("<I", SEALED["index"][0], 24)[0] : -64]
RECORDS: dict[str, Record] = {
    "places": Record(
        places_again(PLACES), lambda plain: read_places(sealed_raw(plain, LAYOUT, "places", PACK)), places_again
    ),
    "index": Record(
        index_again((SUMMARIES, (PACK,))),
        lambda plain: read_index(index_of(sealed_raw(plain, LAYOUT, "index", NAME), SEALED_HOOKS)),
        index_again,
    ),
    "head": Record(
        head_again(HEAD),
        lambda plain: read_head(
            signed(b"PSHEAD\1\0" + SESSION + WRITER + sealed_raw(plain, LAYOUT, "head", NAME), "head")
        ),
        head_again,
    ),
    "manifest": Record(encode_manifest(MANIFEST), decode_manifest, encode_manifest),
    "notice": notice_record("notice", NOTICE),
    "tombstone": notice_record("tombstone", TOMBSTONE),
    "deletion": notice_record("deletion", DELETION),
}
ALL_RECORDS = pytest.mark.parametrize("kind", RECORDS)


@ALL_RECORDS
def test_opened_records_are_written_again_unchanged(kind: str) -> None:
    record = RECORDS[kind]

    assert record.again(record.read(record.plain)) == record.plain
    header, body = independent_reader.record(record.plain)
    assert encode_record(header, [body]) == spelled(header, body) == record.plain


@pytest.mark.slow
@ALL_RECORDS
@EFFORT
@given(data=st.data())
def test_a_wrong_value_in_a_header_is_refused_or_preserved(kind: str, data: st.DataObject) -> None:
    record = RECORDS[kind]
    header, body = independent_reader.record(record.plain)
    changed = data.draw(with_one_value_replaced(header))
    try:
        value = record.read(spelled(changed, body))
    except Malformed:
        return
    # Accepted unchanged: nothing was silently rounded or converted to a string.
    again = decode_record(record.again(value))[0]
    if kind == "places":
        # Origins and sessions that no segment has need not be written again.
        assert record.read(record.again(value)) == value
        assert same(again["carried"], changed["carried"])
        assert all(type(figure) is int for row in again["segments"] for figure in row)
    else:
        assert same(again, changed)


@ALL_RECORDS
def test_a_record_without_one_of_its_entries_is_refused(kind: str) -> None:
    record = RECORDS[kind]
    header, body = independent_reader.record(record.plain)
    for name in header.keys() - {"parent", "previous"}:
        less = {other: value for other, value in header.items() if other != name}
        with pytest.raises(Malformed):
            record.read(spelled(less, body))


@pytest.mark.slow
@ALL_RECORDS
@EFFORT
@given(data=st.data())
def test_a_damaged_record_is_refused_or_can_be_written_again(kind: str, data: st.DataObject) -> None:
    record = RECORDS[kind]
    header, body = independent_reader.record(record.plain)
    plain = data.draw(
        st.one_of(
            st.binary(max_size=60),
            damaged(record.plain),
            damaged(body).map(lambda other: spelled(header, other)),
            OBJECTS.map(lambda other: spelled(other, body)),
        )
    )
    try:
        value = record.read(plain)
    except Malformed:
        return
    record.again(value)


@ALL_RECORDS
@pytest.mark.parametrize("plain", [b"", b"\0\0\0", b"\xff\xff\xff\xff", b"\2\0\0\0{}", b"\2\0\0\0[]"])
def test_an_empty_record_is_refused(kind: str, plain: bytes) -> None:
    with pytest.raises(Malformed):
        RECORDS[kind].read(plain)


@pytest.mark.slow
@ALL_RECORDS
def test_a_record_is_refused_at_every_shorter_length(kind: str) -> None:
    record = RECORDS[kind]
    for length in range(len(record.plain)):
        with pytest.raises(Malformed):
            record.read(record.plain[:length])


@ALL_RECORDS
@pytest.mark.parametrize("number", [1.5, -3, 2**63, 1e22, float("nan")])
def test_a_header_with_another_number_than_the_page_allows_is_refused(kind: str, number: float) -> None:
    record = RECORDS[kind]
    header, body = independent_reader.record(record.plain)

    with pytest.raises(Malformed):
        record.read(spelled({**header, "zz": number}, body))
