"""What an operator may say of a restore."""

from typing import Literal

from penstock.api import RestoreOptions as Options

__all__ = ["Check", "RestoreOptions"]

Check = Literal["quick", "full", "off"]


class RestoreOptions(Options):
    """The words of `RestoreTarget.options`, with what they mean when they are not said."""

    engine = "SQLite"

    #: The check that the restored database has to pass before it takes its place.
    check: Check = "quick"
