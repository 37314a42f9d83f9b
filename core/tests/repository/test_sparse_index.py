"""The sparse index holds the packs that a batch's hooks point at, likeliest first, and never too many."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from core.tests.repository.lab import MIB, Lab, noise

from penstock.api import NEVER
from penstock.format.ids import hooks
from penstock.format.index import PackSummary
from penstock.repository.known.cache import Cache
from penstock.repository.known.sparse_index import KnownPack, SparseIndex
from penstock.repository.pool import Workers
from penstock.repository.read.directories import read_pack_end
from penstock.repository.repository import Repository

PACKS = 8


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path, bytes(16), "memory", on_trouble=pytest.fail)


@pytest.fixture
def stored(tmp_path: Path, cache: Cache) -> tuple[Repository, list[PackSummary], list[bytes]]:
    """A repository with some packs of similar chunk counts, the cache's entries for them, and all their ids."""
    lab = Lab(tmp_path / "cache")
    for seed in range(PACKS):
        lab.backup({"d": noise(MIB, seed)}, cache=tmp_path / f"host {seed}")
    repository = lab.open()
    summaries, ids = [], []
    for info in sorted(lab.sink.list("packs/"), key=lambda info: info.modified or 0):
        directory, summary = read_pack_end(repository, bytes.fromhex(info.key[-32:]), info.size)
        summaries.append(summary)
        ids.append(directory.ids)
    cache.add_packs(summaries, indexed=True)
    return repository, summaries, ids


@pytest.fixture
def workers() -> Iterator[Workers]:
    with Workers(1, "penstock-test", NEVER) as made:
        yield made


def index_of(repository: Repository, cache: Cache, workers: Workers, room: int) -> SparseIndex:
    return SparseIndex(
        repository, cache, workers, directory_chunks=room, unusable=(), on_damage=lambda error: pytest.fail(str(error))
    )


def held(packs: list[KnownPack]) -> int:
    return sum(len(known.chunks) for known in packs)


def test_no_more_packs_are_loaded_than_fit(
    cache: Cache, workers: Workers, stored: tuple[Repository, list[PackSummary], list[bytes]]
) -> None:
    repository, summaries, ids = stored
    room = max(summary.chunks for summary in summaries) * 3
    index = index_of(repository, cache, workers, room)
    for _ in range(3):
        packs = index.packs_for([hook for one in ids for hook in hooks(one)])
        assert 2 <= len(packs) <= 4
        assert held(packs) <= room


def test_the_pack_that_most_hooks_point_at_is_kept_and_comes_first(
    cache: Cache, workers: Workers, stored: tuple[Repository, list[PackSummary], list[bytes]]
) -> None:
    repository, summaries, ids = stored
    index = index_of(repository, cache, workers, max(summary.chunks for summary in summaries) * 3)
    wanted = [hooks(one) for one in ids]
    best, second = 0, PACKS - 1
    batch = [*wanted[best], *wanted[second][: len(wanted[second]) // 2]]
    batch += [hook for one in wanted[1:-1] for hook in one[:1]]
    for _ in range(2):
        packs = index.packs_for(batch)
        assert wanted[best][0] in packs[0].chunks
        assert wanted[second][0] in packs[1].chunks


def test_packs_that_a_batch_hits_are_not_dropped_for_those_it_loads(
    cache: Cache, workers: Workers, stored: tuple[Repository, list[PackSummary], list[bytes]]
) -> None:
    repository, summaries, ids = stored
    index = index_of(repository, cache, workers, max(summary.chunks for summary in summaries) * 2)
    first, second, third = (hooks(one) for one in ids[:3])
    index.packs_for(first)
    index.packs_for(second)
    packs = index.packs_for([*first, *third])
    assert any(first[0] in known.chunks for known in packs)
    assert any(third[0] in known.chunks for known in packs)


def test_the_latest_packs_are_loaded_first_into_half_of_the_room(
    cache: Cache, workers: Workers, stored: tuple[Repository, list[PackSummary], list[bytes]]
) -> None:
    repository, summaries, ids = stored
    index = index_of(repository, cache, workers, max(summary.chunks for summary in summaries) * 4)
    index.warm_up()
    packs = index.packs_for([])
    assert 1 <= len(packs) <= 2
    assert hooks(ids[-1])[0] in packs[0].chunks
