"""Signals as the code under test expects them, however the run was started.

A shell that is not interactive starts what stands before `&` with SIGINT ignored, and `nohup` ignores SIGHUP. What is
ignored stays so in every child, and the command under test rightly leaves it alone: a test that sends it would wait in
vain. A handler, on the other hand, is not inherited: with one in its place here, the programs that tests start have the
signal's default again.
"""

import os
import signal
from types import FrameType

__all__ = ["NUMBERS", "restore_defaults"]

#: What shells, `nohup` and supervisors ignore.
NUMBERS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT)
#: Tells workers of pytest-xdist, which are children too, what the run was started with.
_IGNORED = "PENSTOCK_TEST_IGNORED_SIGNALS"


def restore_defaults() -> None:
    """Give children the default of every signal that is ignored in this process.

    Here, too, SIGINT raises `KeyboardInterrupt` again. The others still do nothing: a run that somebody started with
    `nohup` outlives the terminal.
    """
    ignored = {number.name for number in NUMBERS if signal.getsignal(number) is signal.SIG_IGN}
    ignored |= set(os.environ.get(_IGNORED, "").split())
    if ignored:
        os.environ[_IGNORED] = " ".join(sorted(ignored))
    for number in NUMBERS:
        if number.name in ignored:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else _do_nothing)


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """What ignoring a signal comes to."""


# As soon as this is loaded as a plugin, which each worker of pytest-xdist does before it runs or imports a test.
restore_defaults()
