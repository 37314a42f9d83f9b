"""What an operator may say of a restore."""

from typing import Literal, Self

from pydantic import Field

from penstock.api import RestoreOptions as Options
from penstock.api import RestoreTarget, UsageError
from penstock_mysql.settings import SYSTEM_DATABASES

__all__ = ["RestoreOptions"]

YesNo = Literal["yes", "no"]


class RestoreOptions(Options):
    """The words of `RestoreTarget.options`, with what they mean when they are not said."""

    engine = "MySQL or MariaDB"

    #: The name to restore a database under; else the one that the settings name, else its own.
    database: str | None = Field(None, min_length=1, max_length=64, description="a name of 1 to 64 characters")
    #: Make the database when it is not there.
    create: YesNo = "yes"
    #: Accounts that the server lacks; `auto` makes them where the account may, and leaves them out elsewhere.
    grants: Literal["auto", "yes", "no"] = "auto"
    #: Restore into a server of an older series than the one that was dumped, which may or may not work.
    older_server: YesNo = "no"
    #: Restore MySQL's dump into MariaDB, or the reverse, which may or may not work.
    other_engine: YesNo = "no"

    @classmethod
    def of(cls, target: RestoreTarget) -> Self:
        """The options of a target; raises `UsageError` for what they cannot be."""
        options = super().of(target)
        if options.database and options.database.lower() in SYSTEM_DATABASES:
            raise UsageError(f"{options.database} is the server's own database")
        return options
