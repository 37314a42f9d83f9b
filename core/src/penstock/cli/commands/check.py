"""penstock check: whether everything is there, and undamaged."""

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.invocation import command
from penstock.cli.options import CHECKPOINT, DATA

if TYPE_CHECKING:
    from penstock.cli.run import Run

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "check", acts=True, takes=("cache_dir", *DATA))
    def check(
        run: "Run",
        read_data: Annotated[
            bool, typer.Option("--read-data", help="Read every byte; with the owner's key, open all of it too.")
        ] = False,
        read_within: Annotated[
            str | None,
            typer.Option(metavar="DURATION", help="Read a part: as much as reads all, in daily runs over that time."),
        ] = None,
        checkpoint: Annotated[str | None, CHECKPOINT] = None,
    ) -> None:
        """Check that everything is there and undamaged.

        Verifies signatures and seals, and that nothing that is referred to is missing; with --read-data, every byte.
        Fails if it finds damage.
        """
        from penstock import engine
        from penstock.api import CheckFailed, UsageError
        from penstock.cli.amounts import duration
        from penstock.cli.output import views
        from penstock.workspace import Need

        within = duration("--read-within", read_within)
        if within is not None and read_data:
            raise UsageError("--read-data reads everything, and --read-within a part of it")
        reads = read_data or within is not None
        cache_dir = run.workspace.cache_dir if within is None else run.workspace.cache_to_write()
        repository = run.workspace.repository(Need.OWNER_OR_ANY if reads else Need.ANY)
        with run.listening() as listen:
            report = engine.check(
                repository,
                read_data=reads,
                within=within,
                cache_dir=cache_dir,
                checkpoint=checkpoint,
                memory=run.workspace.memory(),
                listener=listen,
            )
        run.output.result({**report.to_json(), "sink": run.sink_figures()}, views.check)
        if report.finding_count:
            raise CheckFailed(
                f"damaged or missing objects: {report.finding_count}",
                hint="Restore what does not need them: damage to other objects is no obstacle.",
                details=tuple(f"{one.key}: {one.problem}" for one in report.findings) if run.output.json else (),
            )
