"""penstock diff: what changed between two snapshots."""

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.invocation import command
from penstock.cli.options import REPOSITORY

if TYPE_CHECKING:
    from penstock.cli.run import Run
    from penstock.repository import Repository, SnapshotEntry

__all__ = ["register"]

_FIRST = typer.Argument(
    metavar="A",
    help="The earlier snapshot, as for show; the latest if not given. Alone: this one against the one before it.",
    show_default=False,
)
_SECOND = typer.Argument(metavar="B", help="The later snapshot.", show_default=False)


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "diff", takes=REPOSITORY)
    def diff(
        run: "Run",
        a: Annotated[str, _FIRST] = "latest",
        b: Annotated[str | None, _SECOND] = None,
        backup: Annotated[
            str | None,
            typer.Option("--backup", metavar="NAME", help="Snapshots of this backup alone; latest is its latest."),
        ] = None,
    ) -> None:
        """Show what changed between two snapshots.

        Compares the inventories of the database, and what the streams are made of. It reads no data, and needs the
        owner's key or the passphrase.
        """
        from penstock import engine
        from penstock.cli.output import differences
        from penstock.workspace import Need

        repository = run.workspace.repository(Need.OWNER)
        first = _found(run, repository, a, backup)
        if b is None:
            before, after = engine.find_previous(repository, first, warn=run.output.warning), first
        else:
            before, after = first, _found(run, repository, b, backup)
        with run.listening() as listen:
            found = engine.diff(before, after, listener=listen)
        run.output.result({**found.to_json(), "sink": run.sink_figures()}, differences.diff)


def _found(run: "Run", repository: "Repository", text: str, backup: str | None) -> "SnapshotEntry":
    from penstock import engine
    from penstock.api import SnapshotNotFound

    name = f"latest:{backup}" if text == "latest" and backup else text
    entry = engine.find(repository, name, warn=run.output.warning)
    if backup is not None and entry.head.backup != backup:
        raise SnapshotNotFound(
            f"{text} is a snapshot of {entry.head.backup}, not of {backup}",
            hint="Leave --backup out to compare two backups.",
        )
    return entry
