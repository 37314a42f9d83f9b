"""penstock check: whether everything is there, and undamaged."""

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.invocation import command
from penstock.cli.options import DATA

if TYPE_CHECKING:
    from penstock.cli.run import Run

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "check", takes=(*DATA, "cache_dir"))
    def check(
        run: "Run",
        read_data: Annotated[
            bool, typer.Option("--read-data", help="Read every byte; with the owner's key, open all of it too.")
        ] = False,
    ) -> None:
        """Check that everything is there and undamaged.

        Verifies signatures and seals, and that nothing that is referred to is missing; with --read-data, every byte.
        Fails if it finds damage.
        """
        from penstock import engine
        from penstock.api import CheckFailed
        from penstock.cli.output import views
        from penstock.format.trust import Role
        from penstock.workspace import Need

        repository = run.workspace.repository(Need.OWNER_OR_ANY if read_data else Need.ANY)
        with run.listening() as listen:
            report = engine.check(repository, read_data=read_data, cache_dir=run.workspace.cache_dir, listener=listen)
        findings = [{"key": finding.key, "problem": finding.problem} for finding in report.findings]
        checked = {
            "snapshots": report.snapshots,
            "packs": report.packs,
            "segments": report.segments,
            "sessions": report.sessions,
            "index": report.index,
            "keys": report.keys,
            "read": report.read,
            "read_data": report.data_read,
            "opened": report.data_read and repository.access.role is Role.OWNER,
        }
        run.output.result({"findings": findings, "checked": checked, "sink": run.sink_figures()}, views.check)
        if findings:
            raise CheckFailed(
                f"damaged or missing objects: {len(findings)}",
                hint="Restore with --despite-damage what does not need them: other snapshots can still be restored.",
                details=tuple(f"{one['key']}: {one['problem']}" for one in findings) if run.output.json else (),
            )
