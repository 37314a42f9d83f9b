"""The commands put together, and one invocation from its arguments to its exit code.

`penstock --help` has to be quick: here and in the command modules nothing heavy is imported at the top, not even
`penstock.api`, which brings pydantic.
"""

import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import typer

from penstock.cli.commands import (
    backup,
    cat,
    check,
    config,
    copy,
    demo,
    diff,
    forget,
    init,
    inspect,
    key,
    maintain,
    plugins,
    policy,
    prune,
    repair,
    replicate,
    restore,
    show,
    snapshots,
    stats,
    tag,
    verify,
)

__all__ = ["build", "run"]

# A URL may hold a password before its host, or a token in its query.
_URL = re.compile(r"(\w[\w+.-]*://)[^\s'\")]*")
_COMMANDS = (
    init, backup, snapshots, show, diff, stats, inspect, restore, cat, check, verify, tag, forget, prune, maintain,
    copy, replicate, repair, key, policy, config, plugins, demo
)  # fmt: skip
# Its base, two classes up, is the base of all errors in arguments; older releases of typer keep it elsewhere.
_ArgumentError: type[Exception] = typer.BadParameter.__mro__[2]


def build() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        name="penstock",
        help="Stream database dumps into object storage: deduplicated, compressed, encrypted, and proven restorable.",
        epilog="Every command has its own --help. Exit codes say what went wrong: see docs/exit-codes.md.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for module in _COMMANDS:
        module.register(app)
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command, print its output, and return the exit code. Never raises an expected error."""
    _open_missing_streams()
    if sys.flags.utf8_mode == 0:
        for stream in (sys.stdout, sys.stderr):
            # A name that the terminal's encoding lacks must not end a backup.
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        return _run(arguments)
    finally:
        _let_go_of_stderr()


def _run(arguments: Sequence[str]) -> int:
    command = typer.main.get_command(build())
    try:
        code = command.main(args=list(arguments), prog_name="penstock", standalone_mode=False)
    except _ArgumentError as error:
        return _refuse(error, arguments)
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:  # `penstock --help | head`
        from penstock.cli.output.console import CLOSED_PIPE, Output

        Output().abandon_stdout()
        return CLOSED_PIPE
    except OSError as error:  # `penstock --help >/dev/full`: commands have a guard of their own
        return _unprinted(error)
    return code if isinstance(code, int) else 0


def _let_go_of_stderr() -> None:
    """What it would not take must not be tried again at the interpreter's end, which would exit with 120 then."""
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, sys.stderr.fileno())
            os.close(devnull)


def _unprinted(error: OSError) -> int:
    from penstock.api.errors import PenstockError
    from penstock.cli.output.console import Output

    output = Output()
    output.abandon_stdout()
    reason = f"cannot write to standard output: {error.strerror}"
    output.failure(PenstockError(reason, hint="Make room where the output goes."))
    return PenstockError.exit_code


def _open_missing_streams() -> None:
    """A supervisor may have closed them: the next file to be opened would take the place of one, and get our output."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - for as long as we run


def _refuse(error: Exception, arguments: Sequence[str]) -> int:
    from penstock.api.errors import UsageError
    from penstock.cli.output.console import Output

    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "penstock")
    message = str(error.format_message()) if hasattr(error, "format_message") else str(error)
    if type(error).__name__ == "NoArgsIsHelpError":
        with suppress(OSError):  # nobody reads it
            print(message, file=sys.stderr, flush=True)  # noqa: T201 - the help text, made by typer
        return UsageError.exit_code
    for one in sorted(filter(_URL.search, arguments), key=len, reverse=True):
        message = message.replace(one, one.partition("://")[0] + "://…")
    message = _URL.sub(r"\1…", message)
    message = message[:1].lower() + message[1:].rstrip(".")
    Output(json="--json" in arguments).failure(UsageError(message, hint=f"Run {path} --help to see what it takes."))
    return UsageError.exit_code


def _version(wanted: bool) -> None:
    if wanted:
        from penstock import __version__

        typer.echo(f"penstock {__version__}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", callback=_version, is_eager=True
    ),
) -> None:
    del version
