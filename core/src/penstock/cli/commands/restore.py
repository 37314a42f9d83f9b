"""penstock restore: from a snapshot into a database."""

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.commands.show import SNAPSHOT
from penstock.cli.options import WORK, command

if TYPE_CHECKING:
    from penstock.api import Source
    from penstock.cli.run import Run

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "restore", takes=WORK)
    def restore(
        run: "Run",
        snapshot: Annotated[str, SNAPSHOT],
        to: Annotated[str | None, typer.Option("--to", metavar="URL", help="The database to restore into.")] = None,
        to_backup: Annotated[
            str | None,
            typer.Option(
                "--to-backup", metavar="NAME", help="Restore to where this backup of the settings comes from."
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
            bool, typer.Option("--skip-verify", help="Do not read everything once before the target is touched.")
        ] = False,
    ) -> None:
        """Restore a snapshot into a database.

        The target is not touched before it was looked at and every byte of the snapshot verified. Damage to anything
        that the snapshot does not need is no obstacle.
        """
        from penstock import engine
        from penstock.api import RestoreTarget
        from penstock.cli.output import views
        from penstock.cli.unlock import Need

        source = _target(run, to, to_backup)
        target = RestoreTarget(clean=clean, options=_pairs(options or []))
        repository = run.repository(Need.OWNER)
        entry = engine.find(repository, snapshot, cache_dir=run.cache_dir, warn=run.output.warning)
        _same_kind(entry.catalogue.source, source)
        with run.listening() as listen:
            result = engine.restore(
                repository,
                entry,
                source,
                target=target,
                streams=streams or None,
                verify_first=not skip_verify,
                memory=run.memory(),
                listener=listen,
            )
        run.output.result(result.to_json(), views.restored)


def _target(run: "Run", url: str | None, backup: str | None) -> "Source":
    from penstock.api import UsageError

    if (url is None) == (backup is None):
        raise UsageError("where to? give either --to URL or --to-backup NAME")
    if backup is not None:
        return run.settings.make_source(backup, run.host)
    assert url is not None
    return run.host.make_source_from_url(url)


def _same_kind(dumped_by: str, source: "Source") -> None:
    from penstock.api import UsageError

    if type(source).name != dumped_by:
        raise UsageError(
            f"this is a snapshot of {dumped_by}, and the target is {type(source).name}",
            hint=f"give a target of {dumped_by}, or another snapshot: penstock snapshots lists them",
        )


def _pairs(options: list[str]) -> dict[str, str]:
    from penstock.api import UsageError

    pairs: dict[str, str] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or not key or key in pairs:
            raise UsageError("an option is given once, as KEY=VALUE", hint="For example: -o owners=no")
        pairs[key] = value
    return pairs
