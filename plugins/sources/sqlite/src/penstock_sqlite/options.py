"""What an operator may say of a restore."""

from typing import Annotated, Literal

from pydantic import Field

from penstock.api import RestoreOptions as Options

__all__ = ["Check", "RestoreOptions"]

Check = Literal["quick", "full", "off"]


class RestoreOptions(Options):
    """The words of `RestoreTarget.options`, with what they mean when they are not said."""

    engine = "SQLite"

    #: The check that the restored database has to pass before it takes its place.
    check: Check = "quick"
    #: Whose the file is: `auto` is the owner of the file that it replaces, or, when root restores, of its folder;
    #: `self` is the user who restores.
    owner: Annotated[str, Field(pattern="^[^:]+(:[^:]+)?$", description="auto, self, user or user:group")] = "auto"
    #: Who may read it, as chmod takes it; left out: as the file that it replaces, or as it was dumped.
    mode: Annotated[str, Field(pattern="^(|[0-7]{3,4})$", description="an octal number like 640")] = ""
