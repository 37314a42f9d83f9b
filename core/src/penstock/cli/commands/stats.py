"""penstock stats: what is stored, for which backups, and what a prune would free."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.invocation import command
from penstock.cli.options import DATA

if TYPE_CHECKING:
    from penstock.cli.run import Run

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "stats", takes=DATA)
    def stats(
        run: "Run",
        backup: Annotated[
            str | None, typer.Option("--backup", metavar="NAME", help="Only the figures of this backup.")
        ] = None,
        domain: Annotated[
            str | None, typer.Option("--domain", metavar="LABEL", help="Only the figures of this domain.")
        ] = None,
        svg: Annotated[
            Path | None, typer.Option("--svg", metavar="FILE", help="Also draw the growth over time, as SVG.")
        ] = None,
    ) -> None:
        """Show what is stored, for which backups, and what a prune would free.

        Reads what says where things are, and no data: any key can, as far as it reaches.
        """
        from penstock.cli.new_files import require_place, write_whole
        from penstock.cli.output.growth import growth
        from penstock.cli.output.stats import stats as view
        from penstock.engine import stats as work
        from penstock.workspace import Need

        if svg is not None:
            require_place(svg)
        workspace = run.workspace
        repository = workspace.repository(Need.ANY)
        with run.listening() as listen:
            report = work.stats(repository, backup=backup, domain=domain, memory=workspace.memory(), listener=listen)
        document = report.to_json()
        if svg is not None:
            of = " in ".join(one for one in (backup, domain or workspace.place().shown) if one)
            write_whole(svg, growth(document["nights"], of).encode())
        run.output.result({**document, "sink": run.sink_figures()}, view)
