"""penstock backup: dump sources into repositories."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.invocation import command
from penstock.cli.options import DATA
from penstock.cli.own_process import steady

if TYPE_CHECKING:
    from penstock.api import PenstockError
    from penstock.cli.run import Run
    from penstock.engine import BackupResult

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(
        app,
        "backup",
        acts=True,
        takes=("jobs", "cache_dir", *DATA),
        interrupted="Run it again, unless a line above names a snapshot: the next run uses what was uploaded.",
    )
    def backup(
        run: "Run",
        sources: Annotated[
            list[str] | None,
            typer.Argument(metavar="SOURCE", help="Names of backups in the settings, or URLs of sources."),
        ] = None,
        every: Annotated[bool, typer.Option("--all", help="All backups of the settings.")] = False,
        name: Annotated[
            str | None, typer.Option("--name", metavar="NAME", help="The name of the backup; for a single source.")
        ] = None,
        tags: Annotated[
            list[str] | None, typer.Option("--tag", metavar="TAG", help="A tag of the snapshot. Can be given again.")
        ] = None,
    ) -> None:
        """Dump sources into a repository.

        Each becomes one snapshot, or nothing. When one fails, the others are still made, but the command fails. What a
        source cannot dump costs itself: it is named, everything else is in the snapshot, and the exit code is 52.
        """
        from penstock.api import UsageError

        wanted = list(dict.fromkeys(sources or []))
        if every:
            if wanted:
                raise UsageError("--all cannot be combined with names: it backs up everything in the settings")
            wanted = list(run.workspace.settings.backups)
            if not wanted:
                raise UsageError("--all: the settings have no backups")
        if not wanted:
            raise UsageError("which source? give a backup's name in the settings, or a URL, or --all")
        if name is not None and len(wanted) > 1:
            raise UsageError("--name is for a single source")
        _back_up(run, wanted, name, tags or [])


def _back_up(run: "Run", wanted: list[str], name: str | None, tags: list[str]) -> None:
    from penstock.api import Interrupted, PenstockError
    from penstock.cli.output import views
    from penstock.cli.output.console import error_json
    from penstock.workspace.names import is_url, name_of

    errors: list[tuple[str, PenstockError]] = []
    for text in wanted:
        run.stop.check()
        try:
            outcome, error = _one(run, text, name, tags)
            if error is not None:
                errors.append((outcome["name"], error))
        except Interrupted:
            raise
        except Exception as error:  # one backup's failure, of whatever kind, must not keep the others from being made
            if len(wanted) == 1 or run.stop.stopped:
                raise
            expected = error if isinstance(error, PenstockError) else _unexpected(error)
            # Not the URL itself: a password in it may be what is wrong.
            failed = name_of(text) if is_url(text) else text
            errors.append((failed, expected))
            outcome = {"name": failed, "snapshot": None, "error": error_json(expected)}
        # At once: what has ended is told even if the next one is interrupted.
        run.output.item("backups", outcome, views.backups)
    if len(wanted) == 1 and errors:
        raise errors[0][1]
    if errors:
        raise _failure(errors, len(wanted))


def _one(run: "Run", text: str, name: str | None, tags: list[str]) -> "tuple[dict[str, Any], PenstockError | None]":
    """One backup: what was made, and what is to be said of a snapshot that is not whole."""
    from penstock.cli.output.console import error_json
    from penstock.engine import backup
    from penstock.workspace import Need
    from penstock.workspace.sinks.metering import since

    workspace = run.workspace
    plan = workspace.plan(text, name)
    before = workspace.figures()
    repository = workspace.repository(Need.ANY, plan.repository)
    jobs = workspace.workers(plan, repository)
    steady()
    with run.listening() as listen:
        result = backup(
            repository,
            plan.source,
            name=plan.name,
            source_type=type(plan.source).name,
            **workspace.storing(plan.repository, plan.settings, jobs.count),
            jobs=jobs,
            tags=tags,
            renew_every=workspace.renew_every(plan.settings),
            listener=listen,
        )
    for warning in result.warnings:
        if warning not in listen.warnings:
            run.output.warning(f"{plan.name}: {warning}")
    figures = since(before, workspace.figures())
    error = _not_whole(plan.name, result)
    document = {
        **result.to_json(),
        "repository": repository.id.hex(),
        "sink": {method: one.to_json() for method, one in figures.items()},
        "error": error and error_json(error),
    }
    return document, error


def _not_whole(name: str, result: "BackupResult") -> "PenstockError | None":
    from penstock.api import BackedUpInPart
    from penstock.cli.failures import NAMED
    from penstock.cli.output.units import count

    if not result.left_out_count:
        return None
    return BackedUpInPart(
        f"the snapshot of {name} is committed, without {count(result.left_out_count, 'object')}",
        hint="Mend what the reasons say; or say in the settings that it is to be left out.",
        details=tuple(str(one) for one in result.left_out[:NAMED]),
    )


def _failure(errors: "list[tuple[str, PenstockError]]", wanted: int) -> "PenstockError":
    """One error for all: when every backup failed with the same code, an error of that kind.

    When none failed, but snapshots are not whole, it is that of these.
    """
    from copy import copy

    from penstock.api import BackedUpInPart, PartialFailure
    from penstock.cli.failures import lines_of

    details = tuple(line for text, error in errors for line in lines_of(text, error))
    if all(isinstance(error, BackedUpInPart) for _, error in errors):
        return BackedUpInPart(f"{len(errors)} of {wanted} backups are not whole", details=details)
    if any(isinstance(error, BackedUpInPart) for _, error in errors):
        return PartialFailure(f"{len(errors)} of {wanted} backups failed or are not whole", details=details)
    if len(errors) < wanted:
        return PartialFailure(f"{len(errors)} of {wanted} backups failed", details=details)
    message = f"all {wanted} backups failed"
    if len({error.exit_code for _, error in errors}) > 1:
        return PartialFailure(f"{message}, for different reasons", details=details)
    same = copy(errors[0][1])
    same.message, same.hint, same.details = message, None, details
    return same


def _unexpected(error: Exception) -> "PenstockError":
    from penstock.api import PenstockError
    from penstock.cli.shortage import shortage

    if (short := shortage(error)) is not None:
        return short
    # Not the error's own text, which may hold anything.
    return PenstockError(
        f"unexpected {type(error).__name__}: a bug in Penstock or in a plugin",
        hint="Run this backup alone to see more.",
    )
