"""penstock repair: mend a repository, and say what is lost."""

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.invocation import command
from penstock.cli.options import DATA

if TYPE_CHECKING:
    from penstock.cli.run import Run
    from penstock.engine import RepairReport
    from penstock.repository import Access

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "repair", acts=True, takes=DATA, interrupted="Nothing is lost: the next run goes on.")
    def repair(
        run: "Run",
        replicas: Annotated[
            list[str] | None,
            typer.Option(
                "--from",
                metavar="URL|NAME",
                help="A replica that may have whole what is damaged here: a URL, or a name in the settings; repeat it.",
            ),
        ] = None,
        quick: Annotated[
            bool, typer.Option("--quick", help="Do not read the data of packs: find what is gone, but not all damage.")
        ] = False,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what it would do.")] = False,
    ) -> None:
        """Mend what is damaged or gone, and say which snapshots are lost.

        Reads everything, takes what is not whole from replicas, and lists the streams that nobody can bring back.
        Their snapshots are marked, which takes a maintainer's key or the owner's; backups store anew what damaged
        packs held. Only the owner's key or the passphrase tells which streams they are.
        """
        from penstock import engine
        from penstock.cli.output import repairs

        workspace = run.workspace
        named = list(dict.fromkeys(replicas or []))
        sink = workspace.place().sink
        sources = [workspace.place(one).sink for one in named]
        access = _access(run, named)
        with run.listening() as listen:
            report = engine.repair(
                sink,
                access,
                replicas=sources,
                quick=quick,
                dry_run=dry_run,
                memory=workspace.memory(),
                listener=listen,
            )
        run.output.result({**report.to_json(), "sink": run.sink_figures()}, repairs.repaired)
        _require_whole(report)


def _access(run: "Run", replicas: list[str]) -> "Access":
    """The key at hand; where the repository cannot be opened, as a replica of it takes it."""
    from penstock.api import KeyProblem, RepositoryError
    from penstock.workspace import Need

    workspace = run.workspace
    try:
        return workspace.repository(Need.OWNER_OR_ANY).access
    except (KeyProblem, RepositoryError) as error:
        if not replicas:
            error.hint = error.hint or "Name a replica with --from: what makes a repository can come back from there."
            raise
        first = error
    for named in replicas:
        try:
            return workspace.repository(Need.OWNER_OR_ANY, named).access
        except (KeyProblem, RepositoryError):
            continue
    raise first


def _require_whole(report: "RepairReport") -> None:
    from penstock.api import RepairedInPart
    from penstock.cli.failures import NAMED
    from penstock.cli.output.units import count

    if report.whole:
        return
    lost = [f"snapshot {one.entry.id.hex()[:8]} of {one.entry.head.backup}" for one in report.lost]
    heads = [f"{one.key}: {one.problem}" for one in report.heads]
    waiting = [f"snapshot {one.hex()[:8]} comes back with a run after the next prune" for one in report.waiting]
    number = report.lost_count + report.head_count + len(report.waiting)
    raise RepairedInPart(
        f"{count(number, 'snapshot')} cannot be restored whole",
        hint="Name a replica with --from, restore the streams that are left, or let go of them: penstock forget.",
        details=tuple([*lost, *heads, *waiting][:NAMED]),
    )
