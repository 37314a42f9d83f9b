"""The options that commands share."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["BASIC", "CHECKPOINT", "DATA", "GRACE", "REPOSITORY", "TAKE_OVER", "Options", "file_option", "parameters"]


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
    jobs: int | None = None
    limit_upload: str | None = None
    limit_download: str | None = None


def file_option(*names: str, env: str | None = None, help: str) -> Any:  # noqa: A002 - typer's own word
    """An option that names a file."""
    return typer.Option(*names, metavar="FILE", envvar=env, help=help, show_default=False)


def _limit(name: str, what: str) -> Any:
    text = f"{what} at most so much per second on average, such as 10MiB."
    return Annotated[str | None, typer.Option(name, metavar="SIZE", help=text, show_default=False)]


_SHARED: dict[str, Any] = {
    "config": Annotated[
        Path | None,
        file_option("--config", env="PENSTOCK_CONFIG", help="The settings file, instead of the usual places."),
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
    "key": Annotated[
        Path | None, file_option("--key", "-k", env="PENSTOCK_KEY_FILE", help="The key file to open it with.")
    ],
    "passphrase_file": Annotated[
        Path | None,
        file_option("--passphrase-file", help="A file whose first line is the passphrase (else PENSTOCK_PASSPHRASE)."),
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
    "jobs": Annotated[
        int | None,
        typer.Option(
            "--jobs", "-j", metavar="N", min=1, max=32, help="Streams that are dumped at once.", show_default=False
        ),
    ],
    "limit_upload": _limit("--limit-upload", "Upload"),
    "limit_download": _limit("--limit-download", "Download"),
}

#: Options of every command.
BASIC = ("config", "json", "quiet")
#: Additional ones of commands that open a repository.
REPOSITORY = ("repo", "key", "passphrase_file", *BASIC)
#: Additional ones of commands that move data.
DATA = ("memory", "limit_upload", "limit_download", *REPOSITORY)
#: Of the commands that can tell whether the store was set back.
CHECKPOINT: Any = typer.Option(
    "--checkpoint",
    metavar="WORDS",
    help="The four words that a backup printed: fail if the store was set back to before it.",
    show_default=False,
)
#: Of the commands that prune.
GRACE: Any = typer.Option(
    "--grace", metavar="DURATION", help="How long what is dead stays; a day if not given, 10m at least."
)
TAKE_OVER: Any = typer.Option("--take-over", help="Another prune that seems to run was killed: do not wait for it.")


def parameters(takes: tuple[str, ...]) -> list[inspect.Parameter]:
    """The shared options `takes` as parameters of a function, as typer reads them."""
    return [
        inspect.Parameter(
            option,
            inspect.Parameter.KEYWORD_ONLY,
            default=False if option in ("json", "quiet") else None,
            annotation=_SHARED[option],
        )
        for option in takes
    ]
