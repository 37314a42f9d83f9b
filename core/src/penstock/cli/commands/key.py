"""penstock key: who may open a repository."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

    @command(group, "add", acts=True, takes=REPOSITORY, interrupted=_INTERRUPTED)
    def add(
        run: "Run",
        role: Annotated[
            KeyRole, typer.Option("--role", help="writer: for a host that makes backups; maintainer: for upkeep.")
        ],
        label: Annotated[str, typer.Option("--label", metavar="TEXT", help="Whose key it is, for people.")],
        out: Annotated[Path, _OUT],
        domain: Annotated[
            str | None,
            typer.Option("--domain", metavar="LABEL", help="A writer joins this domain, instead of one of its own."),
        ] = None,
        names: Annotated[
            list[str] | None,
            typer.Option(
                "--name", metavar="PATTERN", help="A backup that a writer may store; repeat it. Default: '*'."
            ),
        ] = None,
    ) -> None:
        """Make a key that cannot read backups.

        A writer makes backups and lists them, in a domain of its own unless it joins one; a maintainer lists and
        checks all of them.
        """
        from penstock.api import UsageError
        from penstock.cli.output import views
        from penstock.repository.trust.keyring import add_maintainer, add_writer
        from penstock.workspace import Need, key_files

        if role is KeyRole.MAINTAINER and (domain or names):
            raise UsageError("a maintainer has neither a domain nor names", hint="Leave --domain and --name out.")
        key_files.check_writable(out)
        repository = run.workspace.repository(Need.OWNER)
        if role is KeyRole.MAINTAINER:
            access = add_maintainer(repository, label)
        else:
            access = add_writer(repository, label, domain=domain, names=names or ("*",))
        key_files.new_private_file(out, access.to_key_file())
        document = {"key": access.key.hex(), "role": role.value, "label": label, "file": str(out)}
        run.output.result(document, views.key_written)

    @command(group, "add-passphrase", acts=True, takes=REPOSITORY, interrupted=_INTERRUPTED)
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

    @command(
        group, "export", acts=True, takes=REPOSITORY, interrupted="Delete the file if it was made, and run it again."
    )
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

    @command(group, "revoke", acts=True, takes=REPOSITORY, interrupted=_INTERRUPTED)
    def revoke(
        run: "Run",
        which: Annotated[str, typer.Argument(metavar="KEY", help="A key's id or its beginning, as key list shows it.")],
        since: Annotated[
            str | None,
            typer.Option("--since", metavar="TIME", help="Keep nothing that it signed from then on: 2026-01-31T12:00."),
        ] = None,
        keep: Annotated[
            list[str] | None, typer.Option("--keep", metavar="SNAPSHOT", help="Keep this one all the same; repeat it.")
        ] = None,
    ) -> None:
        """Revoke a key or a passphrase, and say which snapshots of it are kept.

        Snapshots that it signed until now stay good; later ones are refused. What was left out, or hidden by the store,
        can be kept later: penstock key keep.
        """
        from penstock.cli.output import views
        from penstock.repository.snapshots import find_snapshot
        from penstock.repository.trust import keyring
        from penstock.workspace import Need

        moment = None if since is None else _moment(since)
        repository = run.workspace.repository(Need.OWNER)
        entry = _find(keyring.entries(repository), which)
        exceptions = [find_snapshot(repository, snapshot, hidden=True).id for snapshot in keep or ()]
        kept = keyring.revoke(repository, entry.key, since=moment, keep=exceptions)
        document = _entry_json(_find(keyring.entries(repository), entry.key.hex()))
        out = keyring.left_out(repository, entry.key)
        snapshots = {"kept": [one.to_json() for one in kept], "left_out": [one.to_json() for one in out]}
        run.output.result({**document, **snapshots}, views.revoked)

    @command(group, "keep", acts=True, takes=REPOSITORY, interrupted=_INTERRUPTED)
    def keep_snapshots(
        run: "Run",
        snapshots: Annotated[list[str], typer.Argument(metavar="SNAPSHOT...", help="Ids, or their beginnings.")],
    ) -> None:
        """Let snapshots of a revoked key stay good, and bring back any that was forgotten."""
        from penstock.cli.output import views
        from penstock.repository.snapshots import find_snapshot
        from penstock.repository.trust import keyring
        from penstock.workspace import Need

        repository = run.workspace.repository(Need.OWNER)
        kept = [find_snapshot(repository, snapshot, hidden=True) for snapshot in snapshots]
        keyring.keep(repository, kept)
        run.output.result({"kept": [one.to_json() for one in kept]}, views.kept)

    @command(group, "test", acts=True, takes=REPOSITORY)
    def test(run: "Run") -> None:
        """See whether the key or the passphrase at hand opens the repository, and as whom."""
        from penstock.cli.output import views
        from penstock.workspace import Need

        repository = run.workspace.repository(Need.OWNER_OR_ANY)
        access = repository.access
        document = {
            "repository": repository.id.hex(),
            "role": access.role.value,
            "label": access.label,
            "domains": [domain.label for domain in repository.domains],
        }
        run.output.result(document, views.key_tested)


def _moment(text: str) -> str:
    """A time as documents hold it; raises `UsageError`."""
    from datetime import UTC, datetime

    from penstock.api import UsageError

    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text} is not a time", hint="Write it like 2026-01-31T12:00, in UTC.") from None
    utc = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    return utc.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


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


def _entry_json(entry: "KeyEntry") -> dict[str, Any]:
    return {
        "key": entry.key.hex(),
        "role": entry.role.value,
        "label": entry.label,
        "domain": entry.domain,
        "names": list(entry.names),
        "created": entry.created,
        "revoked": entry.revoked_at,
    }
