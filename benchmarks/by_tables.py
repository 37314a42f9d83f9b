"""PostgreSQL by tables, with one job and with two, beside the archive and beside pg_dump's own jobs.

    python -m benchmarks.by_tables [--scale N] [--rounds N] [--nights N]

The database is that of the kind `orders`: `pgbench_accounts` has two thirds of it. Each round is a first night into a
new repository, and a second one after a day's changes, of every way in turn. `--nights` then compares what that many
nights of both layouts store.
"""

import argparse
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.kinds.postgres import PostgresDatabase, postgres
from benchmarks.measure import Cost, Spread, in_turn, size_of
from benchmarks.plain import Penstock, PlainPostgres

__all__ = ["main"]

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Way:
    """A way to back it up. `layout` and `jobs` are Penstock's; without a layout it is pg_dump, with its own jobs."""

    name: str
    layout: str = ""
    jobs: int = 1
    compress: str = ""


_WAYS = (
    _Way("archive", "archive"),
    _Way("tables", "tables"),
    _Way("tables, 2 jobs", "tables", 2),
    _Way("pg_dump -Fd -j2 -Zzstd", jobs=2, compress="zstd"),
    _Way("pg_dump -Fd -j2 -Z0", jobs=2, compress="0"),
)


class _Repository:
    """Where the nights of one way go."""

    def __init__(self, way: _Way, database: PostgresDatabase, folder: Path) -> None:
        self._way = way
        self._name = database.name
        self._plain = PlainPostgres(database.server)
        self._folder = folder
        folder.mkdir()
        self._penstock = Penstock(folder) if way.layout else None

    def night(self) -> Cost:
        """One more."""
        way = self._way
        if self._penstock is not None:
            url = self._plain.url(self._name, layout=way.layout, accounts="no")
            return self._penstock.run("backup", url, "--name", "nights", "--quiet", "--jobs", str(way.jobs))
        target = self._folder / "dump"
        shutil.rmtree(target, ignore_errors=True)
        words = ["--format=directory", f"--jobs={way.jobs}", f"--compress={way.compress}", f"--file={target}"]
        return self._plain.run("pg_dump", *words, self._name)

    @property
    def stored(self) -> int:
        """Bytes so far."""
        return size_of(self._folder / ("repository" if self._penstock else "dump"))


def _rounds(database: PostgresDatabase, rounds: int, folder: Path) -> None:
    costs: dict[str, list[tuple[Cost, Cost]]] = {way.name: [] for way in _WAYS}
    for number in range(rounds):
        with TemporaryDirectory(dir=folder) as name:
            there = {way.name: _Repository(way, database, Path(name) / str(at)) for at, way in enumerate(_WAYS)}
            first = {way.name: there[way.name].night() for way in in_turn(_WAYS, number)}
            database.change(2 + number)
            for way in in_turn(_WAYS, number):
                costs[way.name].append((first[way.name], there[way.name].night()))
    print("| night | way | wall s | CPU s | largest process MiB | time: of the archive's |")
    print("| --- | --- | --- | --- | --- | --- |")
    for number in (0, 1):
        archive = [both[number].wall for both in costs[_WAYS[0].name]]
        for way in _WAYS:
            own = [both[number] for both in costs[way.name]]
            walls = [cost.wall for cost in own]
            cpu, rss = Spread.of([cost.cpu for cost in own]), max(cost.rss for cost in own) / _MIB
            ratio = Spread.of_ratios(walls, archive)
            print(f"| {number + 1} | {way.name} | {Spread.of(walls)} | {cpu} | {rss:.0f} | {ratio} |")


def _nights(database: PostgresDatabase, nights: int, folder: Path) -> None:
    ways = [way for way in _WAYS if way.layout]
    there = {way.name: _Repository(way, database, folder / str(at)) for at, way in enumerate(ways)}
    print("\n| night | " + " | ".join(f"{name}: KiB stored" for name in there) + " |")
    print("| --- |" + " --- |" * len(there))
    for number in range(1, nights + 1):
        if number > 1:
            database.change(100 + number)
        grown: list[str] = []
        for one in there.values():
            before = one.stored
            one.night()
            grown.append(f"{(one.stored - before) / 1024:,.0f}")
        print(f"| {number} | " + " | ".join(grown) + " |")
    print("| all | " + " | ".join(f"{one.stored / 1024:,.0f}" for one in there.values()) + " |")


def main() -> None:
    """Make the database, and print two tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nights", type=int, default=10)
    said = parser.parse_args()
    with TemporaryDirectory(prefix="penstock-bench-") as name, postgres(said.scale, with_orders=True) as database:
        _rounds(database, said.rounds, Path(name))
        _nights(database, said.nights, Path(name))


if __name__ == "__main__":
    main()
