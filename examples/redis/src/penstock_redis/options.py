"""What an operator may say of a restore."""

from penstock.api import RestoreOptions as Options

__all__ = ["RestoreOptions"]


class RestoreOptions(Options):
    """The words of `RestoreTarget.options`, with what they mean when they are not said."""

    engine = "Redis"

    #: This host's address, as the target can reach it; else the connection's own.
    address: str | None = None
