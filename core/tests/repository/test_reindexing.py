"""Index objects made of packs: each pack is named again, once, and only packs on which a writer may rely."""

from datetime import UTC, datetime

import pytest
from core.tests.repository.lab import KIB, Lab, noise

from penstock.api import NEVER
from penstock.repository import layout
from penstock.repository.notices import distrust
from penstock.repository.pool import Workers
from penstock.repository.repository import put_new
from penstock.repository.snapshots import list_snapshots
from penstock.repository.trust.keyring import add_writer, revoke
from penstock.repository.upkeep.indexes import read_index
from penstock.repository.upkeep.reindexing import Reindexed, let_go, reindex

pytestmark = pytest.mark.slow


def reindexed(lab: Lab) -> Reindexed:
    """As after the last backup has ended."""
    repository = lab.open()
    ended = {entry.session for entry in list_snapshots(repository)}
    with Workers(2, "test", NEVER) as workers:
        return reindex(
            repository.domain, workers, ended, datetime.now(UTC), lambda key, data: put_new(lab.sink, key, data)
        )


def named(lab: Lab) -> list[str]:
    """The packs that index objects name, each as often as it is named."""
    found = []
    for info in lab.sink.list(lab.at.index):
        read = read_index(lab.domain, info)
        assert read is not None
        found += [lab.at.pack_key(one.pack) for one in read.packs]
    return sorted(found)


def delete_indexes(lab: Lab) -> list[bytes]:
    gone = sorted(lab.keys(lab.at.index))
    lab.sink.delete_many(gone)
    return list(map(layout.id_of, gone))


def test_each_pack_is_named_again_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for night in range(3):
        lab.backup({"d": noise(50 * KIB, night)})
    assert reindexed(lab) == (0, True)
    gone = delete_indexes(lab)
    monkeypatch.setattr("penstock.repository.upkeep.reindexing.PACKS_AN_INDEX", 2)
    assert reindexed(lab) == (3, True)
    assert named(lab) == sorted(lab.keys(lab.at.packs))
    assert len(lab.keys(lab.at.index)) == 2
    assert reindexed(lab) == (0, True)
    # A host without a cache finds everything.
    again = lab.backup({"d": noise(50 * KIB, 1)}, cache=lab.cache.parent / "fresh")
    assert again.stored < 50 * KIB
    # The heads of their runs name those that are gone.
    assert lab.check().finding_count == 3
    with Workers(2, "test", NEVER) as workers:
        let_go(lab.domain, workers, gone, pytest.fail)
    assert not lab.check().findings


def test_packs_that_no_writer_may_rely_on_stay_unnamed(lab: Lab) -> None:
    writer = add_writer(lab.repository, "stolen", domain="main")
    lab.backup({"d": noise(50 * KIB, 1)}, by=lab.open(writer))
    before = lab.keys(lab.at.packs)
    lab.backup({"d": noise(50 * KIB, 2)})
    (mine,) = lab.keys(lab.at.packs) - before
    revoke(lab.repository, writer.key)
    delete_indexes(lab)
    distrust(lab.domain, {layout.id_of(mine): "damaged"})
    assert reindexed(lab) == (0, True)
    assert not named(lab)


def test_what_a_revoked_writer_says_of_packs_counts_for_nothing(lab: Lab) -> None:
    lab.backup({"d": noise(50 * KIB, 1)})
    (pack,) = lab.keys(lab.at.packs)
    delete_indexes(lab)
    writer = add_writer(lab.repository, "stolen", domain="main")
    (domain,) = lab.open(writer).domains
    with Workers(2, "test", NEVER) as workers:
        ended = {entry.session for entry in list_snapshots(lab.open())}
        made = reindex(domain, workers, ended, datetime.now(UTC), lambda key, data: put_new(lab.sink, key, data))
    assert made == (1, True)
    assert reindexed(lab) == (0, True)
    revoke(lab.repository, writer.key)
    assert reindexed(lab) == (1, True)
    assert named(lab) == [pack, pack]
