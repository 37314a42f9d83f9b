"""penstock forget and undelete: let go of snapshots, and take it back."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.invocation import command
from penstock.cli.options import DATA, GRACE, REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import timedelta

    from penstock.cli.run import Run
    from penstock.repository import Repository

__all__ = ["register"]

_SNAPSHOTS = typer.Argument(metavar="SNAPSHOT", help="Ids or their beginnings.")


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @command(
        app,
        "forget",
        acts=True,
        takes=DATA,
        interrupted="Run it without --apply to see what is left to do.",
    )
    def forget(
        run: "Run",
        snapshots: Annotated[list[str] | None, _SNAPSHOTS] = None,
        backups: Annotated[
            list[str] | None,
            typer.Option("--backup", metavar="NAME", help="Only the snapshots of this backup; repeat it."),
        ] = None,
        unreadable: Annotated[
            bool,
            typer.Option("--unreadable", help="The ids, whole, are of heads, notices or marks that nobody can read."),
        ] = False,
        gone: Annotated[
            bool,
            typer.Option("--gone", help="Give up what is gone: heads that others name, and these ids, whole, or keys."),
        ] = False,
        retired: Annotated[
            bool,
            typer.Option("--retired", help="Nobody makes the backups of --backup any more: also their last snapshots."),
        ] = False,
        apply: Annotated[bool, typer.Option("--apply", help="Do it. Without this, the plan is only shown.")] = False,
        prune: Annotated[bool, typer.Option("--prune", help="With --apply: prune, too.")] = False,
        grace: Annotated[str | None, GRACE] = None,
    ) -> None:
        """Let go of snapshots that the settings do not keep, or of those named.

        Shows each snapshot with what keeps it, and does nothing without --apply. What is forgotten is no longer listed;
        until a prune sweeps it, penstock undelete takes it back. What is lost for good is given up with --unreadable
        and --gone, so that penstock maintain goes on.
        """
        from penstock import engine
        from penstock.api import UsageError
        from penstock.cli.amounts import duration
        from penstock.cli.output import keeping
        from penstock.engine import forget as work
        from penstock.workspace import Need

        stays = duration("--grace", grace)
        for refused, why in (
            (snapshots and backups, "--backup goes by the settings, and cannot be combined with ids"),
            (retired and not backups, "--retired needs --backup: name each backup that nobody makes any more"),
            (gone and (unreadable or backups), "--gone cannot be combined with --unreadable or --backup"),
            (unreadable and not snapshots, "--unreadable needs ids"),
            (prune and not apply, "--prune needs --apply: penstock prune --dry-run shows what it would free"),
            (prune and (unreadable or gone), "--prune cannot be combined with --unreadable or --gone"),
            (stays and not prune, "--grace needs --prune"),
        ):
            if refused:
                raise UsageError(why)
        workspace = run.workspace
        repository = workspace.repository(Need.KEEPER if apply else Need.ANY)
        if unreadable or gone:
            _give_up(run, repository, snapshots or (), unreadable=unreadable, apply=apply)
            return
        with engine.Doubts(run.output.warning, "left out") as doubts:
            if snapshots:
                chosen = [engine.find(repository, one, warn=run.output.warning) for one in snapshots]
                plan = work.plan_chosen(repository, chosen)
            else:
                plan = (
                    work.plan_retired(repository, backups or (), on_damage=doubts)
                    if retired
                    else work.plan_forget(repository, workspace.policy, only=backups, on_damage=doubts)
                )
                _refuse_unknown(backups or (), {*plan.backups, *workspace.settings.backups})
        if apply:
            gone_too = (backups or ()) if retired else ()
            work.forget(repository, [one.entry for one in plan.forgotten], retired=gone_too)
        document = {**plan.to_json(), "applied": apply}
        if prune:
            document |= _prune(run, repository, stays, forgotten=len(plan.forgotten))
        run.output.result(document, keeping.forget)

    @command(
        app, "undelete", acts=True, takes=REPOSITORY, interrupted="Run it again: what is listed again stays listed."
    )
    def undelete(run: "Run", snapshots: Annotated[list[str], _SNAPSHOTS]) -> None:
        """Take back that snapshots were forgotten; penstock snapshots --forgotten lists them."""
        from penstock.cli.output import keeping
        from penstock.engine import forget as work
        from penstock.workspace import Need

        repository = run.workspace.repository(Need.KEEPER)
        back = work.undelete(repository, snapshots)
        run.output.result({"snapshots": [one.to_json() for one in back]}, keeping.undeleted)


def _prune(run: "Run", repository: "Repository", grace: "timedelta | None", *, forgotten: int) -> dict[str, Any]:
    from penstock.api import PenstockError
    from penstock.api.errors import say_more
    from penstock.engine import prune as work

    try:
        with run.listening() as listen:
            memory = run.workspace.memory()
            report = work.prune(repository, grace=grace or work.GRACE, memory=memory, listener=listen)
    except PenstockError as error:
        say_more(error, f"snapshots forgotten before: {forgotten}")
        raise
    return {"prune": report.to_json(), "sink": run.sink_figures()}


def _give_up(run: "Run", repository: "Repository", names: "Sequence[str]", *, unreadable: bool, apply: bool) -> None:
    from penstock.cli.output import keeping
    from penstock.engine import dropping, vanished
    from penstock.engine import giving_up as work

    shown: dict[str, list[dict[str, Any]]]
    if unreadable:
        sayings = dropping.find_unreadable_sayings(repository, names)
        said = {one.id.hex() for one in sayings}
        heads = [work.find_unreadable(repository, one) for one in names if one not in said]
        gone = work.gone_with(repository, heads)
        if apply:
            work.forget_unreadable(repository, heads, gone)
            dropping.drop(repository, sayings)
        shown = {
            "unreadable": [*(one.to_json() for one in heads), *(one.to_json() for one in sayings)],
            "gone": [one.to_json() for one in gone],
        }
    else:
        lost = vanished.find_vanished(repository, [one for one in names if "/" in one])
        gone = work.find_gone(repository, [one for one in names if "/" not in one])
        if apply:
            work.forget_gone(repository, gone)
            vanished.explain(repository, lost)
        shown = {"unreadable": [], "gone": [*(one.to_json() for one in gone), *(one.to_json() for one in lost)]}
    document = {**shown, "applied": apply}
    run.output.result(document, keeping.given_up)


def _refuse_unknown(names: "Iterable[str]", known: "Collection[str]") -> None:
    from penstock.api import SnapshotNotFound

    for name in names:
        if name not in known:
            raise SnapshotNotFound(
                f"there is no backup {name}, neither in the repository nor in the settings",
                hint="Run penstock snapshots to list them.",
            )
