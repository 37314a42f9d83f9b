"""What zstd makes of files in segments, with several settings: bytes and CPU, level 3 being 1.

    python -m benchmarks.compression FILE...

Decision 4 in docs/adr/ rests on it.
"""

import argparse
import time
from pathlib import Path

import zstandard

from penstock.format.codec import QUICK, Effort, compress
from penstock.repository.budget import SEGMENT

_EFFORTS: dict[str, Effort] = {
    "level 3": 3,
    "level 1": 1,
    "level 2": 2,
    "QUICK": QUICK,
    **{
        f"fast, {entries} entries, from {match} bytes": zstandard.ZstdCompressionParameters(
            strategy=zstandard.STRATEGY_FAST, window_log=21, hash_log=log, min_match=match, chain_log=16, search_log=1
        )
        for entries, log in (("64 Ki", 16), ("256 Ki", 18))
        for match in (5, 6, 7)
    },
    "level 12": 12,
}
_ROUNDS = 3


def _measured(segments: list[bytes], effort: Effort) -> tuple[int, float]:
    """Bytes, and seconds of CPU: the least of the rounds, since what else the machine does only adds to it."""
    size, seconds = 0, float("inf")
    for _ in range(_ROUNDS):
        begun = time.process_time()
        size = sum(len(compress(segment, effort)) for segment in segments)
        seconds = min(seconds, time.process_time() - begun)
    return size, seconds


def main() -> None:
    """Parse the options and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    files: list[Path] = parser.parse_args().files
    print("| bytes / CPU |", " | ".join(file.name for file in files), "|")
    print("| --- |", " --- |" * len(files))
    base: dict[Path, tuple[int, float]] = {}
    for name, effort in _EFFORTS.items():
        row = []
        for file in files:
            data = file.read_bytes()
            size, seconds = _measured([data[at : at + SEGMENT] for at in range(0, len(data), SEGMENT)], effort)
            whole, most = base.setdefault(file, (size, seconds))
            row.append(f"{size / whole:.3f} / {seconds / most:.2f}")
        print(f"| {name} |", " | ".join(row), "|", flush=True)


if __name__ == "__main__":
    main()
