"""A bucket that is set back, or hides an end: it is seen wherever anybody's later word survives."""

from collections.abc import Callable
from pathlib import Path

import pytest
from core.tests.repository.forging import copied, put_head
from core.tests.repository.lab import KIB, Lab, noise

from penstock.api import EventKind
from penstock.format.times import now
from penstock.repository import Access, layout
from penstock.repository.trust.keyring import add_maintainer, add_writer, revoke
from penstock.testing import MemorySink

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow


class Scene:
    """Two hosts take turns; the owner changes keys in between. `contents` is the bucket after each step."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.contents: list[dict[str, bytes]] = []
        self.one = add_writer(lab.repository, "prod-db", domain="main")
        self.two = add_writer(lab.repository, "second host", domain="main")
        self.stolen = add_writer(lab.repository, "stolen", domain="main")
        self.maintainer = add_maintainer(lab.repository, "operations")
        self.step(lambda: self.backup(self.one, 0))
        self.step(lambda: self.backup(self.stolen, 1))
        self.step(lambda: self.backup(self.two, 2))
        self.step(lambda: revoke(lab.open(), self.stolen.key))
        self.step(lambda: self.backup(self.one, 3))
        self.step(lambda: self.backup(self.two, 4))

    def backup(self, by: Access, night: int) -> None:
        name = f"shop of {by.label}"
        self.lab.backup({"d": noise(20 * KIB, night)}, by=self.lab.open(by), name=name, cache=self.host(by))

    def host(self, by: Access) -> Path:
        return self.lab.cache / by.key.hex()

    def step(self, act: Callable[[], object]) -> None:
        act()
        assert isinstance(self.lab.sink, MemorySink)
        self.contents.append(self.lab.sink.contents())

    def set_back(self, moment: int, *, but: str | None = None) -> None:
        """The bucket as it was after a step, and `but` one object, or those under a prefix, of now."""
        assert isinstance(self.lab.sink, MemorySink)
        for key in self.lab.keys() - self.contents[moment].keys():
            if but is None or not key.startswith(but):
                self.lab.sink.delete(key)
        for key, data in self.contents[moment].items():
            self.lab.sink.put(key, data)

    def problems(self, access: Access, cache: Path | None = None) -> list[str]:
        lab = self.lab
        return [one.problem for one in lab.check(by=lab.open(access), read_data=False, cache=cache).findings]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(Lab(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def scene(original: Scene, tmp_path: Path) -> Scene:
    scene = object.__new__(Scene)
    scene.__dict__.update(original.__dict__)
    scene.lab = copied(original.lab, tmp_path / "cache")
    return scene


LAST = 5
ACCESS = ["owner", "maintainer", "one", "two"]


def access_of(scene: Scene, who: str) -> Access:
    return scene.lab.owner if who == "owner" else getattr(scene, who)


def test_a_bucket_as_it_is_is_in_order(scene: Scene) -> None:
    for who in ACCESS:
        assert scene.problems(access_of(scene, who)) == []


@pytest.mark.parametrize("moment", range(LAST))
def test_a_host_that_has_seen_more_says_so_and_goes_on(scene: Scene, moment: int) -> None:
    """Whatever the bucket was set back to: the host's own memory suffices, and its next backup is restorable."""
    lab = scene.lab
    scene.set_back(moment)
    assert scene.problems(scene.two, scene.host(scene.two)) != []
    lab.find("latest", cache=scene.host(scene.two))
    assert any("may be a later one" in warning for warning in lab.warnings)
    lab.events.clear()
    scene.backup(scene.two, 9)
    assert any("gone" in event.message for event in lab.events if event.kind is EventKind.WARNING)
    assert lab.restored("latest:shop of second host") == {"d": noise(20 * KIB, 9)}
    # From now on, everybody can see it: the new head follows one that is not there.
    for who in ACCESS:
        assert scene.problems(access_of(scene, who)) != []


@pytest.mark.parametrize("moment", range(LAST))
def test_one_later_head_of_another_writer_is_enough_for_everybody(scene: Scene, moment: int) -> None:
    """The bucket keeps the newest head of one writer, and nothing else that came later."""
    lab = scene.lab
    newest = lab.at.snapshot_key(lab.find("latest").id)
    scene.set_back(moment, but=newest)
    for who in ACCESS:
        assert any("gone" in problem for problem in scene.problems(access_of(scene, who)))


@pytest.mark.parametrize("who", ACCESS)
def test_a_hidden_revocation_is_seen_by_the_session_of_any_writer_that_came_later(scene: Scene, who: str) -> None:
    lab = scene.lab
    revocation = max(lab.keys(layout.GRANTS) - self_keys(scene, 2))
    lab.sink.delete(revocation)
    assert any("the log was cut" in problem for problem in scene.problems(access_of(scene, who)))


def self_keys(scene: Scene, moment: int) -> set[str]:
    """The entries of the log at a moment."""
    return {key for key in scene.contents[moment] if key.startswith(layout.GRANTS)}


def test_who_restores_is_told_of_a_hidden_revocation(scene: Scene) -> None:
    """A thief with the bucket: the end of his key is hidden, and his snapshot is the latest again."""
    lab = scene.lab
    honest = lab.find("latest:shop of second host")
    (revocation,) = self_keys(scene, LAST) - self_keys(scene, 2)
    put_head(honest, scene.stolen, finished=now())
    assert lab.find("latest").id == honest.id
    lab.sink.delete(revocation)
    assert lab.find("latest").writer == scene.stolen.key
    assert any("the log was cut" in warning for warning in lab.warnings)
    # And by id, where the snapshot's own session is one that saw it.
    lab.find(honest.id.hex())
    assert any("the log was cut" in warning for warning in lab.warnings)


def test_who_restores_is_told_nothing_of_a_whole_log(scene: Scene) -> None:
    lab = scene.lab
    for name in ("latest", "latest:shop of prod-db", lab.find("latest").id.hex()):
        lab.find(name)
        assert not any("the log was cut" in warning for warning in lab.warnings)
