"""The command line: one module a command, all terminal output in `penstock.cli.output`."""

import sys

__all__ = ["main"]


def main() -> int:
    """What the console script calls; returns the exit code."""
    from penstock.cli.own_process import lighten

    lighten()
    from penstock.cli.app import run

    return run(sys.argv[1:])
