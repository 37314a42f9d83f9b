"""penstock plugins: what is installed."""

from typing import TYPE_CHECKING

import typer

from penstock.cli.invocation import command

if TYPE_CHECKING:
    from penstock.cli.run import Run

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "plugins", takes=("json", "quiet"))
    def plugins(run: "Run") -> None:
        """List the installed plugins."""
        from penstock.cli.output import views

        usable = [
            {
                "kind": one.kind,
                "name": one.name,
                "schemes": list(one.schemes),
                "summary": one.summary,
                "distribution": one.distribution,
                "version": one.version,
                "api_version": one.api_version,
                "capabilities": sorted(capability.value for capability in one.capabilities),
                "clashes": list(one.clashes),
            }
            for one in run.workspace.host.plugins()
        ]
        broken = [
            {"name": one.name, "distribution": one.distribution, "version": one.version, "reason": one.reason}
            for one in run.workspace.host.broken()
        ]
        run.output.result({"plugins": usable, "broken": broken}, views.plugins)
