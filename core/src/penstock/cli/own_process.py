"""What the command does to its own process, as no library may."""

import gc
import os
import sys

__all__ = ["lighten", "steady"]


def lighten() -> None:
    """Make this process start faster.

    pydantic looks for plugins of its own in every installed distribution, a tenth of a short command's time. numpy
    starts threads for linear algebra, as many as there are processors, which nobody asks for anything here.
    """
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def steady() -> None:
    """Make long runs of this process cheaper. Call it when everything is loaded."""
    if not gc.get_freeze_count():  # once: what the first run leaves behind is for the collector
        gc.freeze()  # what exists by now stays to the end: no collection has to look at it again
    # The threads of a backup give way at every call into native code. Making them give way in between, as the default
    # of 5 ms does, costs more than it brings.
    sys.setswitchinterval(0.02)
