"""penstock init: make a repository."""

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.invocation import command
from penstock.cli.options import REPOSITORY

if TYPE_CHECKING:
    from penstock.api import Secret
    from penstock.cli.run import Run
    from penstock.workspace import Place

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(
        app,
        "init",
        acts=True,
        takes=tuple(option for option in REPOSITORY if option != "key"),
        interrupted="Run penstock key list to see whether it was made. If not, empty the place and run it again.",
    )
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
    from penstock.cli.output import views
    from penstock.repository import Repository
    from penstock.repository.repository import FIRST_DOMAIN
    from penstock.repository.trust.keyring import add_writer
    from penstock.workspace import key_files

    place = run.workspace.place(named)
    if writer_key:
        run.workspace.require_place_for_key(place)
    if owner_key is not None:
        key_files.check_writable(owner_key)
    given = run.workspace.given_passphrase(place)
    passphrase = given or _new_passphrase(run, place, required=owner_key is None)
    repository = Repository.create(place.sink, passphrase=passphrase)
    if owner_key is not None:
        key_files.new_private_file(owner_key, repository.access.to_key_file())
    document: dict[str, Any] = {
        "repository": repository.id.hex(),
        "location": place.sink.location,
        "passphrase": passphrase is not None,
        "owner_key": str(owner_key) if owner_key else None,
        "writer_key": None,
    }
    if writer_key:
        path = run.workspace.new_key_file(place, repository.id)
        access = add_writer(repository, socket.gethostname(), domain=FIRST_DOMAIN)
        key_files.new_private_file(path, access.to_key_file())
        document["writer_key"] = str(path)
    # What was typed into a terminal may not be what somebody remembers.
    if given is None and passphrase is not None and not run.workspace.tried(place):
        run.output.warning("the passphrase was not tried: run penstock key test before you rely on it")
    run.output.result(document, views.made)


def _new_passphrase(run: "Run", place: "Place", *, required: bool) -> "Secret | None":
    from penstock.api import KeyMissing
    from penstock.workspace.unlock import PASSPHRASE_VARIABLE

    passphrase = run.workspace.new_passphrase(f"for {place.shown}")
    if passphrase is None and required:
        raise KeyMissing(
            "nobody could open the repository: it needs a passphrase, or a file for the owner's key",
            hint=f"Give --passphrase-file FILE or --owner-key FILE, set {PASSPHRASE_VARIABLE}, or use a terminal.",
        )
    return passphrase
