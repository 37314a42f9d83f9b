"""What several jobs bring: two nights of a dump of equal streams, by one job, by threads and by processes.

    python -m benchmarks.jobs [--size BYTES] [--streams N] [--jobs N] [--rounds N] [--folder FOLDER]

The streams are made up in memory, faster than a database gives them: what is measured is the engine alone. Each night
is a process of its own. One round has each way once, in turn, with a new repository on the disk: all is new in the
first night, a thousandth in the second.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from penstock.cli.own_process import lighten, steady

lighten()  # as the command does: before anything heavy is loaded

from benchmarks.measure import Cost, Spread, in_turn, run

from penstock.engine import backup
from penstock.engine.dumping.side_by_side import Jobs
from penstock.repository import Access, Repository
from penstock.testing import SyntheticSettings, SyntheticSource
from penstock.workspace.key_files import new_private_file
from penstock.workspace.workplace import HostWorkplace
from penstock_filesystem.sink import FilesystemSettings, FilesystemSink

_MIB = 1024 * 1024
_WAYS = ("1 processes", "{jobs} threads", "{jobs} processes")


def night(folder: Path, way: str, size: int, streams: int, number: int) -> None:
    """Store it, in this process; `way` is how many jobs, and whose. The first one makes the repository."""
    count, executor = way.split()
    sink = FilesystemSink(FilesystemSettings(path=folder / "repository"))
    if number == 0:
        new_private_file(folder / "key", Repository.create(sink, passphrase=None).access.to_key_file())
    key = (folder / "key").read_bytes()
    repository = Repository.open(sink, Access.from_key_file(key, "key"))
    source = SyntheticSource(SyntheticSettings(size=size // streams, streams=streams, generation=number))
    workplace = HostWorkplace(FilesystemSink, sink.settings, SyntheticSource, source.settings, key)
    steady()
    backup(
        repository,
        source,
        name="benchmark",
        source_type=source.name,
        cache_dir=folder / "cache",
        memory=max(128, 64 * int(count)) * _MIB,
        compression="auto",
        jobs=Jobs(int(count), "threads" if executor == "threads" else "processes", workplace),
        listener=lambda _: None,
    )


def measured(place: Path | None, way: str, size: int, streams: int) -> tuple[Cost, Cost]:
    """What two nights cost."""
    with tempfile.TemporaryDirectory(dir=place) as name:
        arguments = ["--way", way, "--folder", name, "--size", str(size), "--streams", str(streams)]
        program = [sys.executable, "-m", "benchmarks.jobs", *arguments, "--night"]
        return run([*program, "0"], {}), run([*program, "1"], {})


def main() -> None:
    """Run the rounds, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=2048 * _MIB)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--night", type=int, help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.way:
        night(said.folder, said.way, said.size, said.streams, said.night)
        return
    ways = [way.format(jobs=said.jobs) for way in _WAYS]
    costs: dict[str, list[tuple[Cost, Cost]]] = {way: [] for way in ways}
    for number in range(said.rounds):
        for way in in_turn(ways, number):
            costs[way].append(measured(said.folder, way, said.size, said.streams))
    print("| night | jobs | wall s | CPU s | largest process MiB | speed: times one job's | CPU: times one job's |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for number in (0, 1):
        one = [both[number] for both in costs[ways[0]]]
        for way in ways:
            own = [both[number] for both in costs[way]]
            walls, cpus = ([getattr(cost, name) for cost in own] for name in ("wall", "cpu"))
            speed = Spread.of_ratios([cost.wall for cost in one], walls)
            cpu = Spread.of_ratios(cpus, [cost.cpu for cost in one])
            rss = max(cost.rss for cost in own) / _MIB
            print(f"| {number + 1} | {way} | {Spread.of(walls)} | {Spread.of(cpus)} | {rss:.0f} | {speed} | {cpu} |")


if __name__ == "__main__":
    main()
