"""penstock verify: prove that snapshots come out whole."""

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.invocation import command
from penstock.cli.options import DATA

if TYPE_CHECKING:
    from penstock.cli.run import Run

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "verify", acts=True, takes=("cache_dir", *DATA))
    def verify(
        run: "Run",
        snapshots: Annotated[
            list[str] | None,
            typer.Argument(metavar="[SNAPSHOT...]", help="As for restore; by default the latest of each backup."),
        ] = None,
    ) -> None:
        """Prove that every stream of a snapshot comes out whole.

        Reads all of it, as a restore does, and compares each stream with the digest of the dump. Needs the owner.
        """
        from penstock import engine
        from penstock.api import CheckFailed
        from penstock.cli.output import views
        from penstock.workspace import Need

        repository = run.workspace.repository(Need.OWNER)
        names = snapshots or engine.latest_names(repository, warn=run.output.warning)
        entries = [
            engine.find(repository, name, cache_dir=run.workspace.cache_dir, warn=run.output.warning) for name in names
        ]
        with run.listening() as listen:
            report = engine.verify(entries, memory=run.workspace.memory(), listener=listen)
        run.output.result({**report.to_json(), "sink": run.sink_figures()}, views.verified)
        if report.problems:
            raise CheckFailed(
                f"streams that do not come out whole: {report.problems}",
                hint="Run penstock check to see which objects are damaged; the other streams can be restored.",
                details=tuple(problem for one in report.snapshots for problem in one.problems)
                if run.output.json
                else (),
            )
