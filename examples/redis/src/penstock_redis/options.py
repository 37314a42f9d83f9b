"""The options that an operator may give a restore."""

from penstock.api import RestoreOptions as Options

__all__ = ["RestoreOptions"]


class RestoreOptions(Options):
    """The words of `RestoreTarget.options`, with their defaults."""

    engine = "Redis"

    #: An address of this host that the target can reach; left out, that of the connection.
    address: str | None = None
