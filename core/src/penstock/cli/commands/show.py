"""penstock show: what is in a snapshot."""

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.invocation import command
from penstock.cli.options import REPOSITORY

if TYPE_CHECKING:
    from penstock.cli.run import Run

__all__ = ["SNAPSHOT", "register"]

#: The argument that names a snapshot, here and in other commands.
SNAPSHOT = typer.Argument(
    metavar="SNAPSHOT", help="An id or its beginning, latest, latest:BACKUP or latest:DOMAIN/BACKUP."
)


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "show", takes=REPOSITORY)
    def show(run: "Run", snapshot: Annotated[str, SNAPSHOT]) -> None:
        """Show what a snapshot holds.

        The owner sees its streams, what changed since the snapshot before, and the inventory of the database, where
        `~` marks estimates; other roles see its size and times.
        """
        from penstock import engine
        from penstock.cli.output import views
        from penstock.workspace import Need

        repository = run.workspace.repository(Need.OWNER_OR_ANY)
        entry = engine.find(repository, snapshot, warn=run.output.warning)
        run.output.result(engine.show(entry).to_json(), views.snapshot)
