"""penstock copy: store snapshots once more in the repository of another owner."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.invocation import command
from penstock.cli.options import DATA, file_option
from penstock.cli.own_process import steady

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.api import DamagedObject, MissingObject, PenstockError
    from penstock.cli.run import Run
    from penstock.engine import Copying
    from penstock.repository import Repository, SnapshotEntry

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(
        app,
        "copy",
        acts=True,
        takes=("cache_dir", *DATA),
        interrupted="Run it again: what is copied is not copied twice, and what was uploaded is used.",
    )
    def copy(
        run: "Run",
        to: Annotated[
            str,
            typer.Option("--to", metavar="URL|NAME", help="The other repository: a URL, or a name in the settings."),
        ],
        snapshots: Annotated[
            list[str] | None,
            typer.Argument(metavar="[SNAPSHOT...]", help="Ids or their beginnings, latest, or latest:BACKUP."),
        ] = None,
        backups: Annotated[
            list[str] | None,
            typer.Option("--backup", metavar="NAME", help="All snapshots of this backup; repeat it."),
        ] = None,
        every: Annotated[bool, typer.Option("--all", help="All snapshots of the repository.")] = False,
        to_key: Annotated[
            Path | None,
            file_option("--to-key", env="PENSTOCK_TO_KEY_FILE", help="The key file to open the other repository with."),
        ] = None,
        to_passphrase_file: Annotated[
            Path | None,
            file_option(
                "--to-passphrase-file", help="A file whose first line is its passphrase (else PENSTOCK_TO_PASSPHRASE)."
            ),
        ] = None,
    ) -> None:
        """Store snapshots once more in another repository, under the keys of its owner.

        Takes the owner's key or passphrase of this repository, since it reads the backups; and of the other one a
        writer's, or its owner's, which keeps the dates for retention. Every stream is compared with the digest of its
        dump before its copy counts. What is there already is not copied again.
        """
        from penstock.api import UsageError
        from penstock.workspace import Credentials, Need

        if sum((bool(snapshots), bool(backups), every)) != 1:
            raise UsageError("which snapshots? give their ids, or --backup NAME, or --all")
        workspace = run.workspace
        repository = workspace.repository(Need.OWNER)
        credentials = Credentials(key_file=to_key, passphrase_file=to_passphrase_file)
        target = workspace.other_repository(Need.OWNER_OR_ANY, to, credentials)
        _copy(run, repository, target, to, snapshots, None if every else backups)


def _copy(
    run: "Run",
    repository: "Repository",
    target: "Repository",
    to: str,
    snapshots: list[str] | None,
    backups: list[str] | None,
) -> None:
    from penstock import engine
    from penstock.api import NotCopied
    from penstock.cli.failures import NAMED
    from penstock.cli.output import copies
    from penstock.cli.output.console import error_json
    from penstock.cli.output.units import count

    workspace = run.workspace
    failed: list[PenstockError] = []
    failures = undated = lost = told = 0

    def fail(error: "PenstockError") -> None:
        nonlocal failures
        failures += 1
        if len(failed) < NAMED:
            failed.append(error)

    def unreadable(error: "DamagedObject | MissingObject") -> None:
        nonlocal lost
        lost += 1
        doubts(error)
        fail(error)

    def chosen() -> "Iterator[SnapshotEntry]":
        if snapshots:
            seen, warn = workspace.cache_dir, run.output.warning
            return iter([engine.find(repository, one, cache_dir=seen, warn=warn) for one in dict.fromkeys(snapshots)])
        return engine.find_each(repository, backups, on_damage=unreadable)

    steady()
    with (
        engine.Doubts(run.output.warning, "not copied") as doubts,
        engine.Copying(repository, target, **workspace.storing(to)) as copying,
    ):
        for entry in chosen():
            run.stop.check()
            told += 1
            try:
                document = {**_one(run, copying, entry), "error": None}
            except NotCopied as error:
                fail(error)
                document = {**_named(entry), "copy": None, "error": error_json(error)}
            undated += document["copy"] is not None and not document["dated"]
            run.output.item("copies", document, copies.copied)
    if undated:
        run.output.note("Retention there goes by the time of the copying: only its owner's key can keep the dates.")
    summary = {"repository": target.id.hex(), "sink": run.sink_figures()}
    run.output.result(summary if told else {"copies": [], **summary}, _nothing if told or lost else copies.copied)
    if failures == told == 1 and not lost:
        raise failed[0]
    if failures:
        raise NotCopied(
            f"{failures} of {count(told + lost, 'snapshot')} were not copied",
            hint="Run penstock check where they are, to see what is damaged.",
            details=tuple(error.message for error in failed),
        )


def _nothing(_: object) -> tuple[str, ...]:
    """Each snapshot was shown when its turn came."""
    return ()


def _one(run: "Run", copying: "Copying", entry: "SnapshotEntry") -> dict[str, Any]:
    with run.listening() as listen:
        return copying.copy(entry, listener=listen).to_json()


def _named(entry: "SnapshotEntry") -> dict[str, Any]:
    return {"snapshot": entry.id.hex(), "backup": entry.head.backup, "finished": entry.head.finished}
