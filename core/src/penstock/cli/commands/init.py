"""penstock init: make a repository."""

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.options import REPOSITORY, command

if TYPE_CHECKING:
    from penstock.api import Secret
    from penstock.cli.run import Place, Run
    from penstock.repository import Repository

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "init", takes=tuple(option for option in REPOSITORY if option != "key"))
    def init(
        run: "Run",
        repository: Annotated[
            str | None, typer.Argument(metavar="REPO", help="Where: a URL, or a name in the settings.")
        ] = None,
        owner_key: Annotated[
            Path | None, typer.Option("--owner-key", metavar="FILE", help="Also write the owner's key to this file.")
        ] = None,
        no_writer_key: Annotated[
            bool, typer.Option("--no-writer-key", help="Make no key for backups from this host.")
        ] = False,
    ) -> None:
        """Make a repository.

        Its owner opens it with a passphrase; this host gets a writer key, which makes backups and cannot read any.
        """
        make(run, repository, owner_key, writer_key=not no_writer_key)


def make(run: "Run", named: str | None, owner_key: Path | None, *, writer_key: bool) -> None:
    """Make the repository and its keys, and say what to keep where."""
    from penstock.cli import files
    from penstock.cli.output import views
    from penstock.format.trust import Role
    from penstock.repository import Repository
    from penstock.repository.trust.keyring import add_key

    place = run.place(named)
    if owner_key is not None:
        files.writable_place(owner_key)
    passphrase = _passphrase(run, place, required=owner_key is None)
    repository = Repository.create(place.sink, passphrase=passphrase)
    if owner_key is not None:
        files.new_private_file(owner_key, repository.access.to_key_file())
    document: dict[str, Any] = {
        "repository": repository.id.hex(),
        "location": place.sink.location,
        "passphrase": passphrase is not None,
        "owner_key": str(owner_key) if owner_key else None,
        "writer_key": None,
    }
    if writer_key:
        path = _writer_key_place(place, repository)
        access = add_key(repository, Role.WRITER, socket.gethostname())
        files.new_private_file(path, access.to_key_file())
        document["writer_key"] = str(path)
    run.output.result(document, views.made)


def _passphrase(run: "Run", place: "Place", *, required: bool) -> "Secret | None":
    from penstock.api import KeyMissing
    from penstock.cli.unlock import PASSPHRASE_VARIABLE, given_passphrase, new_passphrase

    passphrase = given_passphrase(run.options, place.settings) or new_passphrase(run.output, f"for {place.shown}")
    if passphrase is None and required:
        raise KeyMissing(
            "a repository that nobody can open is of no use: give it a passphrase, or write the owner's key to a file",
            hint=f"--passphrase-file FILE, {PASSPHRASE_VARIABLE}, or --owner-key FILE; in a terminal it is asked for.",
        )
    return passphrase


def _writer_key_place(place: "Place", repository: "Repository") -> Path:
    """Where this host's key will be looked for: the settings' place, or the default one."""
    from penstock.cli import files

    configured = place.settings.key if place.settings else None
    if configured is not None and not configured.exists():
        return configured
    return files.default_key(repository.id)
