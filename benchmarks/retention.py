"""Thirty nights of which the last seven are kept, Penstock beside restic in one run, as ratios.

Every night both store the same dump, forget what is too old, and prune. Then: how large the repositories are beside
fresh ones of the seven nights, how fast the oldest of these is restored from each, and what a backup notices of a prune
that is at work. Needs the dumps of `benchmarks.nights`.

    python -m benchmarks.nights --scale 5 --nights 30 --folder .benchmarks/retention
    python -m benchmarks.retention

Nothing heavy is imported here: a process begins with the peak RSS of the one that started it.
"""

import argparse
import filecmp
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from benchmarks.dumps import dumps, separator_of
from benchmarks.measure import Cost, Spread, in_turn
from benchmarks.upkeep import UPKEEP, PenstockUpkeep, Upkeep

__all__ = ["main"]

_MIB = 1024 * 1024
#: Seconds between two looks for the sign that a prune is at work.
_LOOK = 0.002

#: By the names of the programs.
Costs = dict[str, list[Cost]]


def main() -> None:
    """Parse the options, run, print."""
    options = _options()
    nights = dumps(options.nights)
    if len(nights) < options.keep + 2:
        raise SystemExit(f"too few dumps in {options.nights}: run python -m benchmarks.nights first")
    for program in UPKEEP:
        if missing := program.missing():
            raise SystemExit(f"{', '.join(missing)} not installed: there is nothing to compare with")
        print(f"- {program.version()}")
    print(f"- {len(nights)} nights, the first of {nights[0].stat().st_size / 1e6:.0f} MB; {options.keep} are kept")
    shutil.rmtree(options.work, ignore_errors=True)
    try:
        _Run(nights, separator_of(options.nights), options).all()
    finally:
        shutil.rmtree(options.work, ignore_errors=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=Path, default=Path(".benchmarks/retention"), help="the folder of the dumps")
    parser.add_argument("--work", type=Path, default=Path(".benchmarks/retention-work"), help="for the repositories")
    parser.add_argument("--keep", type=int, default=7, metavar="NIGHTS")
    parser.add_argument("--rounds", type=int, default=5, help="of restores, and of backups beside a prune")
    parser.add_argument(
        "--pause", type=float, default=20, metavar="SECONDS", help="of a prune beside a backup, at most"
    )
    return parser.parse_args()


class _Run:
    def __init__(self, nights: Sequence[Path], separator: bytes, options: argparse.Namespace) -> None:
        self._nights = nights
        self._separator = separator
        self._work: Path = options.work
        self._keep: int = options.keep
        self._rounds: int = options.rounds
        self._pause: float = options.pause

    def all(self) -> None:
        """Each part, and its table."""
        aged = self._made("aged")
        before_last = self._age(aged)
        fresh = self._made("fresh")
        self._store_kept(fresh)
        self._report_sizes(aged, fresh)
        self._restores(aged, fresh)
        for one in (*aged, *fresh):
            one.free()
        self._backups_beside_prunes(before_last)

    def _made(self, folder: str) -> list[Upkeep]:
        made = [program(self._work / folder / program.name, self._separator) for program in UPKEEP]
        for one in made:
            one.initialise()
        return made

    def _age(self, aged: Sequence[Upkeep]) -> list[Upkeep]:
        """All nights, one after the other. Returns copies from before the last one."""
        idle, costs = _none(aged), _none(aged)
        copies: list[Upkeep] = []
        for night, dump in enumerate(self._nights, start=1):
            if night == len(self._nights):
                copies = [one.copy_to(self._work / "before" / one.name) for one in aged]
            for one in in_turn(aged, night):
                one.store(dump, night)
                cost = one.retain(self._keep)
                if night <= self._keep:
                    idle[one.name].append(cost)
                # The first that is forgotten is swept a night later.
                elif night > self._keep + 1:
                    costs[one.name].append(cost)
                    if isinstance(one, PenstockUpkeep) and not one.deleted:
                        raise SystemExit(f"the prune of night {night} swept nothing: the figures would mean nothing")
                one.a_night_passes()
        print(f"\n### Forget and prune, each of the first {self._keep} nights: nothing is too old\n")
        _report_retention(idle)
        count = len(self._nights) - self._keep - 1
        print(f"\n### Forget and prune, each of the last {count} nights\n")
        _report_retention(costs)
        return copies

    def _store_kept(self, fresh: Sequence[Upkeep]) -> None:
        for night, dump in list(enumerate(self._nights, start=1))[-self._keep :]:
            for one in in_turn(fresh, night):
                one.store(dump, night)

    def _report_sizes(self, aged: Sequence[Upkeep], fresh: Sequence[Upkeep]) -> None:
        print("\n### Size\n")
        print("| program | fresh MB | aged MB | aged / fresh | when the last grace has ended |")
        print("| --- | --- | --- | --- | --- |")
        for one, other in zip(aged, fresh, strict=True):
            before, least = one.stored, other.stored
            one.retain(self._keep)
            figures = [
                f"{least / 1e6:.1f}",
                f"{before / 1e6:.1f}",
                f"{before / least:.2f}",
                f"{one.stored / least:.2f}",
            ]
            print(f"| {one.name} | {' | '.join(figures)} |", flush=True)

    # Restores

    def _restores(self, aged: Sequence[Upkeep], fresh: Sequence[Upkeep]) -> None:
        night = len(self._nights) - self._keep + 1
        costs = {kind: _none(aged) for kind in ("aged", "fresh")}
        for number in range(self._rounds):
            for kind, each in in_turn([("aged", aged), ("fresh", fresh)], number):
                for one in in_turn(each, number):
                    costs[kind][one.name].append(self._restored(one, night))
        print(f"\n### Restore of night {night}, the oldest that is kept\n")
        print("| program | fresh: CPU s | wall s | aged: CPU s | wall s | aged / fresh: CPU | wall | its speed |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for name, old in costs["aged"].items():
            new = costs["fresh"][name]
            row = [f"{_middle(each, figure):.2f}" for each in (new, old) for figure in (_cpu, _wall)]
            row += [_ratios(old, new, _cpu), _ratios(old, new, _wall), _ratios(new, old, _wall)]
            print(f"| {name} | {' | '.join(row)} |", flush=True)

    def _restored(self, one: Upkeep, night: int) -> Cost:
        out = self._work / "restored"
        cost = one.restore(out, night)
        if not filecmp.cmp(out, self._nights[night - 1], shallow=False):
            raise SystemExit(f"{one.name} restored other bytes than it was given")
        out.unlink()
        return cost

    # A backup beside a prune

    def _backups_beside_prunes(self, before: Sequence[Upkeep]) -> None:
        alone, beside = _none(before), _none(before)
        waited: dict[str, int] = {one.name: 0 for one in before}
        refused: dict[str, int] = {}
        for number in range(self._rounds):
            for one in in_turn(before, number):
                copy = one.copy_to(self._work / "copy")
                alone[one.name].append(copy.store(self._nights[-1], len(self._nights)))
                copy.free()
                done, paused = self._beside_a_prune(one, type(one).store)
                if isinstance(done, int):
                    refused[one.name] = done
                    done, paused = self._beside_a_prune(one, type(one).store_patiently)
                if isinstance(done, int):
                    raise SystemExit(f"{one.name} did not wait for the end of its prune")
                beside[one.name].append(done)
                waited[one.name] += not paused
        print(f"\n### The last backup, while a prune stands still for {self._pause:.0f} s at most\n")
        print("| program | alone s | beside s | beside / alone | exit code without waiting | waited, times |")
        print("| --- | --- | --- | --- | --- | --- |")
        for name in alone:
            row = [f"{_middle(alone[name], _wall):.2f}", f"{_middle(beside[name], _wall):.2f}"]
            row += [_ratios(beside[name], alone[name], _wall), str(refused.get(name, 0))]
            print(f"| {name} | {' | '.join(row)} | {waited[name]} of {self._rounds} |", flush=True)

    def _beside_a_prune(self, one: Upkeep, store: Callable[[Upkeep, Path, int], Cost]) -> tuple[Cost | int, bool]:
        """A backup into a copy where a prune stands still in its midst: its cost, or its exit code.

        And whether it ended while the prune stood still; otherwise the prune went on after a while.
        """
        copy = one.copy_to(self._work / "copy")
        with ThreadPoolExecutor(2) as pool:
            prune, process = self._begun(copy, pool)
            os.kill(process, signal.SIGSTOP)
            try:
                storing = pool.submit(store, copy, self._nights[-1], len(self._nights))
                paused = bool(wait([storing], self._pause).done)
            finally:
                os.kill(process, signal.SIGCONT)
            prune.result()
            error = storing.exception()
        copy.free()
        if isinstance(error, subprocess.CalledProcessError):
            return error.returncode, paused
        return storing.result(), paused

    def _begun(self, one: Upkeep, pool: ThreadPoolExecutor) -> tuple[Future[Cost], int]:
        """A prune that shows that it is at work, and its process."""
        before = one.signs()
        process: Future[int] = Future()
        prune = pool.submit(one.retain, 1, process.set_result)
        while not process.done() or one.signs() <= before:
            if prune.done():
                raise SystemExit(f"the prune of {one.name} was over before anybody saw it: {prune.result()}")
            time.sleep(_LOOK)
        return prune, process.result()


def _none(programs: Sequence[Upkeep]) -> Costs:
    return {one.name: [] for one in programs}


def _report_retention(costs: Mapping[str, Sequence[Cost]]) -> None:
    """One row for each program; ratios are Penstock's figure divided by the program's."""
    mine = costs[PenstockUpkeep.name]
    print("| program | CPU s | wall s | peak RSS MiB | Penstock / it: CPU | wall | peak RSS |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, each in costs.items():
        row = [f"{_middle(each, _cpu):.2f}", f"{_middle(each, _wall):.2f}", f"{_middle(each, _rss) / _MIB:.0f}"]
        row += [_ratios(mine, each, figure) if each is not mine else "" for figure in (_cpu, _wall, _rss)]
        print(f"| {name} | {' | '.join(row)} |", flush=True)


def _cpu(cost: Cost) -> float:
    return cost.cpu


def _wall(cost: Cost) -> float:
    return cost.wall


def _rss(cost: Cost) -> float:
    return cost.rss


def _middle(costs: Sequence[Cost], figure: Callable[[Cost], float]) -> float:
    return Spread.of([figure(cost) for cost in costs]).middle


def _ratios(ones: Sequence[Cost], others: Sequence[Cost], figure: Callable[[Cost], float]) -> str:
    return str(Spread.of_ratios([figure(cost) for cost in ones], [figure(cost) for cost in others]))


if __name__ == "__main__":
    main()
