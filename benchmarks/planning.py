"""What it takes to plan a prune, and to count what is stored, where that is a hundred million chunks.

    python -m benchmarks.planning [--chunks NUMBER] [--nights NUMBER]

Every second snapshot but the last is forgotten. Nothing heavy is imported here: a process begins with the peak RSS of
the one that started it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Cost, run

_MIB = 1024 * 1024
_COMMANDS = (("snapshots",), ("prune", "--dry-run"), ("stats",))


def _measured(command: Sequence[str], folder: Path) -> Cost:
    program = str(Path(sys.executable).with_name("penstock"))
    where = ("--repo", f"file://{folder / 'large'}", "--key", str(folder / "maintainer.key"))
    return run([program, *command, "--quiet", *where], {})


def main() -> None:
    """Make the repository, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--chunks", type=int, default=100_000_000)
    parser.add_argument("--nights", type=int, default=30)
    said = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        making = [sys.executable, "-m", "benchmarks.many_chunks", name, str(said.chunks), str(said.nights)]
        made = json.loads(subprocess.run(making, stdout=subprocess.PIPE, check=True).stdout)
        print(f"{made['chunks']:,} chunks in {made['packs']:,} packs, {made['rows']:,} rows in {said.nights} tables")
        print(f"{made['proportions']}\n")
        print("| command | CPU s | wall s | peak RSS MiB | chunks a second of CPU |")
        print("| --- | --- | --- | --- | --- |")
        for command in _COMMANDS:
            cost = _measured(command, Path(name))
            rate = made["chunks"] / cost.cpu
            print(f"| `{' '.join(command)}` | {cost.cpu:.1f} | {cost.wall:.1f} | {cost.rss / _MIB:.0f} | {rate:,.0f} |")


if __name__ == "__main__":
    main()
