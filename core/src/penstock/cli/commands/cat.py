"""penstock cat: the bytes of one stream."""

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.commands.show import SNAPSHOT
from penstock.cli.options import REPOSITORY, command

if TYPE_CHECKING:
    from penstock.cli.run import Run

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "cat", takes=tuple(option for option in REPOSITORY if option != "json"))
    def cat(
        run: "Run",
        snapshot: Annotated[str, SNAPSHOT],
        stream: Annotated[str, typer.Argument(metavar="STREAM", help="The name of a stream, as show lists it.")],
    ) -> None:
        """Write a stream of a snapshot to stdout.

        All that is written was verified; an exit code other than 0 says that it is not all.
        """
        from penstock import engine
        from penstock.cli.unlock import Need
        from penstock.repository.snapshots import find_snapshot

        repository = run.repository(Need.OWNER)
        entry = find_snapshot(repository, snapshot)
        with run.listening() as listen:
            engine.cat(repository, entry, stream, out=run.output.raw, listener=listen)
