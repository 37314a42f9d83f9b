"""The options of a restore."""

from typing import Literal, Self

from penstock.api import RestoreTarget, UsageError
from penstock.api.servers import ServerRestoreOptions, YesNo
from penstock_mysql.settings import SYSTEM_DATABASES

__all__ = ["RestoreOptions", "check_name"]

_HINT = "Choose another name with rename."


class RestoreOptions(ServerRestoreOptions):
    """The options in `RestoreTarget.options`, and their defaults."""

    engine = "MySQL or MariaDB"

    #: Make the database if it is missing.
    create: YesNo = "yes"
    #: Load a database that is there beside, and replace it when the new one is whole; `no` drops the old one first.
    beside: YesNo = "yes"
    #: Restore under another name what names databases, and would go on to read and write those.
    qualified_names: YesNo = "no"
    #: Whose views and programs are: their own definers', or the account's that restores.
    definers: Literal["keep", "mine"] = "keep"
    #: Accounts that the server lacks; `auto` makes them where the user may, and leaves them out elsewhere.
    accounts: Literal["auto", "yes", "no"] = "auto"
    #: Where tables name a tablespace or a folder: `auto` makes them there if the server lets it, and elsewhere if not.
    tablespaces: Literal["auto", "yes", "no"] = "auto"
    #: Restore a dump of MySQL into MariaDB, or the reverse; this may not work.
    other_engine: YesNo = "no"

    @classmethod
    def of(cls, target: RestoreTarget) -> Self:
        """The options of a target; raises `UsageError` for an invalid one."""
        options = super().of(target)
        for name in options.rename.values():
            check_name(name)
        return options


def check_name(name: str) -> None:
    """Raises `UsageError` for a database that no restore may write to."""
    if name.lower() in SYSTEM_DATABASES:
        raise UsageError(f"cannot restore into {name}: it is a system database", hint=_HINT)
    if len(name) > 64:
        raise UsageError(f"cannot restore into {name}: the name is longer than 64 characters", hint=_HINT)
