"""The sparse index holds the packs that a batch's hooks point at, likeliest first, and never too many."""

from collections.abc import Container, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from core.tests.repository.lab import MIB, Lab, noise

from penstock.api import NEVER
from penstock.api.errors import RepositoryError
from penstock.format.ids import hooks
from penstock.format.index import PackSummary
from penstock.repository.domain import Domain
from penstock.repository.known.cache import Cache
from penstock.repository.known.known_pack import KnownPack
from penstock.repository.known.sparse_index import SparseIndex
from penstock.repository.pool import Workers
from penstock.repository.read.ends import TAIL, read_end

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow

PACKS = 8
Stored = tuple[Domain, list[PackSummary], list[bytes]]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path, bytes(32), "memory", on_trouble=pytest.fail)


@pytest.fixture
def stored(tmp_path: Path, cache: Cache) -> Stored:
    """A domain with some packs of similar chunk counts, the cache's entries for them, and all their ids."""
    lab = Lab(tmp_path / "cache")
    for seed in range(PACKS):
        lab.backup({"d": noise(3 * MIB, seed)}, cache=tmp_path / f"host {seed}")
    domain = lab.open().domain
    summaries, ids = [], []
    for info in sorted(lab.sink.list(lab.at.packs), key=lambda info: info.modified or 0):
        end = read_end(domain, bytes.fromhex(info.key[-32:]), info.size, TAIL)
        summaries.append(end.summary())
        ids.append(end.chunks().ids)
    cache.add_packs(summaries)
    return domain, summaries, ids


@pytest.fixture
def workers() -> Iterator[Workers]:
    with Workers(1, "penstock-test", NEVER) as made:
        yield made


class _All:
    """As if every session were good."""

    def __contains__(self, session: object) -> bool:
        return True


ALL = _All()


def index_of(
    domain: Domain,
    cache: Cache,
    workers: Workers,
    room: int,
    *,
    sessions: Container[bytes] = ALL,
    unusable: Container[int] = (),
    told: list[RepositoryError] | None = None,
    pins: Mapping[bytes, bytes] | None = None,
) -> SparseIndex:
    """`told` takes what is said of damage; without it, there must be none."""
    return SparseIndex(
        domain,
        cache,
        workers,
        directory_chunks=room,
        sessions=sessions,
        unusable=unusable,
        on_damage=(lambda error: pytest.fail(str(error))) if told is None else told.append,
        pin=(pins or {}).get,
    )


def held(packs: list[KnownPack]) -> int:
    return sum(len(known.chunks) for known in packs)


def test_no_more_packs_are_loaded_than_fit(cache: Cache, workers: Workers, stored: Stored) -> None:
    domain, summaries, ids = stored
    room = max(summary.chunks for summary in summaries) * 3
    index = index_of(domain, cache, workers, room)
    for _ in range(3):
        packs = index.packs_for([hook for one in ids for hook in hooks(one)])
        assert 2 <= len(packs) <= 4
        assert held(packs) <= room


def test_the_pack_that_most_hooks_point_at_is_kept_and_comes_first(
    cache: Cache, workers: Workers, stored: Stored
) -> None:
    domain, summaries, ids = stored
    index = index_of(domain, cache, workers, max(summary.chunks for summary in summaries) * 3)
    wanted = [hooks(one) for one in ids]
    best, second = 0, PACKS - 1
    batch = [*wanted[best], *wanted[second][: len(wanted[second]) // 2]]
    batch += [hook for one in wanted[1:-1] for hook in one[:1]]
    for _ in range(2):
        packs = index.packs_for(batch)
        assert wanted[best][0] in packs[0].chunks
        assert wanted[second][0] in packs[1].chunks


def test_packs_that_a_batch_hits_are_not_dropped_for_those_it_loads(
    cache: Cache, workers: Workers, stored: Stored
) -> None:
    domain, summaries, ids = stored
    index = index_of(domain, cache, workers, max(summary.chunks for summary in summaries) * 2)
    first, second, third = (hooks(one) for one in ids[:3])
    index.packs_for(first)
    index.packs_for(second)
    packs = index.packs_for([*first, *third])
    assert any(first[0] in known.chunks for known in packs)
    assert any(third[0] in known.chunks for known in packs)


def test_the_latest_packs_are_loaded_first_into_half_of_the_room(
    cache: Cache, workers: Workers, stored: Stored
) -> None:
    domain, summaries, ids = stored
    index = index_of(domain, cache, workers, max(summary.chunks for summary in summaries) * 4)
    index.warm_up()
    packs = index.packs_for([])
    assert 1 <= len(packs) <= 2
    assert hooks(ids[-1])[0] in packs[0].chunks


def room_for_all(summaries: list[PackSummary]) -> int:
    return 4 * sum(summary.chunks for summary in summaries)


def packs_that_are_found(index: SparseIndex, ids: list[bytes]) -> set[bytes]:
    return {known.pack for known in index.packs_for([hook for one in ids for hook in hooks(one)])}


def test_packs_that_must_not_be_used_are_neither_loaded_first_nor_found(
    cache: Cache, workers: Workers, stored: Stored
) -> None:
    domain, summaries, ids = stored
    packs = [summary.ends.pack for summary in summaries]
    index = index_of(domain, cache, workers, room_for_all(summaries), unusable=cache.numbers([packs[0], packs[-1]]))
    index.warm_up()
    assert packs_that_are_found(index, ids) == set(packs[1:-1])
    assert index.damaged == {}


def test_packs_of_sessions_that_nobody_vouches_for_are_not_used_and_not_called_damaged(
    cache: Cache, workers: Workers, stored: Stored
) -> None:
    domain, summaries, ids = stored
    packs = [summary.ends.pack for summary in summaries]
    size = summaries[0].ends.size
    (session,) = {place.session for place in read_end(domain, packs[0], size, TAIL).places.places}
    index = index_of(domain, cache, workers, room_for_all(summaries), sessions={session})
    index.warm_up()
    assert packs_that_are_found(index, ids) == {packs[0]}
    assert index.damaged == {}


def test_a_pack_is_judged_by_its_own_end_and_not_by_what_an_index_says(
    cache: Cache, workers: Workers, stored: Stored, tmp_path: Path
) -> None:
    domain, summaries, ids = stored
    with Cache(tmp_path / "another", bytes(32), "memory", on_trouble=pytest.fail) as misled:
        # As an index object says that was signed by whoever wants these packs to be of no use.
        for summary in summaries:
            ends = replace(summary.ends, ids_length=1, places_length=1)
            misled.add_packs([replace(summary, ends=ends)])
        index = index_of(domain, misled, workers, room_for_all(summaries))
        assert packs_that_are_found(index, ids) == {summary.ends.pack for summary in summaries}


@pytest.mark.parametrize("fate", ["gone", "damaged"])
def test_a_pack_that_is_not_what_was_written_is_told_of_once_and_never_asked_for_again(
    cache: Cache, workers: Workers, stored: Stored, fate: str
) -> None:
    domain, summaries, ids = stored
    pack = summaries[3].ends.pack
    key = domain.at.pack_key(pack)
    data = domain.sink.get(key)
    domain.sink.delete(key)
    if fate == "damaged":
        domain.sink.put(key, data[:-200] + bytes(200))
    told: list[RepositoryError] = []
    index = index_of(domain, cache, workers, room_for_all(summaries), told=told)
    for _ in range(3):
        assert packs_that_are_found(index, ids) == {one.ends.pack for one in summaries if one.ends.pack != pack}
    assert [key in str(error) for error in told] == [True]
    assert set(index.damaged) == ({pack} if fate == "damaged" else set())


def test_a_pack_that_is_not_the_one_that_was_used_before_is_not_used(
    cache: Cache, workers: Workers, stored: Stored
) -> None:
    domain, summaries, ids = stored
    packs = [summary.ends.pack for summary in summaries]
    pins = {one.ends.pack: read_end(domain, one.ends.pack, one.ends.size, TAIL).pin for one in summaries[:2]}
    told: list[RepositoryError] = []
    index = index_of(
        domain, cache, workers, room_for_all(summaries), told=told, pins={**pins, packs[1]: b"another pin".ljust(32)}
    )
    assert packs_that_are_found(index, ids) == {packs[0], *packs[2:]}
    assert [domain.at.pack_key(packs[1]) in str(error) for error in told] == [True]
    assert set(index.damaged) == {packs[1]}
