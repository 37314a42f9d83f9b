"""The cache is only a cache: whatever becomes of it, a backup is as right as without it."""

import random
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from core.tests.repository.lab import KIB, MIB, Lab, noise

from penstock.api import PenstockError
from penstock.format.index import PackSummary
from penstock.repository.known.cache import Cache
from penstock.repository.snapshots import list_snapshots

CONTENT = noise(3 * MIB)


def file_of(lab: Lab) -> Path:
    (path,) = lab.cache.glob("*/cache.sqlite3")
    return path


def delete(path: Path) -> None:
    for leftover in path.parent.iterdir():
        leftover.unlink()


def garble(path: Path) -> None:
    path.write_bytes(noise(path.stat().st_size))


def garble_the_end(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(noise(size - size // 2))


def garble_every_page_a_little(path: Path) -> None:
    data = bytearray(path.read_bytes())
    chance = random.Random(3)
    for start in range(4096, len(data), 4096):
        for _ in range(8):
            data[start + chance.randrange(64)] = chance.randrange(256)
    path.write_bytes(data)


def cut_in_half(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def age(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")


def drop_a_table(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("DROP TABLE hooks")


def forget_everything(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for table in ("packs", "pack_sessions", "hooks", "sessions", "seen"):
            db.execute(f"DELETE FROM {table}")


@pytest.mark.parametrize(
    "fate",
    [delete, garble, garble_the_end, garble_every_page_a_little, cut_in_half, empty, age, forget_everything],
)
def test_a_cache_that_was_lost_or_damaged_is_made_again(lab: Lab, fate: Callable[[Path], None]) -> None:
    lab.backup({"d": CONTENT})
    fate(file_of(lab))
    result = lab.backup({"d": CONTENT})
    assert result.stored < 32 * KIB
    assert result.warnings == ()
    assert lab.restored() == {"d": CONTENT}
    assert lab.check(cache=lab.cache).findings == ()
    assert lab.backup({"d": CONTENT}).stored < 32 * KIB


def test_a_cache_without_hooks_costs_space_and_nothing_else(lab: Lab) -> None:
    lab.backup({"d": CONTENT})
    drop_a_table(file_of(lab))
    lab.backup({"d": CONTENT})
    assert lab.restored() == {"d": CONTENT}
    assert lab.check().findings == ()


def test_a_place_that_cannot_hold_a_cache_is_said_before_the_dump_goes_on(lab: Lab, tmp_path: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.write_bytes(b"")
    with pytest.raises(PenstockError, match="cannot use the cache") as raised:
        lab.backup({"d": b"1"}, cache=blocked)
    assert "--cache-dir" in str(raised.value.hint)
    assert list_snapshots(lab.open()) == []


def test_a_cache_that_fails_during_a_backup_is_named(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Cache, "add_packs", full)
    with pytest.raises(PenstockError, match="disk is full") as raised:
        lab.backup({"d": noise(MIB)})
    assert "cache.sqlite3" in str(raised.value)
    assert list_snapshots(lab.open()) == []


def test_two_processes_may_share_a_cache(tmp_path: Path) -> None:
    pack = PackSummary(bytes(16), 1, 0, 1, 1, (bytes(16),), (bytes(16),))
    errors = []

    def use(number: int) -> None:
        try:
            for turn in range(20):
                with Cache(tmp_path, bytes(16)) as cache:
                    cache.add_packs([pack], indexed=bool(turn % 2))
                    cache.saw([f"packs/{number}/{turn}"])
                    assert cache.packs() == {bytes(16): True} or turn == 0
        except BaseException as error:  # noqa: BLE001 - told below, by the thread that may fail a test
            errors.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with Cache(tmp_path, bytes(16)) as cache:
        assert len(cache.seen()) == 80
