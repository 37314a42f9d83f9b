"""penstock config: check, show and describe the settings file."""

from typing import TYPE_CHECKING, Any

import typer

from penstock.cli.invocation import command
from penstock.cli.options import BASIC

if TYPE_CHECKING:
    from datetime import timedelta, tzinfo

    from penstock.api import Plugin, SecretRef
    from penstock.cli.run import Run
    from penstock.settings import Keep

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Check, show and describe the settings.", no_args_is_help=True, rich_markup_mode=None)
    app.add_typer(group, name="config")

    @command(group, "check", takes=BASIC)
    def check(run: "Run") -> None:
        """Check the settings, including those of plugins, without connecting to anything."""
        from penstock.cli.output import settings as views

        _require_file(run)
        settings = run.workspace.settings
        settings.check_plugins(run.workspace.host)
        for name, repository in settings.repositories.items():
            if repository.key is not None and not repository.key.exists():
                run.output.warning(f"the key file of repository {name} is missing: {repository.key}")
        document = {
            "file": str(settings.path),
            "repositories": list(settings.repositories),
            "backups": list(settings.backups),
        }
        run.output.result(document, views.config_check)

    @command(group, "show", takes=BASIC)
    def show(run: "Run") -> None:
        """Show the effective settings, including defaults, without looking up secrets."""
        from penstock.cli.output import settings as views

        run.output.result(_shown(run), views.config)

    @command(group, "schema", takes=("quiet",))
    def schema(run: "Run") -> None:
        """Print the JSON schema of the settings file, with the settings of the installed plugins."""
        import json

        from penstock.settings import settings_schema

        text = json.dumps(settings_schema(run.workspace.host.plugins()), indent=2, ensure_ascii=False)
        run.output.result({}, lambda _: text.splitlines())

    @command(group, "init", takes=("quiet",))
    def init(run: "Run") -> None:
        """Print a settings file to begin with: penstock config init > penstock.toml."""
        from penstock.settings import EXAMPLE

        run.output.result({}, lambda _: EXAMPLE.splitlines())


def _require_file(run: "Run") -> None:
    from penstock.api import SettingsError

    if run.workspace.settings.path is None:
        raise SettingsError(
            "no settings file was found",
            hint="Write one: penstock config init prints one to begin with.",
            details=tuple(f"looked for {place}" for place in run.workspace.folders.settings),
        )


def _shown(run: "Run") -> dict[str, Any]:
    from penstock.settings import spell_duration

    workspace = run.workspace
    settings = workspace.settings
    repositories = [
        {
            "name": name,
            **_plugin(settings.make_sink(name, workspace.host)),
            "key": str(one.key) if one.key else None,
            "passphrase": _reference(one.passphrase),
            "pack_size": workspace.pack_size(name),
            "check_within": spell_duration(workspace.check_within(name)),
            **_limits(workspace.limits(one)),
        }
        for name, one in settings.repositories.items()
    ]
    backups = [
        {
            "name": name,
            **_plugin(settings.make_source(name, workspace.host)),
            "repository": settings.repository_of(name),
            "memory": workspace.memory(one, workspace.jobs(one)),
            "jobs": workspace.jobs(one),
            "executor": workspace.executor(one),
            "compression": workspace.compression(one),
            "cache_size": workspace.cache_size(one),
            **_kept(workspace.keep(name), workspace.zone(name)),
            "renew_every": _spelled(workspace.renew_every(one)),
        }
        for name, one in settings.backups.items()
    ]
    return {
        "file": str(settings.path) if settings.path else None,
        "repositories": repositories,
        "backups": backups,
        "memory": workspace.memory(jobs=workspace.jobs()),
        "jobs": workspace.jobs(),
        "executor": workspace.executor(),
        "compression": workspace.compression(),
        "cache_size": workspace.cache_size(),
        "cache": str(workspace.cache_dir) if workspace.cache_dir else None,
        "check_within": spell_duration(workspace.default_check_within),
        **_kept(workspace.keep(), workspace.zone()),
        "renew_every": _spelled(workspace.renew_every()),
        **_limits(workspace.limits()),
    }


def _kept(keep: "Keep | None", zone: "tzinfo") -> dict[str, Any]:
    return {"keep": keep.to_json() if keep else None, "timezone": str(zone)}


def _spelled(span: "timedelta | None") -> str | None:
    from penstock.settings import spell_duration

    return None if span is None else spell_duration(span)


def _limits(limits: "tuple[int | None, int | None]") -> dict[str, int | None]:
    upload, download = limits
    return {"limit_upload": upload, "limit_download": download}


def _plugin(plugin: "Plugin") -> dict[str, str]:
    return {"type": type(plugin).name, "location": plugin.location}


def _reference(reference: "SecretRef | None") -> str | None:
    from penstock.api.secrets import SecretEnv, SecretFile

    match reference:
        case None:
            return None
        case SecretEnv(env=name):
            return f"environment variable {name}"
        case SecretFile(file=path):
            return f"file {path}"
        case other:
            return f"command {other.command[0]}"  # not its arguments
