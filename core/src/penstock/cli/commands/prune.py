"""penstock prune: free what no snapshot needs any more."""

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.invocation import command
from penstock.cli.options import DATA, GRACE, TAKE_OVER

if TYPE_CHECKING:
    from penstock.cli.run import Run

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "prune", acts=True, takes=DATA, interrupted="Nothing is lost: the next run goes on.")
    def prune(
        run: "Run",
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what it would do.")] = False,
        grace: Annotated[str | None, GRACE] = None,
        max_unused: Annotated[
            str | None,
            typer.Option(metavar="PERCENT", help="How much of the packs may be dead before some are compacted; 10%."),
        ] = None,
        max_time: Annotated[
            str | None, typer.Option(metavar="DURATION", help="End after so long; the next run goes on.")
        ] = None,
        max_bytes: Annotated[
            str | None, typer.Option(metavar="SIZE", help="Delete about so much at most, such as 100GiB.")
        ] = None,
        take_over: Annotated[bool, TAKE_OVER] = False,
    ) -> None:
        """Free what no snapshot needs any more.

        Backups and restores go on meanwhile. What is dead now is deleted by a run after the grace, so run it every
        day. Needs a maintainer's key or the owner's.
        """
        from penstock.cli.amounts import duration, share, size
        from penstock.cli.output import upkeep
        from penstock.engine import prune as work
        from penstock.workspace import Need

        workspace = run.workspace
        time = duration("--max-time", max_time)
        limits = work.Limits(
            seconds=time.total_seconds() if time else None,
            size=size("--max-bytes", max_bytes),
        )
        stays = duration("--grace", grace) or work.GRACE
        unused = share("--max-unused", max_unused)
        repository = workspace.repository(Need.ANY if dry_run else Need.KEEPER)
        with run.listening() as listen:
            report = work.prune(
                repository,
                grace=stays,
                most_unused=work.MOST_UNUSED if unused is None else unused,
                limits=limits,
                dry_run=dry_run,
                take_over=take_over,
                memory=workspace.memory(),
                listener=listen,
            )
        run.output.result({**report.to_json(), "sink": run.sink_figures()}, upkeep.prune)
