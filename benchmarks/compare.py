"""Penstock beside restic, borg, and a shell pipeline of zstd and age, in one run, as ratios.

Machines differ and are noisy, so seconds mean little: every round runs all programs one after another on the same
bytes, and only ratios to Penstock within a round count. Needs the dumps of `benchmarks.nights`.

    python -m benchmarks.compare
    python -m benchmarks.compare --nights .benchmarks/mysqldump --parts nights
"""

import argparse
import filecmp
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import zstandard
from benchmarks.contenders import CONTENDERS, Contender, Penstock
from benchmarks.dumps import changes_of, dumps, separator_of
from benchmarks.measure import Cost, Spread, in_turn

__all__ = ["main"]

MIB = 1024 * 1024


@dataclass
class Series:
    """The costs of one program, by round or night, and how much its repository grew each time."""

    costs: list[Cost] = field(default_factory=list)
    stored: list[int] = field(default_factory=list)


Results = dict[str, Series]


def main() -> None:
    """Parse the options, run, print."""
    options = _options()
    present = []
    for contender in CONTENDERS:
        missing = contender.missing()
        if missing:
            print(f"skipped {contender.name}: {', '.join(missing)} not installed\n")
        else:
            present.append(contender)
            print(f"- {contender.version()}", flush=True)
    work: Path = options.folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    try:
        if "nights" in options.parts:
            _nights(options.nights, present, work, options.rounds)
        if "random" in options.parts:
            _random(options.folder, present, work, options.rounds)
        if "memory" in options.parts:
            _memory(work)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(".benchmarks"), help="for repositories and generated files")
    parser.add_argument("--nights", type=Path, default=Path(".benchmarks/nights"), help="the folder of the dumps")
    parser.add_argument("--rounds", type=int, default=5, help="of first backups and of restores")
    parser.add_argument(
        "--parts", nargs="+", choices=("nights", "random", "memory"), default=["nights", "random", "memory"]
    )
    return parser.parse_args()


def _nights(folder: Path, contenders: Sequence[type[Contender]], work: Path, rounds: int) -> None:
    nights = dumps(folder)
    if not nights:
        raise SystemExit(f"no dumps in {folder}: run python -m benchmarks.nights first")
    print(f"\n## {folder.name}: {len(nights)} nights, the first of {nights[0].stat().st_size / 1e6:.0f} MB")
    first, standing = _first_backups(nights[0], contenders, work, rounds, separator_of(folder))
    _report("First backup", first)
    later = _later_nights(nights, standing)
    _report("Later nights, each", later)
    _beside_floor(nights[1:], later)
    print("\n| later nights / first | CPU | stored |\n| --- | --- | --- |")
    for name, series in later.items():
        cpu = sum(cost.cpu for cost in series.costs) / Spread.of([cost.cpu for cost in first[name].costs]).middle
        print(f"| {name} | {cpu:.2f} | {sum(series.stored) / first[name].stored[-1]:.2f} |")
    restored = _restores(nights[-1], len(nights), standing, work / "restored", rounds)
    _report(f"Restore of night {len(nights)}", restored)
    shutil.rmtree(work)


def _first_backups(
    dump: Path, contenders: Sequence[type[Contender]], work: Path, rounds: int, separator: bytes
) -> tuple[Results, list[Contender]]:
    """The costs, and the last round's contenders with their repositories."""
    results: Results = {contender.name: Series() for contender in contenders}
    standing: list[Contender] = []
    for number in range(rounds):
        shutil.rmtree(work, ignore_errors=True)
        standing = []
        for contender in in_turn(contenders, number):
            one = contender(work / contender.name.replace(" ", "-"), separator)
            one.initialise()
            _store(one, dump, 1, results)
            standing.append(one)
    return results, sorted(standing, key=lambda one: list(results).index(one.name))


def _later_nights(nights: Sequence[Path], contenders: Sequence[Contender]) -> Results:
    results: Results = {one.name: Series() for one in contenders}
    for night, dump in enumerate(nights[1:], start=2):
        for one in in_turn(contenders, night):
            _store(one, dump, night, results)
    return results


def _beside_floor(nights: Sequence[Path], later: Results) -> None:
    """What each night stored, beside the floor: exactly what it changed, as zstd -9 packs it."""
    if not all(changes_of(dump).exists() for dump in nights):
        return
    print("\n| night, MB | changes | floor: their zstd -9 | " + " | ".join(later) + " | Penstock / floor |")
    print("| --- | --- | --- |" + " --- |" * len(later) + " --- |")
    for number, dump in enumerate(nights):
        changes = changes_of(dump).read_bytes()
        floor = len(zstandard.compress(changes, level=9))
        sizes = [len(changes), floor, *(series.stored[number] for series in later.values())]
        row = [f"{size / 1e6:.3f}" for size in sizes] + [f"{later[Penstock.name].stored[number] / floor:.2f}"]
        print(f"| {number + 2} | " + " | ".join(row) + " |")


def _restores(dump: Path, night: int, contenders: Sequence[Contender], out: Path, rounds: int) -> Results:
    results: Results = {one.name: Series() for one in contenders}
    for number in range(rounds):
        for one in in_turn(contenders, number):
            results[one.name].costs.append(one.restore(out, night))
            if not filecmp.cmp(out, dump, shallow=False):
                raise SystemExit(f"{one.name} restored other bytes than it was given")
            out.unlink()
    return results


def _random(folder: Path, contenders: Sequence[type[Contender]], work: Path, rounds: int) -> None:
    dump = folder / "random.bin"
    if not dump.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = dump.with_suffix(".partial")
        chance = random.Random(20)
        with partial.open("wb") as file:
            for _ in range(1024):
                file.write(chance.randbytes(MIB))
        partial.rename(dump)
    results, _ = _first_backups(dump, contenders, work, rounds, separator=b"")
    _report("First backup of 1 GiB of random bytes", results)
    shutil.rmtree(work)


def _memory(work: Path) -> None:
    print("\n| Penstock, generated bytes | peak RSS, MiB |\n| --- | --- |")
    for size in (512 * MIB, 8192 * MIB):
        one = Penstock(work / "memory")
        one.initialise()
        print(f"| {size // MIB} MiB | {one.store_made_up(size).rss / MIB:.0f} |", flush=True)
        shutil.rmtree(work)


def _store(one: Contender, dump: Path, night: int, results: Results) -> None:
    before = one.stored if night > 1 else 0
    results[one.name].costs.append(one.store(dump, night))
    results[one.name].stored.append(one.stored - before)


def _report(title: str, results: Mapping[str, Series]) -> None:
    """One row per program; ratios are Penstock's figure divided by the program's: below 1, Penstock is better."""
    mine = results[Penstock.name]
    print(f"\n### {title}\n")
    print("| program | CPU s | wall s | peak RSS MiB | stored MB | Penstock / it: CPU | wall | stored |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, series in results.items():
        row = [
            name,
            _middle(series, lambda cost: cost.cpu),
            _middle(series, lambda cost: cost.wall),
            f"{max(cost.rss for cost in series.costs) / MIB:.0f}",
            f"{sum(series.stored) / len(series.stored) / 1e6:.1f}" if series.stored else "",
        ]
        if series is mine:
            row += ["", "", ""]
        else:
            row += [_ratio([cost.cpu for cost in mine.costs], [cost.cpu for cost in series.costs])]
            row += [_ratio([cost.wall for cost in mine.costs], [cost.wall for cost in series.costs])]
            row += [_ratio(mine.stored, series.stored)]
        print("| " + " | ".join(row) + " |")
    print(end="", flush=True)


def _middle(series: Series, figure: Callable[[Cost], float]) -> str:
    return f"{Spread.of([figure(cost) for cost in series.costs]).middle:.2f}"


def _ratio(mine: Sequence[float], theirs: Sequence[float]) -> str:
    return str(Spread.of_ratios(mine, theirs)) if mine else ""


if __name__ == "__main__":
    main()
