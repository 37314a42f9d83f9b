"""A cache that others could have prepared is not used: the run goes on without it, and says so."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from core.tests.repository.lab import KIB, Lab, noise

from penstock.repository.known.cache import Cache
from penstock.repository.known.cache_file import cache_file

CONTENT = {"d": noise(50 * KIB)}


def given_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It belongs to another user; or this user is another, where only root may give files away."""
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)


def writable(path: Path, _: pytest.MonkeyPatch) -> None:
    path.chmod(path.stat().st_mode | 0o002)


@pytest.mark.parametrize("harm", [given_away, writable])
@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_a_cache_that_others_can_write_is_not_used(
    lab: Lab, level: int, harm: Callable[[Path, pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file, its folder, the one of the repository, and the one of all caches."""
    lab.backup(CONTENT)
    file = cache_file(lab.cache, lab.domain.scope, lab.sink.location)
    before = file.read_bytes()
    harm((file, *file.parents)[level], monkeypatch)
    told: list[str] = []
    with Cache(lab.cache, lab.domain.scope, lab.sink.location, on_trouble=told.append) as cache:
        assert list(cache.seen()) == []
    assert len(told) == 1
    assert "others can write" in told[0]
    # What is stored is found in the repository all the same.
    assert lab.backup(CONTENT).packs == 0
    assert lab.restored() == CONTENT
    assert file.read_bytes() == before


def test_a_cache_of_ones_own_is_used(lab: Lab) -> None:
    lab.backup(CONTENT)
    told: list[str] = []
    with Cache(lab.cache, lab.domain.scope, lab.sink.location, on_trouble=told.append) as cache:
        assert list(cache.seen()) != []
    assert told == []
