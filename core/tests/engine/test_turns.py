"""A part of the data in each run: all of it within the time that is said, and never all of it at once."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from core.tests.repository.lab import MIB, Lab, noise

from penstock.engine import CheckReport, check
from penstock.engine.checking import turns
from penstock.repository.known.cache import Cache
from penstock.repository.known.cache_file import cache_file

pytestmark = pytest.mark.slow

WITHIN = timedelta(days=10)
DAY = 86400.0


class Clock:
    """The host's."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(turns, "time", made)
    return made


@pytest.fixture
def packs(lab: Lab) -> set[str]:
    """Twenty nights, each with a pack."""
    for number in range(20):
        lab.backup({"d": noise(MIB // 8, number)}, cache=lab.cache / "a writer")
    found = set(lab.keys(lab.at.packs))
    assert len(found) == 20
    return found


def run(lab: Lab, cache: Path, clock: Clock, after: float = DAY, **options: Any) -> CheckReport:
    """A check some time after the last one."""
    clock.now += after
    return check(lab.open(), read_data=True, within=WITHIN, cache_dir=cache, listener=lab.events.append, **options)


def read(lab: Lab, cache: Path, clock: Clock, after: float = DAY) -> set[str]:
    """The packs that a check reads."""
    before = readings(lab, cache)
    report = run(lab, cache, clock, after)
    assert (report.finding_count, report.packs, report.in_part) == (0, len(lab.keys(lab.at.packs)), True)
    found = {key for key, at in readings(lab, cache).items() if before.get(key) != at and at == clock.now}
    assert report.read == sum(lab.sink.stat(key).size for key in found)
    return found


def readings(lab: Lab, cache: Path) -> dict[str, float]:
    with Cache(cache, lab.domain.scope, lab.sink.location, on_trouble=pytest.fail) as known:
        return {lab.at.pack_key(pack): at for pack, at in known.readings()}


def test_ten_days_read_all_of_it_a_tenth_at_a_time(lab: Lab, packs: set[str], clock: Clock, tmp_path: Path) -> None:
    days = [read(lab, tmp_path, clock) for _ in range(10)]
    assert set().union(*days) == packs
    assert {len(one) for one in days} <= {1, 2, 3}
    assert read(lab, tmp_path, clock) & days[0], "those that were read the longest ago come first again"


def test_who_misses_days_catches_up(lab: Lab, packs: set[str], clock: Clock, tmp_path: Path) -> None:
    first = read(lab, tmp_path, clock)
    later = read(lab, tmp_path, clock, after=5 * DAY)
    assert len(later) >= 10
    assert not first & later
    assert len(read(lab, tmp_path, clock, after=365 * DAY)) == len(packs)
    assert read(lab, tmp_path, clock, after=0) == set()
    assert read(lab, tmp_path, clock, after=-30 * DAY) == set(), "a clock that was set back"
    assert len(read(lab, tmp_path, clock)) <= 3


def test_what_comes_and_goes_is_no_obstacle(lab: Lab, packs: set[str], clock: Clock, tmp_path: Path) -> None:
    read(lab, tmp_path, clock)
    lab.backup({"d": noise(MIB // 8, 99)}, cache=lab.cache / "a writer")
    (new,) = set(lab.keys(lab.at.packs)) - packs
    found = [new in read(lab, tmp_path, clock) for _ in range(11)]
    assert sum(found) == 1


def test_damage_is_found_when_it_is_the_turn_of_the_pack(
    lab: Lab, packs: set[str], clock: Clock, tmp_path: Path
) -> None:
    for key in packs:
        lab.flip(key, 100)
    reports = [run(lab, tmp_path, clock) for _ in range(10)]
    assert 1 <= reports[0].finding_count <= 3
    assert {one.key for report in reports for one in report.findings} == packs


def test_who_remembers_nothing_reads_others_each_time(lab: Lab, packs: set[str], clock: Clock, tmp_path: Path) -> None:
    found: set[str] = set()
    for number in range(200):
        if found == packs:
            break
        folder = tmp_path / str(number % 2)
        found |= read(lab, folder, clock)
        cache_file(folder, lab.domain.scope, lab.sink.location).unlink()
    assert found == packs


def test_what_was_read_before_a_kill_is_not_read_again(
    lab: Lab, packs: set[str], clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    noted = turns.Turns.read
    done: list[str] = []

    def read_some(self: turns.Turns, key: str) -> None:
        noted(self, key)
        done.append(key)
        if len(done) == 1:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(turns.Turns, "read", read_some)
        with pytest.raises(Killed):
            run(lab, tmp_path, clock)
    assert set(done).isdisjoint(read(lab, tmp_path, clock))
