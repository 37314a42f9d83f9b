"""penstock inspect: look at a source without dumping it."""

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.invocation import command
from penstock.cli.options import BASIC

if TYPE_CHECKING:
    from penstock.cli.run import Run

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "inspect", takes=BASIC)
    def inspect(
        run: "Run",
        source: Annotated[str, typer.Argument(metavar="SOURCE", help="A backup's name in the settings, or a URL.")],
    ) -> None:
        """Look at a source without dumping it.

        Shows versions, the streams that a dump would have, an estimate of its size, the inventory, and what would
        prevent a backup.
        """
        from dataclasses import asdict

        from penstock.cli.output import views
        from penstock.engine import left_out_json

        plan = run.workspace.plan(source)
        found = plan.source.inspect()
        document = {"source": type(plan.source).name, "location": plan.source.location, **asdict(found)}
        document["warnings"] = list(found.warnings)
        document["left_out"] = [left_out_json(one) for one in found.left_out]
        document["inventory"] = [asdict(item) for item in found.inventory]
        document["streams"] = [
            {
                "name": spec.name,
                "format": spec.format,
                "optional": spec.optional,
                "size_estimate": spec.size_estimate,
            }
            for spec in found.streams
        ]
        run.output.result(document, views.inspection)
