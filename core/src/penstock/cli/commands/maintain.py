"""penstock maintain: all that a repository needs from day to day."""

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.invocation import command
from penstock.cli.options import DATA, GRACE, TAKE_OVER

if TYPE_CHECKING:
    from penstock.cli.run import Run

__all__ = ["register"]

_MEND = "Run penstock repair. Give up what nothing mends with penstock forget, --unreadable and --gone."
_IDLE = "Nobody relies on them. A later run deletes what Penstock may have written; delete the rest yourself."


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(
        app,
        "maintain",
        acts=True,
        takes=("cache_dir", *DATA),
        interrupted="Nothing is lost: the next run goes on.",
    )
    def maintain(
        run: "Run",
        grace: Annotated[str | None, GRACE] = None,
        take_over: Annotated[bool, TAKE_OVER] = False,
    ) -> None:
        """Do what is due: check, forget, prune. One line for a timer.

        Checks everything and reads a part of the data, so that all of it is read within check_within of the settings
        (30 days); forgets what the settings do not keep; frees what nobody needs. If the check finds anything that
        somebody relies on, nothing is forgotten or freed. Needs a maintainer's key or the owner's.
        """
        from penstock import engine
        from penstock.api import CheckFailed
        from penstock.cli.amounts import duration
        from penstock.cli.output import upkeep
        from penstock.engine import maintain as work
        from penstock.workspace import Need

        workspace = run.workspace
        stays = duration("--grace", grace) or work.GRACE
        cache = workspace.cache_to_write()
        repository = workspace.repository(Need.KEEPER)
        with run.listening() as listen, engine.Doubts(run.output.warning, "left out") as doubts:
            report = work.maintain(
                repository,
                workspace.policy,
                within=workspace.check_within(),
                cache_dir=cache,
                grace=stays,
                take_over=take_over,
                memory=workspace.memory(),
                on_damage=doubts,
                listener=listen,
            )
        run.output.result({**report.to_json(), "sink": run.sink_figures()}, upkeep.maintain)
        found = report.checked
        if found.finding_count:
            raise CheckFailed(
                f"damaged or missing objects: {found.finding_count}"
                + ("; nothing was forgotten or deleted" if report.pruned is None else ""),
                hint=_MEND if report.pruned is None else _IDLE,
                details=tuple(f"{one.key}: {one.problem}" for one in found.findings) if run.output.json else (),
            )
