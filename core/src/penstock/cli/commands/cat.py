"""penstock cat: the bytes of one stream."""

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.commands.show import SNAPSHOT
from penstock.cli.invocation import command
from penstock.cli.options import DATA

if TYPE_CHECKING:
    from penstock.cli.run import Run

__all__ = ["register"]

_INTERRUPTED = "Discard what was written: it is not all of the stream."


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "cat", takes=tuple(option for option in DATA if option != "json"), interrupted=_INTERRUPTED)
    def cat(
        run: "Run",
        snapshot: Annotated[str, SNAPSHOT],
        stream: Annotated[str, typer.Argument(metavar="STREAM", help="The name of a stream, as show lists it.")],
    ) -> None:
        """Write a stream of a snapshot to stdout.

        All bytes that are written were verified. With an exit code other than 0, they are not all of the stream.
        """
        from penstock import engine
        from penstock.workspace import Need

        repository = run.workspace.repository(Need.OWNER)
        entry = engine.find(repository, snapshot, warn=run.output.warning)
        with run.listening() as listen:
            engine.cat(entry, stream, out=run.output.raw, memory=run.workspace.memory(), listener=listen)
