"""penstock snapshots: list them."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.invocation import command
from penstock.cli.options import REPOSITORY

if TYPE_CHECKING:
    from penstock.cli.run import Run
    from penstock.repository import SnapshotEntry

__all__ = ["entry_json", "register"]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "snapshots", takes=REPOSITORY)
    def snapshots(
        run: "Run",
        backup: Annotated[
            str | None, typer.Option("--backup", metavar="NAME", help="Only the snapshots of this backup.")
        ] = None,
    ) -> None:
        """List the snapshots of a repository, oldest first."""
        from penstock.cli.output import views
        from penstock.repository.snapshots import list_snapshots
        from penstock.workspace import Need

        entries = list_snapshots(run.workspace.repository(Need.ANY))
        shown = [entry_json(entry) for entry in entries if backup in (None, entry.catalogue.backup)]
        run.output.result({"snapshots": shown}, views.snapshots)


def entry_json(entry: "SnapshotEntry") -> dict[str, Any]:
    """What every role may know about a snapshot. Sizes in bytes; `stored` includes the snapshot object."""
    catalogue = entry.catalogue
    return {
        "id": entry.id.hex(),
        "backup": catalogue.backup,
        "source": catalogue.source,
        "started": catalogue.started,
        "finished": catalogue.finished,
        "host": catalogue.host,
        "program": catalogue.program,
        "parent": catalogue.parent.hex() if catalogue.parent else None,
        "streams": catalogue.streams,
        "size": catalogue.size,
        "stored": catalogue.stored + entry.object_size,
    }
