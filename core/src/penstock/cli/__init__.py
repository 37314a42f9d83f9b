"""The command line: one module a command, all terminal output in `penstock.cli.output`."""

import gc
import os
import sys

__all__ = ["lighten", "main", "steady"]


def lighten() -> None:
    """Make this process quicker to start, as only a command of its own may do it, and no library.

    pydantic looks for plugins of its own in every installed distribution, which is a tenth of a short command's time.
    """
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


def steady() -> None:
    """Make long runs of this process cheaper, again as no library may do it. To be called when all is loaded."""
    if not gc.get_freeze_count():  # once: what the first run leaves behind is for the collector
        gc.freeze()  # what is there by now stays to the end: no collection has to look at it again
    # The threads of a backup give way at every call into native code. To be made to in between, which the default of
    # 5 ms does, costs more than it brings.
    sys.setswitchinterval(0.02)


def main() -> int:
    """What the console script calls; returns the exit code."""
    lighten()
    from penstock.cli.app import run

    return run(sys.argv[1:])
