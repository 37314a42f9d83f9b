"""What a night put together of old rows and new ones is found by hosts that do not remember that night."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from core.tests.engine.nightly import changed, joined, rows, stored_in_segments
from core.tests.repository.forging import NOW, copied, end_of, keys, put_notice
from core.tests.repository.lab import KIB, Lab

from penstock.format.notice import Notice, Things, Tombstone
from penstock.repository.layout import id_of
from penstock.repository.read.content import each_row
from penstock.repository.trust.access import Access
from penstock.repository.trust.keyring import add_writer, revoke

NIGHTS = 4


def table_of(night: int) -> list[bytes]:
    """A table in which each night changes rows far apart, most of them in a chunk of their own."""
    table = rows(20_000)
    for number in range(1, night + 1):
        table = changed(table, list(range(100 * number, 20_000, 400)), number)
    return table


@dataclass
class Scene:
    """A repository with nights of that table; whose writer each was, and its one pack."""

    lab: Lab
    writers: list[Access]
    packs: list[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    scene = Scene(Lab(tmp_path_factory.mktemp("made")), [], [])
    for night in range(NIGHTS):
        writer = add_writer(scene.lab.repository, f"host {night}", domain="main")
        before = set(keys(scene.lab, "packs"))
        scene.lab.backup(joined(table_of(night)), by=scene.lab.open(writer))
        (pack,) = set(keys(scene.lab, "packs")) - before
        scene.writers.append(writer)
        scene.packs.append(pack)
    return scene


@pytest.fixture
def lab(made: Scene, tmp_path: Path) -> Lab:
    """A copy of it on a host that remembers nothing."""
    lab = copied(made.lab, tmp_path / "copy")
    lab.cache = tmp_path / "another host"
    return lab


@pytest.mark.slow
def test_a_night_lists_what_it_put_together_and_a_first_one_does_not(made: Scene) -> None:
    listed = [end_of(made.lab.domain, pack).chunks().assembled for pack in made.packs]
    assert len(listed[0].lengths) == 0
    for night, assembled in enumerate(listed[1:], start=1):
        # Nearly every changed row spoils a chunk of its own, or two where it moves the cut between them.
        assert 30 <= len(assembled.lengths) <= 100
        assert {id_of(pack) for pack in made.packs[:night]} >= {pack for pack, _ in assembled.packs}
        for pack, pin in assembled.packs:
            assert end_of(made.lab.domain, made.lab.at.pack_key(pack)).pin == pin


@pytest.mark.parametrize("night", range(NIGHTS))
def test_another_host_finds_all_of_any_night(lab: Lab, night: int) -> None:
    assert stored_in_segments(lab, joined(table_of(night))) == 0


def test_a_night_on_another_host_stores_the_chunks_of_its_own_changes_alone(lab: Lab) -> None:
    after_one = stored_in_segments(lab, joined(table_of(NIGHTS)))
    # 50 to 100 chunks of some 3 KiB, of which half is noise; those of the nights before would be as many each.
    assert 0 < after_one < 230 * KIB


def revoked(lab: Lab, made: Scene, night: int) -> None:
    revoke(lab.open(), made.writers[night].key)


def distrusted(lab: Lab, made: Scene, night: int) -> None:
    put_notice(lab.domain, Notice(NOW, {id_of(made.packs[night]): "damaged"}, {}), by=made.writers[-1])


def doomed(lab: Lab, made: Scene, night: int) -> None:
    put_notice(lab.domain, Tombstone(NOW, Things(packs=(id_of(made.packs[night]),))))


def gone(lab: Lab, made: Scene, night: int) -> None:
    lab.sink.delete(made.packs[night])


def another(lab: Lab, made: Scene, night: int) -> None:
    """A sound end, of another pack."""
    lab.sink.put(made.packs[night], lab.sink.get(made.packs[night - 1]))


def flipped(lab: Lab, made: Scene, night: int) -> None:
    lab.flip(made.packs[night], -200)


@pytest.mark.parametrize("harm", [revoked, distrusted, doomed, gone, another, flipped])
def test_nothing_is_made_of_a_pack_that_may_not_be_relied_on(
    lab: Lab, made: Scene, harm: Callable[[Lab, Scene, int], None]
) -> None:
    harm(lab, made, 1)
    result = lab.backup(joined(table_of(NIGHTS - 1)))
    used = {lab.at.pack_key(row.pack) for row in each_row(lab.find(result.snapshot.hex())) if row.used}
    assert made.packs[1] not in used
    assert used >= {made.packs[0], made.packs[3]}
    # What others lend is still found.
    assert result.stored < 400 * KIB
    assert lab.restored() == joined(table_of(NIGHTS - 1)).streams
