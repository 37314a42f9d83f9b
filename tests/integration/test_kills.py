"""Prune is the one program that can lose everything: runs are killed outright, again and again, and nothing is lost."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.cases import SinkCase
from tests.integration.killed_run import Place
from tests.integration.killing import Kills
from tests.integration.matrix import SINKS
from tests.soak import long, times

#: How much faster time passes. Some stores tell times in whole seconds, and all that is told apart has to be longer.
_HURRY = {"filesystem": 450, "s3": 240, "gcs": 240, "azure": 240}


def kill(sink: SinkCase, folder: Path, kills: int, seed: int, factor: int) -> Kills:
    """So many kills, and what is left is what snapshots need."""
    place = Place(sink.url, dict(sink.settings), sink.environ, factor)
    history = Kills(place, folder, seed)
    try:
        history.go_on(kills)
        history.come_to_rest()
    except BaseException as error:
        error.add_note(str(history))
        raise
    print(history)
    return history


@pytest.mark.slow
@pytest.mark.parametrize("sink", ["filesystem"], indirect=True)
def test_a_few_kills_lose_nothing(sink: SinkCase, tmp_path: Path) -> None:
    history = kill(sink, tmp_path / "hosts", 12, 1, _HURRY["filesystem"])
    assert history.kills.total() >= 12


def _marks(sink: str) -> list[pytest.MarkDecorator]:
    return [*long(60), *([] if sink == "filesystem" else [pytest.mark.server])]


@pytest.mark.parametrize(
    ("sink", "kills"),
    [pytest.param(name, 1000 if name == "filesystem" else 100, marks=_marks(name), id=name) for name in SINKS],
    indirect=["sink"],
)
def test_many_kills_lose_nothing(
    sink: SinkCase, kills: int, tmp_path: Path, request: pytest.FixtureRequest, ran: Callable[..., None]
) -> None:
    name = request.node.callspec.id
    history = kill(sink, tmp_path / "hosts", times(kills), random.SystemRandom().randrange(1 << 32), _HURRY[name])
    ran(FIGURES=str(history))
    assert history.kills.total() >= times(kills)
    assert history.made["objects deleted"] > 0
