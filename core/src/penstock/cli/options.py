"""The options that commands share, and the decorator that gives a command those that make sense for it."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec

import typer

if TYPE_CHECKING:
    from penstock.cli.run import Run

__all__ = ["BASIC", "REPOSITORY", "WORK", "Options", "command"]

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Options:
    """What the shared options of one invocation say."""

    config: Path | None = None
    json: bool = False
    quiet: bool = False
    repo: str | None = None
    key: Path | None = None
    passphrase_file: Path | None = None
    cache_dir: Path | None = None
    memory: str | None = None


def _path(*names: str, env: str | None = None, help: str) -> Any:  # noqa: A002 - typer's own word
    return typer.Option(*names, metavar="FILE", envvar=env, help=help, show_default=False)


_SHARED: dict[str, Any] = {
    "config": Annotated[
        Path | None, _path("--config", env="PENSTOCK_CONFIG", help="The settings file, instead of the usual places.")
    ],
    "json": Annotated[bool, typer.Option("--json", help="Print one JSON document; events as JSON lines on stderr.")],
    "quiet": Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes; warnings stay.")],
    "repo": Annotated[
        str | None,
        typer.Option(
            "--repo",
            "-r",
            metavar="URL|NAME",
            # Not by typer: the variable must not overrule what the settings say of a backup.
            help="The repository: a URL, or a name in the settings (else PENSTOCK_REPOSITORY, or the only one there).",
            show_default=False,
        ),
    ],
    "key": Annotated[Path | None, _path("--key", "-k", env="PENSTOCK_KEY_FILE", help="The key file to open it with.")],
    "passphrase_file": Annotated[
        Path | None,
        _path("--passphrase-file", help="A file whose first line is the passphrase (else PENSTOCK_PASSPHRASE)."),
    ],
    "cache_dir": Annotated[
        Path | None,
        typer.Option(
            "--cache-dir",
            metavar="FOLDER",
            envvar="PENSTOCK_CACHE_DIR",
            help="Where to keep the local cache.",
            show_default=False,
        ),
    ],
    "memory": Annotated[
        str | None,
        typer.Option("--memory", metavar="SIZE", help="Memory for buffers, such as 256MiB.", show_default=False),
    ],
}

#: Options of every command.
BASIC = ("config", "json", "quiet")
#: And of those that open a repository.
REPOSITORY = ("repo", "key", "passphrase_file", *BASIC)
#: And of those that move data.
WORK = ("repo", "key", "passphrase_file", "cache_dir", "memory", *BASIC)


def command(
    app: typer.Typer, name: str, *, takes: tuple[str, ...]
) -> Callable[[Callable[Concatenate["Run", P], None]], Callable[..., int]]:
    """Register a function as the command `name`, with the shared options `takes` behind its own parameters.

    The function gets a `Run` first. What is registered returns the exit code and raises no expected error.
    """

    def register(body: Callable[Concatenate["Run", P], None]) -> Callable[..., int]:
        def invoke(**values: Any) -> int:
            from penstock.cli.guard import guarded
            from penstock.cli.output.console import Output
            from penstock.cli.run import Run

            options = Options(**{option: values.pop(option) for option in takes})
            output = Output(json=options.json, quiet=options.quiet)

            call: Callable[..., None] = body

            def work() -> None:
                with Run(options, output) as run:
                    call(run, **values)

            return guarded(output, work)

        own = list(inspect.signature(body).parameters.values())[1:]
        shared = [
            inspect.Parameter(
                option,
                inspect.Parameter.KEYWORD_ONLY,
                default=False if option in ("json", "quiet") else None,
                annotation=_SHARED[option],
            )
            for option in takes
        ]
        parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own] + shared
        # typer reads a function's signature and its annotations; these are the ones that it is called with.
        invoke.__dict__["__signature__"] = inspect.Signature(parameters)
        invoke.__annotations__ = {one.name: one.annotation for one in parameters}
        invoke.__doc__ = body.__doc__
        invoke.__name__ = body.__name__
        app.command(name)(invoke)
        return invoke

    return register
