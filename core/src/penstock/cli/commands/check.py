"""penstock check: is everything there, and as it was written?"""

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.options import WORK, command

if TYPE_CHECKING:
    from penstock.cli.run import Run

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "check", takes=WORK)
    def check(
        run: "Run",
        read_data: Annotated[
            bool, typer.Option("--read-data", help="Read every byte; with the owner's key, open all of it too.")
        ] = False,
    ) -> None:
        """Check that everything is there and undamaged.

        Signatures, seals, and that whatever is referred to is there; with --read-data every byte. Fails if any is not.
        """
        from penstock import engine
        from penstock.api import CheckFailed
        from penstock.cli.output import views
        from penstock.cli.unlock import Need

        repository = run.repository(Need.OWNER_OR_ANY if read_data else Need.ANY)
        with run.listening() as listen:
            report = engine.check(
                repository, read_data=read_data, cache_dir=run.cache_dir, memory=run.memory(), listener=listen
            )
        run.output.result(report.to_json(), views.check)
        if report.finding_count:
            raise CheckFailed(
                f"damaged or missing objects: {report.finding_count}",
                hint="Snapshots that do not need them can still be restored.",
                details=tuple(f"{one.key}: {one.problem}" for one in report.findings) if run.output.json else (),
            )
