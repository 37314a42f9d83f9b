"""What an operator may say of a restore."""

from typing import Literal, Self

from penstock.api import RestoreOptions as Options
from penstock.api import RestoreTarget, UsageError

__all__ = ["RestoreOptions"]

YesNo = Literal["yes", "no"]


class RestoreOptions(Options):
    """The words of `RestoreTarget.options`, with what they mean when they are not said."""

    engine = "MongoDB"

    #: Bring an archive with the oplog to its one point in time.
    replay: YesNo = "yes"
    #: Restore these databases alone: names with commas.
    databases: str = ""
    #: Restore under other names: `shop=shop_copy,shop.orders=shop.old_orders`.
    rename: str = ""
    #: Restore users and roles that the target lacks.
    users: YesNo = "yes"
    #: Drop what a failed restore had restored.
    undo: YesNo = "yes"
    #: Restore into a server of an older major than the one that was dumped.
    older_server: YesNo = "no"
    #: Use a mongorestore that is older than the mongodump that wrote the archive.
    older_client: YesNo = "no"

    @classmethod
    def of(cls, target: RestoreTarget) -> Self:
        """The options of a target; raises `UsageError` for what they cannot be."""
        options = super().of(target)
        options.renames()  # says what is wrong with it
        return options

    def chosen(self) -> frozenset[str]:
        """The databases to restore; empty for all of them."""
        return frozenset(part.strip() for part in self.databases.split(",") if part.strip())

    def renames(self) -> dict[str, str]:
        """From what to what: both are databases, or both are collections as `database.collection`."""
        found: dict[str, str] = {}
        for part in filter(None, map(str.strip, self.rename.split(","))):
            old, equals, new = part.partition("=")
            if not equals or not old or not new or ("." in old) != ("." in new) or old in found:
                raise UsageError(
                    f"the option rename cannot be {self.rename!r}",
                    hint="write old=new, both databases or both collections, several with commas between them",
                )
            found[old] = new
        return found
