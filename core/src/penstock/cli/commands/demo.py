"""penstock demo: back up, restore and damage a sample database, and prove each claim on the way."""

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.invocation import command

if TYPE_CHECKING:
    from penstock.cli.run import Run

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "demo", takes=("json", "quiet"), interrupted="Run it again: it leaves nothing behind.")
    def demo(
        run: "Run",
        rows: Annotated[
            int, typer.Option("--rows", metavar="NUMBER", min=1000, help="How many rows the sample has.")
        ] = 200_000,
    ) -> None:
        """Back up and restore a sample database here and now.

        A SQLite database and a repository in a temporary folder: two backups with a change in between, both restored
        and compared, and a flipped bit that the check must find. Fails if any claim does not hold.
        """
        from pathlib import Path
        from tempfile import TemporaryDirectory

        from penstock.cli.demonstration import Demonstration

        with TemporaryDirectory(prefix="penstock-demo-") as folder:
            Demonstration(run.workspace.host, run.output, Path(folder), rows).play()
