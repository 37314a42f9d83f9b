"""What a head pins: segment tables, recipes and manifests, on their way into parts and back."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from core.tests.repository.lab import KIB, MIB, BytesSource, Lab, noise
from hypothesis import given
from hypothesis import strategies as st

from penstock.api import DamagedObject, MissingObject
from penstock.format.encoding import Malformed, new_id
from penstock.format.head import MAX_REFS
from penstock.format.pack import MAX_SEGMENTS, SegmentId
from penstock.format.part import MAX_PLAIN, SECTION_OVERHEAD, Key, Kind, PartRef, Row, decode_refs, open_part
from penstock.format.recipe import Block, Extent, decode_block
from penstock.format.sealing import Sealer
from penstock.repository.known.known_pack import KnownPack
from penstock.repository.read.content import SegmentTable, each_row, parts_of
from penstock.repository.snapshots import find_snapshot
from penstock.repository.write.parts import Piece, WrittenPart, put_parts, referred
from penstock.repository.write.recipes import EXTENTS_A_BLOCK, RecipeWriter
from penstock.repository.write.table import TableBuilder

DATA = Sealer(bytes(range(32)))


# segment tables


def known(name: int, segments: int, *, sessions: Sequence[bytes] = (b"s" * 16,), pin: bytes | None = b"") -> KnownPack:
    """A pack; by default closed, so that its pin is known."""
    pack = KnownPack(bytes([name]) * 16, sessions, bytes([name]) * 32 if pin == b"" else pin)
    for ordinal in range(segments):
        pack.begin_segment(SegmentId(pack.pack, ordinal), ordinal)
    return pack


def rows_of(table: TableBuilder) -> list[Row]:
    """The rows that the snapshot gets."""
    return [row for row, _ in table.rows()]


def test_each_pack_has_a_row_and_each_segment_a_number() -> None:
    one, two = known(1, 9), known(2, MAX_SEGMENTS)
    table = TableBuilder(100)
    asked = [(two, 4095), (one, 0), (one, 8), (two, 0), (one, 0)]
    numbers = [table.number(pack, SegmentId(pack.pack, ordinal)) for pack, ordinal in asked]
    assert numbers == [100 * 4096 + 4095, 101 * 4096, 101 * 4096 + 8, 100 * 4096, 101 * 4096]
    table.use(numbers)
    assert rows_of(table) == [
        Row(100, two.pack, b"\2" * 32, MAX_SEGMENTS, frozenset({0, 4095})),
        Row(101, one.pack, b"\1" * 32, 9, frozenset({0, 8})),
    ]


def test_the_row_of_a_pack_that_is_being_written_waits_for_its_pin() -> None:
    open_pack = known(1, 1, pin=None)
    table = TableBuilder(0)
    table.use([table.number(open_pack, SegmentId(open_pack.pack, 0))])
    open_pack.begin_segment(SegmentId(open_pack.pack, 1), 1)
    assert table.number(open_pack, SegmentId(open_pack.pack, 1)) == 1
    table.use([1])
    open_pack.begin_segment(SegmentId(open_pack.pack, 2), 2)
    open_pack.pin = b"p" * 32
    assert rows_of(table) == [Row(0, open_pack.pack, b"p" * 32, 3, frozenset({0, 1}))]


def test_a_closed_pack_is_not_kept_in_memory() -> None:
    """A directory takes megabytes, and a dump uses thousands of packs."""
    pack = known(1, 3)
    table = TableBuilder(0)
    table.use([table.number(pack, SegmentId(pack.pack, 1))])
    before = rows_of(table)
    assert len(before) == 1
    pack.pin = b"another" * 4 + b"pin!"
    assert rows_of(table) == before


def test_a_table_needs_the_sessions_of_the_packs_that_it_uses() -> None:
    table = TableBuilder(0)
    for name, sessions in ((1, [b"a" * 16]), (2, [b"a" * 16, b"b" * 16]), (3, [b"c" * 16])):
        pack = known(name, 1, sessions=sessions)
        number = table.number(pack, SegmentId(pack.pack, 0))
        if name < 3:
            table.use([number])
    needed = [past for _, past in table.rows()]
    assert {session for past in needed for session in past.each_session()} == {b"a" * 16, b"b" * 16}


def test_the_rows_of_writers_side_by_side_are_one_table() -> None:
    shared, own = known(1, 5), known(2, 5)
    one, other = TableBuilder(0), TableBuilder(1 << 24)
    numbers = {
        one.number(shared, SegmentId(shared.pack, 1)): SegmentId(shared.pack, 1),
        one.number(own, SegmentId(own.pack, 0)): SegmentId(own.pack, 0),
        other.number(shared, SegmentId(shared.pack, 1)): SegmentId(shared.pack, 1),
        other.number(shared, SegmentId(shared.pack, 4)): SegmentId(shared.pack, 4),
    }
    assert len(numbers) == 4
    for writer in (one, other):
        writer.use(number for number in numbers if number // MAX_SEGMENTS // (1 << 24) == (writer is other))
    table = SegmentTable(iter([*rows_of(other), *rows_of(one)]))
    assert {number: table.find(number) for number in numbers} == numbers
    assert dict(table.used()) == {shared.pack: 1 << 1 | 1 << 4, own.pack: 1}
    assert {pack: table.pin(pack) for pack, _ in table.used()} == {
        known.pack: (known.pin, known.segments) for known in (shared, own)
    }


ROW = Row(5, b"p" * 16, b"x" * 32, 9, frozenset({1, 8}))


@pytest.mark.parametrize("number", [0, 5 * 4096, 5 * 4096 + 2, 5 * 4096 + 9, 6 * 4096 + 1, 4 * 4096 + 1])
def test_a_number_that_the_snapshot_does_not_list_is_refused(number: int) -> None:
    table = SegmentTable(iter([ROW]))
    assert table.find(5 * 4096 + 8) == SegmentId(ROW.pack, 8)
    with pytest.raises(Malformed, match="does not list"):
        table.find(number)


def test_each_row_of_a_pack_says_which_of_its_own_numbers_are_needed() -> None:
    other = ROW._replace(number=6, used=frozenset({2, 8}))
    table = SegmentTable(iter([ROW, other, other._replace(used=frozenset({4}))]))
    assert dict(table.used()) == {ROW.pack: 1 << 1 | 1 << 2 | 1 << 4 | 1 << 8}
    needed = {5: {1, 8}, 6: {2, 4, 8}}
    for row, ordinals in needed.items():
        for ordinal in range(MAX_SEGMENTS):
            if ordinal in ordinals:
                assert table.find(row * MAX_SEGMENTS + ordinal) == SegmentId(ROW.pack, ordinal)
            else:
                with pytest.raises(Malformed, match="does not list"):
                    table.find(row * MAX_SEGMENTS + ordinal)


def test_rows_that_contradict_one_another_are_refused() -> None:
    more = ROW._replace(used=frozenset({3}))
    assert dict(SegmentTable(iter([ROW, more])).used()) == {ROW.pack: 1 << 1 | 1 << 3 | 1 << 8}
    for other in (ROW._replace(pack=b"q" * 16), ROW._replace(pin=b"y" * 32), ROW._replace(number=6, pin=b"y" * 32)):
        with pytest.raises(Malformed, match="segment table"):
            SegmentTable(iter([ROW, other]))


# recipes


def written(extents: Sequence[tuple[int, int, int]], stream: int = 7) -> list[Block]:
    """The blocks that come of adding these, as a reader decodes them."""
    recipe = RecipeWriter(stream)
    pieces = [piece for extent in extents for piece in recipe.add(*extent)]
    pieces += recipe.finish()
    assert all((piece.kind, piece.stream) == (Kind.RECIPE, stream) for piece in pieces)
    assert all(piece.data[:4] == stream.to_bytes(4, "little") for piece in pieces)
    return [decode_block(piece.data[4:]) for piece in pieces]


def test_bytes_that_follow_one_another_are_one_extent() -> None:
    (block,) = written([(1, 0, 10), (1, 10, 5), (1, 20, 5), (2, 25, 5), (1, 25, 5), (1, 30, 1)])
    assert block == Block(0, 31, 0, (Extent(1, 0, 15), Extent(1, 20, 5), Extent(2, 25, 5), Extent(1, 25, 6)))


def test_a_segment_may_be_used_backwards_and_again() -> None:
    (block,) = written([(9, 100, 10), (9, 0, 10), (9, 50, 60), (3, 0, 1), (9, 100, 10)])
    assert block.extents == (
        Extent(9, 100, 10), Extent(9, 0, 10), Extent(9, 50, 60), Extent(3, 0, 1), Extent(9, 100, 10),
    )  # fmt: skip


def test_an_empty_stream_has_no_block() -> None:
    assert written([]) == []


@pytest.mark.slow
@pytest.mark.parametrize("count", [EXTENTS_A_BLOCK - 1, EXTENTS_A_BLOCK, EXTENTS_A_BLOCK + 1, 3 * EXTENTS_A_BLOCK + 5])
def test_a_long_recipe_comes_in_blocks_that_follow_one_another(count: int) -> None:
    blocks = written([(number % 3, 10 * number, 2) for number in range(count)])
    assert [len(block.extents) for block in blocks[:-1]] == [EXTENTS_A_BLOCK] * (len(blocks) - 1)
    assert sum(len(block.extents) for block in blocks) == count
    assert len(blocks) == -(-count // EXTENTS_A_BLOCK)
    position = 0
    for block in blocks:
        assert block.start == position
        position += block.size
    assert position == 2 * count


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(1, 20)), max_size=60))
def test_a_recipe_makes_the_bytes_that_were_added(extents: list[tuple[int, int, int]]) -> None:
    def each_byte(of: Sequence[tuple[int | None, int, int]]) -> Iterator[tuple[int | None, int]]:
        for segment, start, length in of:
            yield from ((segment, at) for at in range(start, start + length))

    blocks = written(extents)
    found = [extent for block in blocks for extent in block.extents]
    assert list(each_byte(found)) == list(each_byte(extents))
    assert len(found) <= len(extents)
    for one, following in pairwise(found):
        assert (one.segment, one.start + one.length) != (following.segment, following.start)


# parts


class Shelf:
    """Takes objects, and opens them again."""

    def __init__(self, lab: Lab) -> None:
        self.domain = lab.domain
        self.objects: dict[str, bytes] = {}

    def put(self, key: str, data: bytes) -> None:
        assert key not in self.objects
        self.objects[key] = data

    def put_parts(self, pieces: Sequence[Piece]) -> list[WrittenPart]:
        return list(put_parts(self.domain, pieces, DATA, self.put))

    def opened(self, ref: PartRef) -> list[tuple[Kind, bytes]]:
        data = self.objects[self.domain.at.part_key(ref.part)]
        sealer = DATA if ref.key is Key.DATA else self.domain.layout_sealer
        return [(section.kind, bytes(section.data)) for section in open_part(ref, data, sealer, self.domain.scope)]


@pytest.fixture
def shelf(lab: Lab) -> Shelf:
    return Shelf(lab)


def test_sections_under_one_key_go_into_one_part_in_their_order(shelf: Shelf) -> None:
    pieces = [
        Piece(Kind.RECIPE, b"first", 0),
        Piece(Kind.TABLE, b"rows"),
        Piece(Kind.RECIPE, b"second", 3),
        Piece(Kind.MANIFEST, b"manifest"),
        Piece(Kind.TABLE, b"more rows"),
        Piece(Kind.RECIPE, b"third", 0),
    ]
    data, layout = shelf.put_parts(pieces)
    assert (data.ref.key, layout.ref.key) == (Key.DATA, Key.LAYOUT)
    assert (data.streams, layout.streams) == ((0, 3), ())
    assert shelf.opened(data.ref) == [
        (Kind.RECIPE, b"first"), (Kind.RECIPE, b"second"), (Kind.MANIFEST, b"manifest"), (Kind.RECIPE, b"third"),
    ]  # fmt: skip
    assert shelf.opened(layout.ref) == [(Kind.TABLE, b"rows"), (Kind.TABLE, b"more rows")]


def test_what_is_for_the_owner_alone_cannot_be_opened_with_the_layout_key(shelf: Shelf) -> None:
    part, *_ = shelf.put_parts([Piece(Kind.MANIFEST, b"secret"), Piece(Kind.TABLE, b"rows")])
    data = shelf.objects[shelf.domain.at.part_key(part.ref.part)]
    for sealer in (shelf.domain.layout_sealer, shelf.domain.id_sealer):
        with pytest.raises(Malformed):
            list(open_part(part.ref, data, sealer, shelf.domain.scope))


def test_nothing_makes_no_part(shelf: Shelf) -> None:
    assert shelf.put_parts([]) == []
    assert shelf.objects == {}


@pytest.mark.parametrize("size", [MAX_PLAIN - SECTION_OVERHEAD, MAX_PLAIN // 2, MAX_PLAIN // 2 - SECTION_OVERHEAD, MIB])
def test_a_part_holds_no_more_than_it_may(shelf: Shelf, size: int) -> None:
    pieces = [Piece(Kind.MANIFEST, noise(size, seed)) for seed in range(5)]
    parts = shelf.put_parts(pieces)
    found = [section for part in parts for section in shelf.opened(part.ref)]
    assert found == [(piece.kind, piece.data) for piece in pieces]
    a_part = MAX_PLAIN // (size + SECTION_OVERHEAD)
    assert len(parts) == -(-5 // a_part)
    assert all(len(data) <= 8 * MIB for data in shelf.objects.values())


def test_a_changed_part_is_refused_before_it_is_opened(shelf: Shelf) -> None:
    (part,) = shelf.put_parts([Piece(Kind.TABLE, b"rows")])
    (data,) = shelf.objects.values()
    for changed in (data[:-1], data + b"\0", bytes([data[0] ^ 1]) + data[1:]):
        with pytest.raises(Malformed, match="not the bytes that the snapshot pins"):
            list(open_part(part.ref, changed, shelf.domain.layout_sealer, shelf.domain.scope))
    other = replace(part.ref, part=new_id())
    with pytest.raises(Malformed):
        list(open_part(other, data, shelf.domain.layout_sealer, shelf.domain.scope))


def refs(count: int) -> list[PartRef]:
    return [PartRef(number.to_bytes(16, "big"), number, bytes(32), Key.DATA) for number in range(count)]


@pytest.mark.parametrize("count", [0, 1, MAX_REFS])
def test_a_few_references_stay_in_the_head(shelf: Shelf, count: int) -> None:
    assert referred(shelf.domain, refs(count), DATA, MAX_REFS, shelf.put) == refs(count)
    assert shelf.objects == {}


@pytest.mark.parametrize("count", [MAX_REFS + 1, 1000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_many_references_go_into_parts_themselves(shelf: Shelf, count: int) -> None:
    found = referred(shelf.domain, refs(count), DATA, MAX_REFS, shelf.put)
    assert 0 < len(found) <= MAX_REFS
    assert all(ref.key is Key.REFS for ref in found)
    assert len(shelf.objects) == len(found)
    resolved = [ref for part in found for _, data in shelf.opened(part) for ref in decode_refs(data)]
    assert resolved == refs(count)


# whole snapshots


@pytest.fixture
def many(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A snapshot with a part for each of its streams, more than a head names."""
    monkeypatch.setattr("penstock.repository.write.stream.ENOUGH", 0)
    streams = {f"stream {number:02}": noise(KIB, number) for number in range(40)}
    lab.backup(streams)
    return streams


@pytest.mark.slow
def test_a_snapshot_of_many_parts_is_read_like_any_other(lab: Lab, many: dict[str, bytes]) -> None:
    entry = find_snapshot(lab.open(), "latest")
    assert [ref.key for ref in entry.head.parts] == [Key.REFS]
    assert entry.object_size < 8 * KIB
    found = list(parts_of(entry))
    assert {lab.at.part_key(ref.part) for ref in found} == lab.keys(lab.at.parts)
    assert sum(ref.key is Key.DATA for ref in found) >= 30
    assert lab.restored() == many
    assert lab.check().findings == ()
    assert lab.backup(many).packs == 0


@pytest.mark.slow
@pytest.mark.parametrize("fate", ["gone", "damaged"])
def test_each_part_of_a_snapshot_is_missed(lab: Lab, many: dict[str, bytes], fate: str) -> None:
    for key in sorted(lab.keys(lab.at.parts))[::4]:
        data = lab.sink.get(key)
        lab.sink.delete(key)
        if fate == "damaged":
            lab.sink.put(key, data[:-1] + bytes([data[-1] ^ 1]))
        assert key in {finding.key for finding in lab.check(read_data=False).findings}
        target = BytesSource({})
        with pytest.raises((DamagedObject, MissingObject), match=key):
            lab.restore(into=target)
        assert target.touched == []
        lab.sink.put(key, data)
    assert lab.restored() == many


@pytest.mark.slow
def test_a_manifest_may_be_larger_than_a_part(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("session", "parts"):
        monkeypatch.setattr(f"penstock.repository.write.{module}.MAX_PLAIN", 3000)
    streams = {f"a stream with a rather long name, number {number:03}": b"%d" % number for number in range(60)}
    lab.backup(streams)
    entry = find_snapshot(lab.open(), "latest")
    assert sum(ref.key is Key.DATA for ref in parts_of(entry)) > 4
    assert lab.restored() == streams
    assert lab.check().findings == ()


@pytest.mark.slow
def test_a_table_may_be_larger_than_a_section(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b""
    for seed in range(6):
        content += noise(MIB, seed)
        lab.backup({"d": content})
    monkeypatch.setattr("penstock.repository.write.stream._ROWS", 2)
    lab.backup({"d": content})
    entry = find_snapshot(lab.open(), "latest")
    assert len({row.pack for row in each_row(entry)}) == 6
    assert lab.restored() == {"d": content}
    assert lab.check().findings == ()
