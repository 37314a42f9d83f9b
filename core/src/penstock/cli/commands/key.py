"""penstock key: who may open a repository."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.invocation import command
from penstock.cli.options import REPOSITORY

if TYPE_CHECKING:
    from penstock.cli.run import Run
    from penstock.repository.trust.keyring import KeyEntry

__all__ = ["register"]

_INTERRUPTED = "Run penstock key list to see whether it was done, and run it again if not."
_OUT = typer.Option("--out", metavar="FILE", help="The new key file; it must not exist yet.")


class KeyRole(StrEnum):
    """The roles that a key is made for."""

    WRITER = "writer"
    MAINTAINER = "maintainer"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        help="List, make, export and revoke keys and passphrases.", no_args_is_help=True, rich_markup_mode=None
    )
    app.add_typer(group, name="key")

    @command(group, "list", takes=REPOSITORY)
    def list_keys(run: "Run") -> None:
        """List keys and passphrases, the revoked ones too."""
        from penstock.cli.output import views
        from penstock.repository.trust.keyring import entries
        from penstock.workspace import Need

        shown = [_entry_json(entry) for entry in entries(run.workspace.repository(Need.ANY))]
        run.output.result({"keys": shown}, views.keys)

    @command(group, "add", takes=REPOSITORY, interrupted=_INTERRUPTED)
    def add(
        run: "Run",
        role: Annotated[
            KeyRole, typer.Option("--role", help="writer: for a host that makes backups; maintainer: for upkeep.")
        ],
        label: Annotated[str, typer.Option("--label", metavar="TEXT", help="Whose key it is, for people.")],
        out: Annotated[Path, _OUT],
    ) -> None:
        """Make a key that cannot read backups.

        A writer makes backups and lists them; a maintainer lists and checks.
        """
        from penstock.cli.output import views
        from penstock.format.trust import Role
        from penstock.repository.trust.keyring import add_key
        from penstock.workspace import Need, key_files

        key_files.check_writable(out)
        access = add_key(run.workspace.repository(Need.OWNER), Role(role.value), label)
        key_files.new_private_file(out, access.to_key_file())
        document = {"key": access.key.hex(), "role": role.value, "label": label, "file": str(out)}
        run.output.result(document, views.key_written)

    @command(group, "add-passphrase", takes=REPOSITORY, interrupted=_INTERRUPTED)
    def add_passphrase(
        run: "Run",
        label: Annotated[str, typer.Option("--label", metavar="TEXT", help="Whose it is, for people.")] = "passphrase",
        new_passphrase_file: Annotated[
            Path | None,
            typer.Option("--new-passphrase-file", metavar="FILE", help="A file whose first line is the new one."),
        ] = None,
    ) -> None:
        """Let one more passphrase open the repository as its owner."""
        _add_passphrase(run, label, new_passphrase_file)

    @command(group, "export", takes=REPOSITORY, interrupted="Delete the file if it was made, and run it again.")
    def export(run: "Run", out: Annotated[Path, _OUT]) -> None:
        """Write the owner's key to a file.

        Whoever has it reads every backup: keep it offline.
        """
        from penstock.cli.output import views
        from penstock.workspace import Need, key_files

        access = run.workspace.repository(Need.OWNER).access
        key_files.new_private_file(out, access.to_key_file())
        document = {"key": access.key.hex(), "role": access.role.value, "label": access.label, "file": str(out)}
        run.output.result(document, views.key_written)

    @command(group, "revoke", takes=REPOSITORY, interrupted=_INTERRUPTED)
    def revoke(
        run: "Run",
        which: Annotated[str, typer.Argument(metavar="KEY", help="A key's id or its beginning, as key list shows it.")],
    ) -> None:
        """Revoke a key or a passphrase.

        Snapshots that it signed until now stay good; later ones are refused.
        """
        from penstock.cli.output import views
        from penstock.repository.trust import keyring
        from penstock.workspace import Need

        repository = run.workspace.repository(Need.OWNER)
        entry = _find(keyring.entries(repository), which)
        keyring.revoke(repository, entry.key)
        run.output.result(_entry_json(_find(keyring.entries(repository), entry.key.hex())), views.revoked)


def _add_passphrase(run: "Run", label: str, file: Path | None) -> None:
    from penstock.api import KeyMissing
    from penstock.api.secrets import SecretFile
    from penstock.cli.output import views
    from penstock.repository.trust.keyring import add_slot
    from penstock.workspace import Need

    repository = run.workspace.repository(Need.OWNER)
    passphrase = SecretFile(file=file).resolve() if file else run.workspace.new_passphrase("to add")
    if passphrase is None:
        raise KeyMissing(
            "no new passphrase was given", hint="Give --new-passphrase-file FILE, or run it in a terminal."
        )
    slot = add_slot(repository, passphrase, label)
    run.output.result({"key": slot.hex(), "role": "slot", "label": label, "file": None}, views.key_written)


def _find(entries: "list[KeyEntry]", text: str) -> "KeyEntry":
    from penstock.api import KeyMissing

    found = [entry for entry in entries if entry.key.hex().startswith(text)] if text else []
    if len(found) != 1:
        many = f"the ids of {len(found)} keys begin" if found else "no key has an id that begins"
        raise KeyMissing(f"{many} with {text!r}", hint="Run penstock key list to see them.")
    return found[0]


def _entry_json(entry: "KeyEntry") -> dict[str, str | None]:
    return {
        "key": entry.key.hex(),
        "role": entry.role.value,
        "label": entry.label,
        "created": entry.created,
        "revoked": entry.revoked_at,
    }
