"""penstock show: what is in a snapshot."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.invocation import command
from penstock.cli.options import REPOSITORY

if TYPE_CHECKING:
    from penstock.cli.run import Run
    from penstock.format.snapshot import Manifest

__all__ = ["SNAPSHOT", "register"]

#: The argument that names a snapshot, here and in other commands.
SNAPSHOT = typer.Argument(metavar="SNAPSHOT", help="An id or its beginning, latest, or latest:BACKUP.")


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "show", takes=REPOSITORY)
    def show(run: "Run", snapshot: Annotated[str, SNAPSHOT]) -> None:
        """Show what a snapshot holds.

        The owner sees its streams and the inventory of the database, where `~` marks estimates; other roles see its
        size and times.
        """
        from penstock import engine
        from penstock.cli.commands.snapshots import entry_json
        from penstock.cli.output import views
        from penstock.repository.snapshots import find_snapshot
        from penstock.workspace import Need

        repository = run.workspace.repository(Need.OWNER_OR_ANY)
        entry = find_snapshot(repository, snapshot)
        manifest = engine.show(repository, entry)
        document = entry_json(entry)
        document["content"] = None if manifest is None else _content(manifest)
        document["content_hidden"] = f"this is a {repository.access.role} key" if manifest is None else None
        run.output.result(document, views.snapshot)


def _content(manifest: "Manifest") -> dict[str, Any]:
    return {
        "consistency": manifest.consistency,
        "streams": [
            {
                "name": stream.name,
                "format": stream.format,
                "phase": stream.phase,
                "optional": stream.optional,
                "size": stream.size,
                "blake3": stream.digest.hex(),
            }
            for stream in manifest.streams
        ],
        "inspection": dict(manifest.inspection),
    }
