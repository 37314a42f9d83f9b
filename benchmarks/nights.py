"""Nightly dumps of one changing database, or file: the typical input of a backup program.

`night-01.dump` and so on, of one kind of data (see `kinds/`); `night-02.changes` and so on: exactly the rows, documents
or pages that the dump before did not have; and `separator`: what ends a record. All that is random has a fixed seed.

    python -m benchmarks.nights
    python -m benchmarks.nights --kind mysqldump
"""

import argparse
from functools import partial
from itertools import pairwise
from pathlib import Path

from benchmarks.dumps import changes_of, dump_of, keep_separator
from benchmarks.kinds.files import blocks, lines, measurements, noise
from benchmarks.kinds.kind import Kind
from benchmarks.kinds.mongodb import documents, mongodb
from benchmarks.kinds.mysql import mysql, rows
from benchmarks.kinds.postgres import postgres
from benchmarks.kinds.sqlite import pages, sqlite

__all__ = ["main"]

_PARTIAL = ".partial"
_FOLDER = Path(".benchmarks")
_ORDERS = "orders"


def _kinds(scale: int) -> dict[str, Kind]:
    return {
        _ORDERS: Kind(partial(postgres, scale, with_orders=True), lines, nights=10),
        "pgbench": Kind(partial(postgres, scale, with_orders=False), lines),
        "mysqldump": Kind(partial(mysql, "mysql"), rows),
        "mariadb-dump": Kind(partial(mysql, "mariadb"), rows),
        "mongodump": Kind(mongodb, documents),
        "sqlite": Kind(sqlite, pages),
        "csv": Kind(measurements, lines),
        "random": Kind(noise, blocks),
    }


def _make_nights(folder: Path, kind: Kind, nights: int) -> None:
    """Create the dumps in `folder`, unless an earlier run has done so, and what is missing beside them."""
    wanted = [dump_of(folder, night) for night in range(1, nights + 1)]
    if not all(dump.exists() for dump in wanted):
        folder.mkdir(parents=True, exist_ok=True)
        with kind.opened() as changing:
            for night, dump in enumerate(wanted, start=1):
                if night > 1:
                    changing.change(night)
                partial_dump = dump.with_name(dump.name + _PARTIAL)
                keep_separator(folder, changing.dump(partial_dump))
                partial_dump.rename(dump)
                print(f"{dump}: {dump.stat().st_size / 1e6:.0f} MB", flush=True)
    for before, after in pairwise(wanted):
        if not changes_of(after).exists():
            _write_changes(kind, before, after)


def _write_changes(kind: Kind, before: Path, after: Path) -> None:
    with before.open("rb") as dump:
        known = {hash(piece) for piece in kind.pieces(dump)}
    place = changes_of(after)
    partial_changes = place.with_name(place.name + _PARTIAL)
    with after.open("rb") as dump, partial_changes.open("wb") as file:
        file.writelines(piece for piece in kind.pieces(dump) if hash(piece) not in known)
    partial_changes.rename(place)
    print(f"{place}: {place.stat().st_size / 1e3:.0f} KB", flush=True)


def main() -> None:
    """Parse the options and create the dumps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=_kinds(0), default=_ORDERS)
    parser.add_argument("--folder", type=Path, help="for the dumps; .benchmarks/KIND, or .benchmarks/nights for orders")
    parser.add_argument("--nights", type=int, help="10 of orders, 4 of others")
    parser.add_argument("--scale", type=int, default=30, help="pgbench's scale: 100,000 accounts each")
    options = parser.parse_args()
    kind = _kinds(options.scale)[options.kind]
    folder = options.folder or _FOLDER / ("nights" if options.kind == _ORDERS else options.kind)
    _make_nights(folder, kind, options.nights or kind.nights)


if __name__ == "__main__":
    main()
