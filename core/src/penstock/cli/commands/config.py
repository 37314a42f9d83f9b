"""penstock config: the settings file, checked, shown and described."""

from typing import TYPE_CHECKING, Any

import typer

from penstock.cli.options import BASIC, command

if TYPE_CHECKING:
    from penstock.api import Plugin, SecretRef
    from penstock.cli.run import Run

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Check, show and describe the settings.", no_args_is_help=True, rich_markup_mode=None)
    app.add_typer(group, name="config")

    @command(group, "check", takes=BASIC)
    def check(run: "Run") -> None:
        """Check the settings, with those of plugins; connects to nothing."""
        from penstock.cli.output import views

        _require_file(run)
        settings = run.settings
        settings.check_plugins(run.host)
        for name, repository in settings.repositories.items():
            if repository.key is not None and not repository.key.exists():
                run.output.warning(f"the key file of repository {name} is not there: {repository.key}")
        document = {
            "file": str(settings.path),
            "repositories": list(settings.repositories),
            "backups": list(settings.backups),
        }
        run.output.result(document, views.config_check)

    @command(group, "show", takes=BASIC)
    def show(run: "Run") -> None:
        """Show what the settings come to, defaults included; no secret is looked up."""
        from penstock.cli.output import views

        run.output.result(_shown(run), views.config)

    @command(group, "schema", takes=("quiet",))
    def schema(run: "Run") -> None:
        """Print the JSON schema of the settings file, with the settings of the installed plugins."""
        import json

        from penstock.settings import settings_schema

        text = json.dumps(settings_schema(run.host.plugins()), indent=2, ensure_ascii=False)
        run.output.result({}, lambda _: text.splitlines())

    @command(group, "init", takes=("quiet",))
    def init(run: "Run") -> None:
        """Print a settings file to begin with: penstock config init > penstock.toml."""
        from penstock.settings import EXAMPLE

        run.output.result({}, lambda _: EXAMPLE.splitlines())


def _require_file(run: "Run") -> None:
    from penstock.api import SettingsError
    from penstock.settings import places

    if run.settings.path is None:
        raise SettingsError(
            "there is no settings file",
            hint="penstock config init prints one to begin with.",
            details=tuple(f"looked for {place}" for place in places()),
        )


def _shown(run: "Run") -> dict[str, Any]:
    settings = run.settings
    repositories = [
        {
            "name": name,
            **_plugin(settings.make_sink(name, run.host)),
            "key": str(one.key) if one.key else None,
            "passphrase": _reference(one.passphrase),
        }
        for name, one in settings.repositories.items()
    ]
    backups = [
        {
            "name": name,
            **_plugin(settings.make_source(name, run.host)),
            "repository": settings.repository_of(name),
            "memory": run.memory(one),
            "compression": run.compression(one),
        }
        for name, one in settings.backups.items()
    ]
    return {
        "file": str(settings.path) if settings.path else None,
        "repositories": repositories,
        "backups": backups,
        "memory": run.memory(),
        "compression": run.compression(),
        "cache": str(run.cache_dir),
    }


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
