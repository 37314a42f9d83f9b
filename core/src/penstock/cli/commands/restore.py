"""penstock restore: from a snapshot into a database."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.commands.show import SNAPSHOT
from penstock.cli.invocation import command
from penstock.cli.options import CHECKPOINT, DATA

if TYPE_CHECKING:
    from penstock.api import Source
    from penstock.cli.run import Run

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(
        app,
        "restore",
        acts=True,
        takes=("cache_dir", *DATA),
        interrupted="Look at the target before you use it: it is as it was, or holds a part of the snapshot. "
        "Then restore again, with --clean if it is not empty.",
    )
    def restore(
        run: "Run",
        snapshot: Annotated[str, SNAPSHOT],
        to: Annotated[str | None, typer.Option("--to", metavar="URL", help="The database to restore into.")] = None,
        to_backup: Annotated[
            str | None,
            typer.Option(
                "--to-backup", metavar="NAME", help="Restore into the database that this backup of the settings dumps."
            ),
        ] = None,
        clean: Annotated[bool, typer.Option("--clean", help="Drop what is in the way first.")] = False,
        streams: Annotated[
            list[str] | None, typer.Option("--stream", metavar="NAME", help="Only this stream; may be repeated.")
        ] = None,
        options: Annotated[
            list[str] | None,
            typer.Option("-o", "--option", metavar="KEY=VALUE", help="An option of the source; may be repeated."),
        ] = None,
        skip_verify: Annotated[
            bool, typer.Option("--skip-verify", help="Do not read everything once before writing to the target.")
        ] = False,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done; change nothing.")] = False,
        strict: Annotated[
            bool, typer.Option("--strict", help="All or nothing: fail instead of leaving an object out.")
        ] = False,
        rejects: Annotated[
            Path | None,
            typer.Option("--rejects", metavar="FILE", help="A new file for the statements of what is left out."),
        ] = None,
        checkpoint: Annotated[str | None, CHECKPOINT] = None,
    ) -> None:
        """Restore a snapshot into a database.

        The target is asked, and every byte of the snapshot verified, before anything is written. An object that the
        target does not take is left out and named; the rest is restored, and the exit code is 51. Damage to objects
        that the snapshot does not need is no obstacle.
        """
        from penstock import engine
        from penstock.api import RestoredInPart, RestoreTarget
        from penstock.cli.output import views
        from penstock.cli.output.units import count
        from penstock.cli.rejects import open_rejects
        from penstock.workspace import Need

        source = _target(run, to, to_backup)
        target = RestoreTarget(clean=clean, options=_pairs(options or []), strict=strict)
        repository = run.workspace.repository(Need.OWNER)
        entry = engine.find(
            repository,
            snapshot,
            cache_dir=run.workspace.cache_dir,
            checkpoint=checkpoint,
            warn=run.output.warning,
        )
        _same_kind(entry.head.source, source)
        if dry_run:
            with run.listening() as listen:
                planned = engine.plan_restore(
                    entry,
                    source,
                    target=target,
                    streams=streams or None,
                    memory=run.workspace.memory(),
                    listener=listen,
                )
            with open_rejects(rejects, source.comment) as file:
                for one in planned.plan.left_out:
                    if one.lost:
                        file.add(one)
            run.output.result({**planned.to_json(), "sink": run.sink_figures()}, views.planned)
            return
        with open_rejects(rejects, source.comment) as file, run.listening() as listen:
            result = engine.restore(
                entry,
                source,
                target=target,
                streams=streams or None,
                verify_first=not skip_verify,
                memory=run.workspace.memory(),
                listener=listen,
                on_left_out=file.add,
            )
        for warning in result.warnings:
            if warning not in listen.warnings:
                run.output.warning(warning)
        kept = str(rejects) if rejects and file.count else None
        document = {**result.to_json(), "rejects": kept, "sink": run.sink_figures()}
        run.output.result(document, views.restored)
        if result.left_out_count:
            raise RestoredInPart(
                f"the restore is in place, without {count(result.left_out_count, 'object')}",
                hint="Mend what the reasons say, then run the statements; or restore again, with --strict to have all "
                "or nothing.",
            )


def _target(run: "Run", url: str | None, backup: str | None) -> "Source":
    from penstock.api import UsageError

    if (url is None) == (backup is None):
        raise UsageError("restore where? give either --to URL or --to-backup NAME")
    if backup is not None:
        return run.workspace.settings.make_source(backup, run.workspace.host)
    assert url is not None
    return run.workspace.host.make_source_from_url(url)


def _same_kind(dumped_by: str, source: "Source") -> None:
    from penstock.api import UsageError

    if type(source).name != dumped_by:
        raise UsageError(
            f"this is a snapshot of {dumped_by}, and the target is {type(source).name}",
            hint=f"Give a target of {dumped_by}, or choose another snapshot: penstock snapshots lists them.",
        )


def _pairs(options: list[str]) -> dict[str, str]:
    from penstock.api import UsageError

    pairs: dict[str, str] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or not key or key in pairs:
            raise UsageError(
                f"-o {key or option}: must be KEY=VALUE, and given once", hint="Write -o owners=no, for example."
            )
        pairs[key] = value
    return pairs
