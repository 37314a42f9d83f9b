"""The options of a restore."""

from typing import ClassVar, Literal

from penstock.api.servers import ServerRestoreOptions, YesNo

__all__ = ["RestoreOptions"]


class RestoreOptions(ServerRestoreOptions):
    """The options in `RestoreTarget.options`, and their defaults."""

    engine = "PostgreSQL"
    former: ClassVar[dict[str, str]] = {"replace": "beside"}

    #: Make the database if it is missing: on a bad night the server is empty.
    create: YesNo = "yes"
    #: Roles and tablespaces that the server lacks; `auto` does it as a superuser, and leaves them out as anybody else.
    accounts: Literal["auto", "yes", "no"] = "auto"
    #: Give everything its owner back; else it belongs to the role that restores.
    owners: YesNo = "yes"
    #: Restore grants.
    privileges: YesNo = "yes"
    #: Restore the policies of row-level security.
    policies: YesNo = "yes"
    #: Put everything into its tablespace; else into the default one.
    tablespaces: YesNo = "yes"
    #: Restore the owner, comment, settings and grants of the database itself, when it is made by the restore.
    properties: YesNo = "yes"
    #: The locale of a database that the restore makes, where the server does not have the recorded one.
    locale: str | None = None
    #: With `clean`: restore into a new database, which takes the place of the old one at the end (`yes`), or drop what
    #: the dump holds from the old one (`no`); `auto` does the former where it can.
    beside: Literal["auto", "yes", "no"] = "auto"
    #: All or nothing, which takes a lock for every table at once; `auto` does without where the server has no room for
    #: so many, and the restore makes the database: then it is dropped again if anything fails.
    single_transaction: Literal["auto", "yes", "no"] = "auto"
    #: Give the planner its statistics back at the end.
    analyze: YesNo = "yes"
