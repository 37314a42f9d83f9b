"""The options of a restore."""

from typing import Self

from pydantic import Field, field_validator

from penstock.api import RestoreTarget, UsageError
from penstock.api.servers import Names, ServerRestoreOptions, YesNo

__all__ = ["RestoreOptions"]


class RestoreOptions(ServerRestoreOptions):
    """The options in `RestoreTarget.options`, and their defaults.

    `rename` takes collections, too: `shop.orders=shop.old_orders`.
    """

    engine = "MongoDB"

    #: Bring an archive with the oplog to its one point in time.
    replay: YesNo = "yes"
    #: Restore these databases alone: names with commas between them.
    databases: Names = Field((), description="names, with commas between several")
    #: Restore users and roles that the target lacks.
    accounts: YesNo = "yes"
    #: Drop what a failed restore had restored.
    undo: YesNo = "yes"
    #: Use a mongorestore that is older than the mongodump that wrote the archive.
    older_client: YesNo = "no"

    @field_validator("databases", mode="before")
    @classmethod
    def _separate(cls, value: object) -> object:
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    @classmethod
    def of(cls, target: RestoreTarget) -> Self:
        """The options of a target; raises `UsageError` for an invalid one."""
        options = super().of(target)
        for old, new in options.rename.items():
            if ("." in old) != ("." in new):
                raise UsageError(
                    f"the option rename cannot make {old} into {new}",
                    hint="Name two databases, or two collections as database.collection.",
                )
        return options
