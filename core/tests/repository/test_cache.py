"""The cache is only a cache: whatever happens to it, a backup is as correct as without it."""

import random
import shutil
import sqlite3
import threading
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from core.tests.repository.lab import KIB, MIB, BytesSource, Lab, noise

from penstock.api import DumpStream, StreamSpec
from penstock.format.index import PackEnds, PackSummary
from penstock.repository.known import cache_file as cache_module
from penstock.repository.known.cache import Cache, SeenHead
from penstock.repository.known.cache_file import cache_file

CONTENT = noise(3 * MIB)


SCOPE = bytes(range(32))


def cache_in(folder: Path) -> Cache:
    return Cache(folder, SCOPE, "file:///here", on_trouble=pytest.fail)


def file_of(lab: Lab) -> Path:
    (path,) = lab.cache.glob("*/*/cache.sqlite3")
    assert path == cache_file(lab.cache, lab.domain.scope, lab.sink.location)
    return path


def summary(pack: bytes, chunks: int = 1, hooks: tuple[bytes, ...] = (), size: int = 1) -> PackSummary:
    return PackSummary(PackEnds(pack, size, 4096, 4097), chunks, hooks)


def by_pack(packs: list[PackSummary]) -> list[PackSummary]:
    return sorted(packs, key=lambda one: one.ends.pack)


def delete(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.mkdir()


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
        for table in ("packs", "distrusted", "hooks", "sessions", "heads", "seen"):
            db.execute(f"DELETE FROM {table}")


#: What was stored is found in the past stream, or by the sparse index.
PASTS = ["kept", "lost"]


def maybe_forget(lab: Lab, past: str) -> None:
    if past == "lost":
        lab.forget_past()


def overdue(path: Path) -> None:
    """Make the next opening look for damage."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("DELETE FROM upkeep")


@pytest.mark.slow
@pytest.mark.parametrize(
    "fate",
    [delete, garble, garble_the_end, garble_every_page_a_little, cut_in_half, empty, age, forget_everything],
)
@pytest.mark.parametrize("past", PASTS)
def test_a_lost_or_damaged_cache_is_rebuilt(lab: Lab, fate: Callable[[Path], None], past: str) -> None:
    lab.backup({"d": CONTENT})
    overdue(file_of(lab))
    maybe_forget(lab, past)
    fate(file_of(lab))
    result = lab.backup({"d": CONTENT})
    assert result.stored < 32 * KIB
    assert result.warnings == ()
    assert lab.restored() == {"d": CONTENT}
    assert lab.check(cache=lab.cache).findings == ()
    assert lab.backup({"d": CONTENT}).stored < 32 * KIB


@pytest.mark.slow
@pytest.mark.parametrize("fate", [garble_the_end, garble_every_page_a_little])
@pytest.mark.parametrize("past", PASTS)
def test_damage_found_during_use_is_reported_and_gone_on_the_next_run(
    lab: Lab, fate: Callable[[Path], None], past: str
) -> None:
    lab.backup({"d": CONTENT})
    maybe_forget(lab, past)
    fate(file_of(lab))
    told = lab.backup({"d": CONTENT}).warnings
    assert len(told) <= 1
    assert all("goes on without it" in one for one in told)
    assert lab.restored() == {"d": CONTENT}
    if not told:  # the damage is where nothing was read
        overdue(file_of(lab))
    result = lab.backup({"d": CONTENT})
    assert result.stored < 32 * KIB
    assert lab.restored() == {"d": CONTENT}


@pytest.mark.slow
@pytest.mark.parametrize("past", PASTS)
def test_a_cache_without_hooks_costs_space_and_nothing_else(lab: Lab, past: str) -> None:
    lab.backup({"d": CONTENT})
    maybe_forget(lab, past)
    drop_a_table(file_of(lab))
    lab.backup({"d": CONTENT})
    assert lab.restored() == {"d": CONTENT}
    assert lab.check().findings == ()


def test_a_backup_continues_without_a_place_for_the_cache(lab: Lab, tmp_path: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.write_bytes(b"")
    lab.backup({"d": CONTENT})
    result = lab.backup({"d": CONTENT}, cache=blocked)
    (told,) = result.warnings
    assert "cannot be used" in told
    assert str(blocked) in told
    assert result.stored < 32 * KIB, "in memory it does the same"
    assert lab.restored() == {"d": CONTENT}


def fill_the_disk(monkeypatch: pytest.MonkeyPatch, pages: int = 0) -> None:
    """Keep the file from growing, as on a full disk; with `pages`, by more than that."""
    prepared = cache_module._prepared

    def full(path: Path, schema: str, version: int) -> sqlite3.Connection:
        db = prepared(path, schema, version)
        (count,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {count + pages}")
        return db

    monkeypatch.setattr(cache_module, "_prepared", full)


@pytest.mark.slow
@pytest.mark.parametrize("pages", [0, 3])
@pytest.mark.parametrize("past", PASTS)
def test_a_full_cache_disk_does_not_end_a_backup(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, pages: int, past: str
) -> None:
    content = noise(24 * MIB)
    lab.backup({"d": content})
    maybe_forget(lab, past)
    with monkeypatch.context() as patch:
        fill_the_disk(patch, pages)
        result = lab.backup({"d": content + noise(20 * MIB, 9)})
    (told,) = result.warnings
    assert "full" in told
    assert "goes on without it" in told
    assert result.stored < 21 * MIB, "what was known before is still known"
    assert lab.restored()["d"][:1000] == content[:1000]
    assert lab.check().findings == ()
    assert lab.backup({"d": content}).warnings == ()


@pytest.mark.slow
@pytest.mark.parametrize("past", PASTS)
def test_a_cache_too_large_to_copy_is_still_read_when_it_cannot_be_written(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, past: str
) -> None:
    lab.backup({"d": CONTENT})
    maybe_forget(lab, past)
    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "_COPY_BYTES", 0)
        fill_the_disk(patch)
        result = lab.backup({"d": CONTENT + noise(5 * MIB, 9)})
    assert len(result.warnings) <= 1
    assert result.stored < 5.5 * MIB
    assert lab.check().findings == ()


def test_errors_of_another_sqlite_database_pass_through(lab: Lab) -> None:
    class Broken(BytesSource):
        def attach(self, spec: StreamSpec) -> DumpStream:
            raise sqlite3.OperationalError("no such table: accounts")

    with pytest.raises(sqlite3.OperationalError, match="accounts"):
        lab.backup(Broken({"d": b"1"}))


def test_two_places_of_one_repository_have_separate_caches(tmp_path: Path) -> None:
    def cache(place: str) -> Cache:
        return Cache(tmp_path, SCOPE, place, on_trouble=pytest.fail)

    until = datetime.now(UTC) + timedelta(days=9)
    with cache("s3://one") as one, cache("gs://two") as two:
        one.saw(["snapshots/00"])
        one.add_locks(["packs/00"], until)
        one.distrust(bytes(16), "damaged there")
        assert list(two.seen()) == []
        assert two.locks(["packs/00"]) == {}
        assert two.distrusted() == {}
        assert one.locks(["packs/00", "packs/01"]) == {"packs/00": until}


def test_two_domains_of_one_repository_have_separate_caches(tmp_path: Path) -> None:
    scopes = [bytes(16) + bytes([number]) * 16 for number in (1, 2)]
    one, two = (Cache(tmp_path, scope, "s3://one", on_trouble=pytest.fail) for scope in scopes)
    with one, two:
        one.saw(["packs/00"])
        one.add_packs([summary(bytes(16), hooks=(bytes(16),))])
        one.add_heads([SeenHead(bytes(16), bytes(16), 1, bytes(32), bytes(16), "", None)])
        assert list(two.seen()) == []
        assert list(two.find([bytes(16)])) == []
        assert two.heads() == []
    assert len({cache_file(tmp_path, scope, "s3://one") for scope in scopes}) == 2


def test_forgetting_a_pack_touches_only_its_own_hooks(tmp_path: Path) -> None:
    with cache_in(tmp_path) as cache:
        plan = cache.rows("EXPLAIN QUERY PLAN DELETE FROM hooks WHERE number = 7")
    assert "USING COVERING INDEX hooks_of_pack" in str(plan) or "USING INDEX hooks_of_pack" in str(plan)


def test_what_was_seen_is_read_in_pages_and_by_prefix(tmp_path: Path) -> None:
    keys = sorted([f"packs/{number:06}" for number in range(25_000)] + ["index/a", "index/b", "indexes", "sessions/a"])
    with cache_in(tmp_path) as cache:
        cache.saw(keys)
        assert list(cache.seen()) == keys
        assert list(cache.seen("index/")) == ["index/a", "index/b"]
        tracemalloc.start()
        assert sum(1 for _ in cache.seen("packs/")) == 25_000
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 10_000 * 300, "less than all of them take"


def test_what_must_not_be_used_is_found_by_the_packs_own_names(tmp_path: Path) -> None:
    packs = [bytes([number]) * 16 for number in range(5)]
    with cache_in(tmp_path) as cache:
        cache.add_packs(map(summary, packs))
        assert cache.numbers([packs[3], b"unknown" * 2 + b"12", packs[1]]) == {2, 4}
        assert cache.numbers([]) == set()
        plan = cache.rows("EXPLAIN QUERY PLAN SELECT number FROM packs WHERE pack = x'00'")
    assert "USING COVERING INDEX" in str(plan) or "USING INDEX" in str(plan)


def test_a_damaged_pack_stays_distrusted_for_the_first_reason_and_when_it_was_forgotten(tmp_path: Path) -> None:
    with cache_in(tmp_path) as cache:
        cache.add_packs([summary(bytes(16))])
        cache.distrust(bytes(16), "a segment is damaged")
        cache.distrust(bytes(16), "something else")
        cache.forget_packs([bytes(16)])
    with cache_in(tmp_path) as cache:
        assert cache.distrusted() == {bytes(16): "a segment is damaged"}
        assert cache.numbers([bytes(16)]) == set()


def test_heads_are_kept_as_they_were_seen(tmp_path: Path) -> None:
    first = SeenHead(b"1" * 16, b"w" * 16, 1, b"d" * 32, b"n" * 16, "2026-01-31T12:00:00.000000Z", None)
    second = first._replace(snapshot=b"2" * 16, sequence=2, parent=b"1" * 16)
    with cache_in(tmp_path) as cache:
        cache.add_heads([first, second])
        cache.add_heads([second])
    with cache_in(tmp_path) as cache:
        assert sorted(cache.heads()) == [first, second]


def test_the_first_word_about_a_session_stands(tmp_path: Path) -> None:
    with cache_in(tmp_path) as cache:
        cache.add_sessions([(b"s" * 16, b"w" * 16)])
        cache.add_sessions([(b"s" * 16, b"x" * 16), (b"t" * 16, b"x" * 16)])
        assert cache.sessions() == {b"s" * 16: b"w" * 16, b"t" * 16: b"x" * 16}


def test_a_listing_tells_new_packs_and_packs_of_another_size_from_known_ones(tmp_path: Path) -> None:
    packs = [bytes([number]) * 16 for number in range(4)]
    with cache_in(tmp_path) as cache:
        cache.add_packs(summary(pack, size=100) for pack in packs[:3])
        listing = cache.unlisted()
        assert listing.page([(packs[0], 100), (packs[1], 101)]) == {packs[0]}
        assert listing.page([(packs[3], 100)]) == set()
        assert list(listing.gone()) == [packs[2]]


@pytest.mark.slow
def test_a_listing_of_many_packs_is_compared_in_pages(tmp_path: Path) -> None:
    packs = [number.to_bytes(16, "big") for number in range(25_000)]
    with cache_in(tmp_path) as cache:
        cache.add_packs(map(summary, packs))
        tracemalloc.start()
        listing = cache.unlisted()
        for start in range(0, len(packs) - 1000, 1000):
            assert len(listing.page([(pack, 1) for pack in packs[start : start + 1000]])) == 1000
        gone = sum(1 for _ in listing.gone())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert gone == 1000
    assert peak < 10_000 * 300, "less than all of them take"


def test_a_pack_that_an_index_lists_again_keeps_its_number(tmp_path: Path) -> None:
    with cache_in(tmp_path) as cache:
        cache.add_packs([summary(b"1" * 16, 7, (b"h" * 16,)), summary(b"2" * 16)])
        cache.add_packs([summary(b"1" * 16, 7, (b"h" * 16,))], index=b"i" * 16)
        assert list(cache.find([b"h" * 16])) == [(b"h" * 16, 1)]
        assert cache.place(1) == (PackEnds(b"1" * 16, 1, 4096, 4097), 7)
        assert cache.latest(1000) == [2, 1]
        assert cache.place(3) is None


def test_small_index_objects_are_found_with_all_that_they_say(tmp_path: Path) -> None:
    one = [summary(b"1" * 16, 60, (b"h" * 16, b"i" * 16)), summary(b"2" * 16, 3, (b"h" * 16,))]
    other, large = summary(b"3" * 16, 64), summary(b"4" * 16, 6400)
    with cache_in(tmp_path) as cache:
        cache.add_packs([*one, other, large, summary(b"5" * 16)])
        for index, packs in ((b"a" * 16, one), (b"b" * 16, [other]), (b"c" * 16, [large])):
            cache.add_packs(packs, index=index)
        assert cache.small_indexes(1, 100) == [b"a" * 16]
        assert cache.small_indexes(10, 100) == [b"a" * 16, b"b" * 16]
        assert cache.small_indexes(1000, 100) == [b"a" * 16, b"b" * 16, b"c" * 16]
        assert cache.small_indexes(1000, 2) == [b"b" * 16, b"c" * 16]
        assert by_pack(cache.packs_of([b"b" * 16, b"a" * 16])) == [*one, other]
        # In the place of both, which say nothing more than this one.
        cache.add_packs([*one, other], index=b"d" * 16)
        assert cache.small_indexes(10, 100) == [b"d" * 16]
        cache.add_packs([other])
        assert cache.packs_of([b"a" * 16, b"b" * 16]) == []
        assert by_pack(cache.packs_of([b"d" * 16])) == [*one, other]


def test_the_whole_file_is_checked_only_once_in_a_while(tmp_path: Path) -> None:
    def looked() -> float:
        with cache_in(tmp_path) as cache:
            ((time,),) = cache.rows("SELECT time FROM upkeep")
            return float(time)

    first = looked()
    assert looked() == first
    with cache_in(tmp_path) as cache:
        cache._note("UPDATE upkeep SET time = time - ?", [(8 * 86400,)])
    assert looked() > first


def test_the_latest_packs_are_returned_as_far_as_they_fit(tmp_path: Path) -> None:
    with cache_in(tmp_path) as cache:
        for number in range(5):
            cache.add_packs([summary(bytes([number]) * 16, 1000)])
        assert cache.latest(3500) == [5, 4, 3]
        assert cache.latest(999) == []
        assert cache.latest(10**6) == [5, 4, 3, 2, 1]


def test_two_processes_may_share_a_cache(tmp_path: Path) -> None:
    pack = summary(bytes(16), hooks=(bytes(16),))
    errors = []

    def use(number: int) -> None:
        try:
            for turn in range(20):
                with cache_in(tmp_path) as cache:
                    cache.add_packs([pack], index=bytes([turn]) * 16 if turn % 2 else None)
                    cache.saw([f"packs/{number}/{turn}"])
                    assert list(cache.find([bytes(16)])) == [(bytes(16), 1)]
        except BaseException as error:  # noqa: BLE001 - reported below, by the thread that can fail a test
            errors.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with cache_in(tmp_path) as cache:
        assert len(list(cache.seen())) == 80
