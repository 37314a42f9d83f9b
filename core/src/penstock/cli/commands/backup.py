"""penstock backup: dump sources into repositories."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli import steady
from penstock.cli.options import WORK, command

if TYPE_CHECKING:
    from penstock.api import PenstockError
    from penstock.cli.run import Run

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "backup", takes=WORK)
    def backup(
        run: "Run",
        sources: Annotated[
            list[str] | None,
            typer.Argument(metavar="SOURCE", help="Names of backups in the settings, or URLs of sources."),
        ] = None,
        every: Annotated[bool, typer.Option("--all", help="All backups of the settings.")] = False,
        name: Annotated[
            str | None, typer.Option("--name", metavar="NAME", help="What the backup is called; for a single source.")
        ] = None,
    ) -> None:
        """Dump sources into a repository.

        Each becomes one snapshot, or nothing. One that fails does not keep the others from being made, but the
        command then fails.
        """
        from penstock.api import UsageError

        wanted = list(sources or [])
        if every:
            if wanted:
                raise UsageError("--all is for all backups of the settings: name none, or leave it out")
            wanted = list(run.settings.backups)
            if not wanted:
                raise UsageError("--all: the settings have no backups")
        if not wanted:
            raise UsageError("which source? a backup's name in the settings, or a URL, or --all")
        if name is not None and len(wanted) > 1:
            raise UsageError("--name is for a single source")
        _back_up(run, wanted, name)


def _back_up(run: "Run", wanted: list[str], name: str | None) -> None:
    from penstock.api import PartialFailure, PenstockError
    from penstock.cli.output import views
    from penstock.cli.output.console import error_json
    from penstock.cli.run import is_url, name_of

    outcomes: list[dict[str, Any]] = []
    errors: list[tuple[str, PenstockError]] = []
    for text in wanted:
        try:
            outcomes.append(_one(run, text, name))
        except Exception as error:  # one backup's failure, of whatever kind, must not keep the others from being made
            if len(wanted) == 1:
                raise
            expected = error if isinstance(error, PenstockError) else _unexpected(error)
            # Not the URL itself: that there is a password in it may be what is wrong.
            failed = name_of(text) if is_url(text) else text
            errors.append((failed, expected))
            outcomes.append({"name": failed, "snapshot": None, "error": error_json(expected)})
    run.output.result({"backups": outcomes}, views.backups)
    if errors:
        details = tuple(line for text, error in errors for line in _lines(text, error))
        if len(errors) < len(wanted):
            raise PartialFailure(f"{len(errors)} of {len(wanted)} backups failed", details=details)
        raise PenstockError(f"all {len(wanted)} backups failed", details=details)


def _one(run: "Run", text: str, name: str | None) -> dict[str, Any]:
    from penstock.cli.unlock import Need
    from penstock.engine import backup

    plan = run.plan(text, name)
    repository = run.repository(Need.ANY, plan.repository)
    steady()
    with run.listening() as listen:
        result = backup(
            repository,
            plan.source,
            name=plan.name,
            source_type=type(plan.source).name,
            cache_dir=run.cache_dir,
            memory=run.memory(plan.settings),
            compression=run.compression(plan.settings),
            listener=listen,
        )
    for warning in result.warnings:
        run.output.warning(f"{plan.name}: {warning}")
    return {
        "name": plan.name,
        "snapshot": result.snapshot.hex(),
        "repository": repository.id.hex(),
        "source": result.catalogue.source,
        "started": result.catalogue.started,
        "finished": result.catalogue.finished,
        "streams": result.catalogue.streams,
        "read": result.read,
        "stored": result.stored,
        "seconds": round(result.seconds, 3),
        "warnings": list(result.warnings),
        "error": None,
    }


def _unexpected(error: Exception) -> "PenstockError":
    from penstock.api import PenstockError

    # Not the error's own text, which may hold anything.
    return PenstockError(
        f"unexpected {type(error).__name__}: a mistake in Penstock or in a plugin", hint="Alone, it tells more."
    )


def _lines(text: str, error: "PenstockError") -> list[str]:
    lines = [f"{text}: {error.message}", *(f"  {line}" for line in error.details)]
    return [*lines, f"  hint: {error.hint}"] if error.hint else lines
