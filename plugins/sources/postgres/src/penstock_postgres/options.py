"""What an operator may say of a restore."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from pydantic import BeforeValidator, Field

from penstock.api import RestoreOptions as Options

__all__ = ["RestoreOptions"]

YesNo = Literal["yes", "no"]


def _renames(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    pairs = [pair.partition("=") for pair in value.split(",")]
    renames = {unquote(old): unquote(new) for old, _, new in pairs}
    if not all(renames) or not all(renames.values()) or len(renames) < len(pairs):
        raise ValueError("old=new, with commas between them")
    return renames


class RestoreOptions(Options):
    """The words of `RestoreTarget.options`, with what they mean when they are not said."""

    engine = "PostgreSQL"

    #: Make the database when it is not there: on a bad night the server is empty.
    create: YesNo = "yes"
    #: Other names for databases: `shop=shop_copy,crm=crm_old`; a comma or an equals sign in a name as in a URL.
    rename: Annotated[Mapping[str, str], BeforeValidator(_renames)] = Field({}, description="old=new,old=new")
    #: Roles and tablespaces that the server lacks; `auto` does it as a superuser, and leaves them out as anybody else.
    globals: Literal["auto", "yes", "no"] = "auto"
    #: Give everything its owner back; else it belongs to the role that restores.
    owners: YesNo = "yes"
    #: Restore grants.
    privileges: YesNo = "yes"
    #: Put everything into its tablespace; else into the default one.
    tablespaces: YesNo = "yes"
    #: Restore the owner, comment, settings and grants of the database itself, when it is made by the restore.
    properties: YesNo = "yes"
    #: The locale of a database that the restore makes, where the server does not have the recorded one.
    locale: str | None = None
    #: Restore into a server of an older major than the one that was dumped, which may or may not work.
    older_server: YesNo = "no"
    #: With `clean`: restore into a new database, which takes the place of the old one at the end (`yes`), or drop what
    #: the dump holds from the old one (`no`); `auto` does the former where it can.
    replace: Literal["auto", "yes", "no"] = "auto"
    #: All or nothing, which takes a lock for every table at once; `auto` does without where the server has no room for
    #: so many, and the restore makes the database: then it is dropped again if anything fails.
    single_transaction: Literal["auto", "yes", "no"] = "auto"
    #: Give the planner its statistics back at the end.
    analyze: YesNo = "yes"
