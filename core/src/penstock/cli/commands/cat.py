"""penstock cat: the bytes of one stream."""

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.commands.show import SNAPSHOT
from penstock.cli.options import WORK, command

if TYPE_CHECKING:
    from penstock.cli.run import Run

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "cat", takes=tuple(option for option in WORK if option not in ("json", "cache_dir")))
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

        repository = run.repository(Need.OWNER)
        entry = engine.find(repository, snapshot, warn=run.output.warning)
        with run.listening() as listen:
            engine.cat(repository, entry, stream, out=run.output.raw, memory=run.memory(), listener=listen)
