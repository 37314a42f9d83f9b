"""penstock replicate: copy a repository into other places."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.invocation import command
from penstock.cli.options import DATA

if TYPE_CHECKING:
    from penstock.api import PenstockError
    from penstock.cli.run import Run
    from penstock.engine import ReplicaReport
    from penstock.repository import Repository

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(
        app,
        "replicate",
        acts=True,
        takes=("cache_dir", *DATA),
        interrupted="Run it again: it goes on where it was, and what the replica lists can be restored already.",
    )
    def replicate(
        run: "Run",
        to: Annotated[
            list[str],
            typer.Option("--to", metavar="URL|NAME", help="The replica: a URL, or a name in the settings; repeat it."),
        ],
    ) -> None:
        """Copy the repository, object by object, into other places.

        Takes a maintainer's or the owner's key, and reads no backup. Every object is verified before it is copied, and
        what was copied before is not read again. The replica opens with the same keys and passphrases, and keeps what
        penstock forget leaves there, whatever becomes of the original.
        """
        from penstock.cli.output import replicas
        from penstock.cli.output.console import error_json
        from penstock.workspace import Need

        repository = run.workspace.repository(Need.KEEPER)
        wanted = list(dict.fromkeys(to))
        errors: list[tuple[str, PenstockError]] = []
        for named in wanted:
            run.stop.check()
            shown, report, error = _one(run, repository, named, alone=len(wanted) == 1)
            document: dict[str, Any] = {} if report is None else report.to_json()
            outcome = {"name": shown, **document, "error": error and error_json(error)}
            run.output.item("targets", outcome, replicas.replicated)
            if error is not None:
                errors.append((shown, error))
        run.output.result({"sink": run.sink_figures()}, lambda _: ())
        if errors:
            raise errors[0][1] if len(wanted) == 1 else _failure(errors, len(wanted))


def _one(
    run: "Run", repository: "Repository", named: str, *, alone: bool
) -> "tuple[str, ReplicaReport | None, PenstockError | None]":
    """One replica: its name, what was copied, and what is to be said of it. Its failure keeps no other back."""
    from penstock.api import Interrupted, PenstockError
    from penstock.engine import replicate
    from penstock.workspace.names import is_url

    workspace = run.workspace
    # Not the URL itself: a password in it may be what is wrong.
    shown = f"{named.partition(':')[0]}:…" if is_url(named) else named
    try:
        target = workspace.place(named)
        shown = target.shown
        with run.listening() as listen:
            report = replicate(
                repository,
                target.sink,
                cache_dir=workspace.cache_dir,
                memory=workspace.memory(),
                listener=listen,
            )
    except Interrupted:
        raise
    except PenstockError as error:
        if alone:
            raise
        return shown, None, error
    return shown, report, _not_whole(report)


def _not_whole(report: "ReplicaReport") -> "PenstockError | None":
    from penstock.api import ReplicatedInPart
    from penstock.cli.failures import NAMED
    from penstock.cli.output.units import count

    if report.whole:
        return None
    left_out = [f"snapshot {one.snapshot.hex()[:8]} of {one.backup}: {one.reason}" for one in report.left_out]
    damaged = [f"{one.key}: {one.problem}" for one in report.damaged]
    return ReplicatedInPart(
        f"the replica in {report.location} is up to date, without {count(len(left_out), 'snapshot')}; "
        f"damaged or missing in the original: {count(report.damage_count, 'object')}",
        hint="Run penstock check on the original. What the replica lists can be restored.",
        details=tuple([*left_out, *damaged][:NAMED]),
    )


def _failure(errors: "list[tuple[str, PenstockError]]", wanted: int) -> "PenstockError":
    """One error for all of several: of their own kind where all are not whole, else a partial failure."""
    from penstock.api import PartialFailure, ReplicatedInPart
    from penstock.cli.failures import lines_of

    partial = all(isinstance(error, ReplicatedInPart) for _, error in errors)
    kind = ReplicatedInPart if partial else PartialFailure
    what = "are not whole" if partial else "failed or are not whole"
    details = tuple(line for shown, error in errors for line in lines_of(shown, error))
    return kind(f"{len(errors)} of {wanted} replicas {what}", details=details)
