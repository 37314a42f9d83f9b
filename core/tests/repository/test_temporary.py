"""What is too long for memory: the same answers as from memory, however little of it is kept there."""

import random

import pytest
from core.tests.repository.test_parts import known, rows_of

from penstock.api import PenstockError
from penstock.format.pack import SegmentId
from penstock.format.part import Row
from penstock.repository.read.table import SegmentTable
from penstock.repository.temporary import PackSizes, TemporaryTables
from penstock.repository.write.table import TableBuilder


def test_a_full_disk_is_an_error_that_says_what_to_do() -> None:
    tables = TemporaryTables("CREATE TABLE packs (pack BLOB)")
    tables._db.execute("PRAGMA max_page_count = 10")
    with pytest.raises(PenstockError, match="temporary file") as raised:
        tables.change_all("INSERT INTO packs VALUES (?)", [(bytes(4096),)] * 100)
    assert "TMPDIR" in str(raised.value.hint)
    tables.close()
    with pytest.raises(PenstockError, match="temporary file"):
        tables.rows("SELECT pack FROM packs")


def test_packs_are_met_or_missing_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.repository.temporary._PAGE", 3)
    packs = [bytes([number]) * 16 for number in range(20)]
    sizes = PackSizes()
    sizes.add(reversed(packs))
    sizes.add(packs[:5])
    assert sizes.count == 20
    sizes.met([(packs[3], 30), (packs[7], 70), (b"x" * 16, 1)])
    assert list(sizes) == packs
    assert list(sizes.missing()) == [pack for pack in packs if pack not in (packs[3], packs[7])]
    assert [sizes.size(pack) for pack in (packs[3], packs[4], packs[7], b"x" * 16)] == [30, None, 70, None]


@pytest.mark.parametrize("kept", [2, 7, 1024])
def test_rows_that_were_put_away_are_the_same_when_they_come_back(monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    monkeypatch.setattr("penstock.repository.write.table._KEPT", kept)
    monkeypatch.setattr("penstock.repository.write.table._PAGE", 4)
    monkeypatch.setattr("penstock.repository.read.table._KEPT", kept)
    monkeypatch.setattr("penstock.repository.read.table._PAGE", 4)
    chance = random.Random(1)
    packs = [known(number, 30) for number in range(40)]
    still_open = known(200, 30, pin=None)
    table = TableBuilder(7)
    numbers: dict[int, SegmentId] = {}
    used: dict[bytes, set[int]] = {}
    for _ in range(2000):
        pack = chance.choice([*packs, still_open])
        segment = SegmentId(pack.pack, chance.randrange(30))
        number = table.number(pack, segment)
        assert numbers.setdefault(number, segment) == segment
        table.use([number])
        used.setdefault(pack.pack, set()).add(segment.ordinal)
    still_open.pin = b"o" * 32
    rows = rows_of(table)
    assert [row.number for row in rows] == list(range(7, 7 + 41))
    assert {row.pack: set(row.used) for row in rows} == used
    assert {row.pack: row.pin for row in rows} == {pack.pack: pack.pin for pack in (*packs, still_open)}
    read = SegmentTable(rows)
    assert {number: read.find(number) for number in numbers} == numbers
    assert [pack for pack, _ in read.used()] == sorted(used)
    assert {row.pack: read.pin(row.pack) for row in rows} == {row.pack: (row.pin, row.segments) for row in rows}


def test_packs_of_which_nothing_is_needed_are_not_used() -> None:
    unused = Row(1, b"u" * 16, b"x" * 32, 3, frozenset())
    table = SegmentTable([unused, unused._replace(number=2, pack=b"v" * 16, used=frozenset({2}))])
    assert list(table.used()) == [(b"v" * 16, 4)]
