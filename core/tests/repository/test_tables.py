"""The segment table of a snapshot that goes on with the rows of the one before."""

import random

import pytest
from core.tests.repository.forging import put_session, replaced
from core.tests.repository.lab import MIB, Lab, noise
from core.tests.repository.test_parts import known, rows_of

from penstock.format.keys import new_secret
from penstock.format.pack import MAX_SEGMENTS, SegmentId
from penstock.format.part import Row
from penstock.repository.known.past import PastRow
from penstock.repository.read.content import each_row
from penstock.repository.read.table import SegmentTable
from penstock.repository.snapshots import find_snapshot
from penstock.repository.trust.keyring import add_writer
from penstock.repository.write.table import TableBuilder

SESSIONS = [letter * 16 for letter in (b"r", b"s", b"t")]


def past(number: int, name: int, segments: int = 5, sessions: bytes = SESSIONS[0]) -> PastRow:
    """A row of the snapshot before, of the pack that `known` calls so."""
    pack = known(name, segments)
    assert pack.pin is not None
    return PastRow(number, pack.pack, pack.pin, segments, b"w" * 16, sessions)


def test_a_pack_of_the_past_keeps_its_number() -> None:
    table = TableBuilder(100, [past(3, 1), past(99, 2)])
    numbers = [
        table.number(known(1, 5), SegmentId(known(1, 5).pack, 4)),
        table.number(known(2, 5), SegmentId(known(2, 5).pack, 0)),
        table.number(known(3, 5), SegmentId(known(3, 5).pack, 1)),
    ]
    assert numbers == [3 * MAX_SEGMENTS + 4, 99 * MAX_SEGMENTS, 100 * MAX_SEGMENTS + 1]
    assert table.next == 101
    assert rows_of(table) == [], "a segment that has a number is not needed for that"
    table.use(numbers)
    assert rows_of(table) == [
        Row(3, known(1, 5).pack, b"\1" * 32, 5, frozenset({4})),
        Row(99, known(2, 5).pack, b"\2" * 32, 5, frozenset({0})),
        Row(100, known(3, 5).pack, b"\3" * 32, 5, frozenset({1})),
    ]


def test_only_rows_that_are_used_are_given_out_and_only_their_sessions_are_needed() -> None:
    rows = [
        past(1, 1, sessions=SESSIONS[0]),
        past(2, 2, sessions=SESSIONS[1] + SESSIONS[2]),
        past(7, 3, sessions=SESSIONS[2]),
    ]
    table = TableBuilder(8, rows)
    # By the recipe of the past, which says numbers and no packs.
    table.use([2 * MAX_SEGMENTS + 1, 2 * MAX_SEGMENTS + 3])
    ((row, kept),) = table.rows()
    assert row == Row(2, known(2, 5).pack, b"\2" * 32, 5, frozenset({1, 3}))
    assert kept == rows[1], "the next run has to know as much of it"
    assert kept.each_session() == SESSIONS[1:]


def test_a_past_row_is_told_by_its_number_whether_or_not_it_is_used() -> None:
    rows = [past(1, 1), past(2, 2)]
    table = TableBuilder(8, rows)
    table.use([MAX_SEGMENTS])
    assert [table.row(number) for number in (1, 2, 3)] == [*rows, None]


def test_a_pack_that_was_noted_twice_has_the_first_of_its_numbers() -> None:
    """Writers side by side gave a pack a row each."""
    table = TableBuilder(1 << 30, [past(5, 1), past(1 << 24, 1), past(6, 2)])
    number = table.number(known(1, 5), SegmentId(known(1, 5).pack, 2))
    assert number == 5 * MAX_SEGMENTS + 2
    table.use([number, 6 * MAX_SEGMENTS])
    assert [row.number for row in rows_of(table)] == [5, 6]


@pytest.mark.parametrize("kept", [2, 1024])
def test_writers_with_the_same_past_rows_make_one_table(monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    monkeypatch.setattr("penstock.repository.write.table._KEPT", kept)
    monkeypatch.setattr("penstock.repository.write.table._PAGE", 3)
    chance = random.Random(kept)
    before = [past(number, number + 1, 30) for number in range(20)]
    writers = [TableBuilder(20 + (writer << 24), before) for writer in range(3)]
    numbers: dict[int, SegmentId] = {}
    for writer in writers:
        for _ in range(300):
            pack = known(chance.randrange(1, 40), 30)
            segment = SegmentId(pack.pack, chance.randrange(30))
            number = writer.number(pack, segment)
            # A pack of the past has one number, others one of each writer's.
            assert (number // MAX_SEGMENTS < 20) == (pack.pack[0] <= 20)
            assert numbers.setdefault(number, segment) == segment
            writer.use([number])
    table = SegmentTable(row for writer in writers for row in rows_of(writer))
    assert {number: table.find(number) for number in numbers} == numbers
    needed: dict[bytes, int] = {}
    for segment in numbers.values():
        needed[segment.pack] = needed.get(segment.pack, 0) | 1 << segment.ordinal
    assert dict(table.used()) == needed
    assert {pack: table.pin(pack) for pack in needed} == {pack: (pack[:1] * 32, 30) for pack in needed}


def rows(seed: int, count: int = 60_000) -> list[bytes]:
    chance = random.Random(seed)
    return [b"%d\t%s\n" % (number, chance.randbytes(20).hex().encode()) for number in range(count)]


@pytest.mark.slow
def test_rows_of_a_later_night_are_those_that_it_needs(lab: Lab) -> None:
    table = rows(1)
    lab.backup({"d": b"".join(table), "gone tomorrow": noise(40 * MIB)})
    before = {row.number: row for row in each_row(find_snapshot(lab.open(), "latest"))}
    assert len(before) > 1
    table[30_000] = b"30000\tchanged\n"
    lab.backup({"d": b"".join(table)})
    after = {row.number: row for row in each_row(find_snapshot(lab.open(), "latest"))}
    same = before.keys() & after.keys()
    assert {(after[number].pack, after[number].pin) for number in same} == {
        (before[number].pack, before[number].pin) for number in same
    }
    (new,) = after.keys() - before.keys()
    assert new == max(before) + 1
    assert len(same) < len(before), "nothing is needed of packs that hold the other stream alone"
    assert all(row.used for row in after.values())
    assert lab.restored() == {"d": b"".join(table)}
    assert lab.check().findings == ()


@pytest.mark.slow
def test_a_row_that_was_left_out_for_a_night_never_gives_its_number_to_another_pack(lab: Lab) -> None:
    table, other = rows(1), noise(20 * MIB)
    lab.backup({"d": b"".join(table), "e": other})
    everything = {row.number: row.pack for row in each_row(find_snapshot(lab.open(), "latest"))}
    for night in range(3):
        table[1000 * night] = b"%d\tchanged\n" % night
        lab.backup({"d": b"".join(table)})
        for row in each_row(find_snapshot(lab.open(), "latest")):
            assert everything.setdefault(row.number, row.pack) == row.pack
    assert len(everything) > 4
    lab.backup({"d": b"".join(table), "e": other})
    assert lab.restored() == {"d": b"".join(table), "e": other}
    assert lab.check().findings == ()


@pytest.mark.parametrize("stream", ["d", "another"])
def test_a_pack_of_the_past_that_was_replaced_is_not_used(lab: Lab, stream: str) -> None:
    """Its row would pin what it was, even if what it holds now is right."""
    honest, other = (add_writer(lab.repository, label, domain="main") for label in ("host", "another"))
    content = noise(MIB)
    lab.backup({"d": content}, by=lab.open(honest))
    (pack,) = lab.keys(lab.at.packs)
    data_key = new_secret()
    session = put_session(lab.domain, data_key, by=other)
    forged = replaced(lab.domain, pack, content, session, data_key, by=other)
    assert len(forged) == lab.sink.stat(pack).size
    lab.sink.put(pack, forged)
    result = lab.backup({stream: content}, by=lab.open(honest))
    assert [pack in warning for warning in result.warnings] == [True]
    assert result.stored > MIB
    assert lab.restored() == {stream: content}
