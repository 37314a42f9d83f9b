"""penstock tag and hold: what people say of a snapshot."""

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.commands.show import SNAPSHOT
from penstock.cli.invocation import command
from penstock.cli.options import REPOSITORY

if TYPE_CHECKING:
    from penstock.cli.run import Run

__all__ = ["register"]

_INTERRUPTED = "Run penstock tag SNAPSHOT to see the tags and holds that it has now."


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @command(app, "tag", acts=True, takes=REPOSITORY, interrupted=_INTERRUPTED)
    def tag(
        run: "Run",
        snapshot: Annotated[str, SNAPSHOT],
        tags: Annotated[list[str] | None, typer.Argument(metavar="TAG", help="Tags to add.")] = None,
        remove: Annotated[
            list[str] | None, typer.Option("--remove", metavar="TAG", help="A tag to take away; repeat it.")
        ] = None,
    ) -> None:
        """Tag a snapshot, or show its tags and holds.

        A tag that the settings name in keep keeps the snapshot.
        """
        from penstock import engine
        from penstock.cli.output import keeping
        from penstock.workspace import Need

        repository = run.workspace.repository(Need.KEEPER if tags or remove else Need.ANY)
        entry = engine.find(repository, snapshot, warn=run.output.warning)
        run.output.result(engine.tag(entry, add=tags or (), remove=remove or ()).to_json(), keeping.marked)

    @command(app, "hold", acts=True, takes=REPOSITORY, interrupted=_INTERRUPTED)
    def hold(
        run: "Run",
        snapshot: Annotated[str, SNAPSHOT],
        reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why, for people.")] = None,
        release: Annotated[bool, typer.Option("--release", help="Lift all holds on it.")] = False,
    ) -> None:
        """Hold a snapshot, so that nothing forgets it, or release it."""
        from penstock import engine
        from penstock.api import UsageError
        from penstock.cli.output import keeping
        from penstock.workspace import Need

        if reason is None:
            raise UsageError("say why: --reason TEXT")
        repository = run.workspace.repository(Need.KEEPER)
        entry = engine.find(repository, snapshot, warn=run.output.warning)
        done = engine.release(entry, reason) if release else engine.hold(entry, reason)
        run.output.result(done.to_json(), keeping.marked)
