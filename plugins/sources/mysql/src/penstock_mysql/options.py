"""What an operator may say of a restore."""

from typing import Literal, Self

from penstock.api import RestoreTarget, ServerRestoreOptions, UsageError, YesNo
from penstock_mysql.settings import SYSTEM_DATABASES

__all__ = ["RestoreOptions"]


class RestoreOptions(ServerRestoreOptions):
    """The words of `RestoreTarget.options`, with what they mean when they are not said."""

    engine = "MySQL or MariaDB"

    #: Make the database if it is missing.
    create: YesNo = "yes"
    #: Accounts that the server lacks; `auto` makes them where the user may, and leaves them out elsewhere.
    accounts: Literal["auto", "yes", "no"] = "auto"
    #: Restore MySQL's dump into MariaDB, or the reverse, which may or may not work.
    other_engine: YesNo = "no"

    @classmethod
    def of(cls, target: RestoreTarget) -> Self:
        """The options of a target; raises `UsageError` for what they cannot be."""
        options = super().of(target)
        for name in options.rename.values():
            if name.lower() in SYSTEM_DATABASES or len(name) > 64:
                raise UsageError(f"no database can be restored as {name}", hint="Choose another name with rename.")
        return options
