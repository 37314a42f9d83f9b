"""penstock snapshots: list them."""

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.invocation import command
from penstock.cli.options import REPOSITORY

if TYPE_CHECKING:
    from penstock.cli.run import Run

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "snapshots", takes=REPOSITORY)
    def snapshots(
        run: "Run",
        backup: Annotated[
            str | None, typer.Option("--backup", metavar="NAME", help="Only the snapshots of this backup.")
        ] = None,
        forgotten: Annotated[
            bool, typer.Option("--forgotten", help="Those that were forgotten, and can be taken back.")
        ] = False,
    ) -> None:
        """List the snapshots of a repository, oldest first."""
        from penstock import engine
        from penstock.cli.output import keeping, views
        from penstock.engine.forget import list_forgotten
        from penstock.repository.snapshots import SnapshotEntry, summaries
        from penstock.workspace import Need

        repository = run.workspace.repository(Need.ANY)
        with engine.Doubts(run.output.warning, "left out") as doubts:
            if forgotten:
                listed = [one.to_json() for one in list_forgotten(repository, doubts)]
            else:
                listed = summaries(repository, SnapshotEntry.to_json, on_damage=doubts)
        shown = [one for one in listed if backup in (None, one["backup"])]
        run.output.result({"snapshots": shown}, keeping.forgotten if forgotten else views.snapshots)
