"""penstock check: is everything there, and as it was written?"""

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.options import REPOSITORY, command

if TYPE_CHECKING:
    from penstock.cli.run import Run

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "check", takes=(*REPOSITORY, "cache_dir"))
    def check(
        run: "Run",
        read_data: Annotated[
            bool, typer.Option("--read-data", help="Read every byte; with the owner's key, open all of it too.")
        ] = False,
    ) -> None:
        """Check that everything is there and undamaged.

        Signatures, seals, and that whatever is referred to is there; with --read-data every byte. Fails if any is not.
        """
        from penstock import engine
        from penstock.api import CheckFailed
        from penstock.cli.output import views
        from penstock.cli.unlock import Need
        from penstock.format.trust import Role

        repository = run.repository(Need.OWNER_OR_ANY if read_data else Need.ANY)
        with run.listening() as listen:
            report = engine.check(repository, read_data=read_data, cache_dir=run.cache_dir, listener=listen)
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
        run.output.result({"findings": findings, "checked": checked}, views.check)
        if findings:
            raise CheckFailed(
                f"damaged or missing objects: {len(findings)}",
                hint="Snapshots that do not need them can still be restored: restore --despite-damage.",
                details=tuple(f"{one['key']}: {one['problem']}" for one in findings) if run.output.json else (),
            )
