"""Where output goes: results to stdout, notes, warnings, progress and errors to stderr; or all of it as JSON."""

import json as jsonlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from penstock.api import errors
from penstock.api.errors import PenstockError, UsageError
from penstock.api.events import Event, EventKind
from penstock.cli.output.progress import JsonProgress, PlainProgress, Progress, SilentProgress, what
from penstock.cli.output.units import Prose, printable, wrapped

__all__ = ["CLOSED_PIPE", "Listener", "Output", "ReaderGone", "View", "error_json"]

#: The exit code when the reader of stdout has gone: what a shell shows for a program that SIGPIPE ended.
CLOSED_PIPE = 141
#: What COLUMNS may say.
_WIDTH = re.compile(r"[1-9][0-9]{0,4}")

Listener = Callable[[Event], None]
#: Turns the JSON document of a result into lines for people.
View = Callable[[Mapping[str, Any]], Iterable[str]]


def error_json(error: PenstockError) -> dict[str, Any]:
    """An error as it stands in JSON documents. A plugin's own class of error has the name of the published one."""
    return {
        "type": next(kind.__name__ for kind in type(error).__mro__ if vars(errors).get(kind.__name__) is kind),
        "message": error.message,
        "hint": error.hint,
        "details": list(error.details),
        "exit_code": error.exit_code,
    }


class ReaderGone(Exception):
    """Nobody reads stdout any more."""


class Output:
    """The output of one command. With `json`, stdout gets exactly one document, at the end, also after an error.

    With `acts`, what the command does counts, not what it prints: a stdout that takes nothing any more is a warning,
    or nothing where its reader has gone. Otherwise the output is what was asked for, and its loss is an error.
    """

    def __init__(self, *, json: bool = False, quiet: bool = False, acts: bool = False) -> None:
        self.json = json
        self.quiet = quiet
        self._acts = acts
        self._document: dict[str, Any] = {}
        self._progress: Progress | None = None
        self._stdout_is_lost = False

    def result(self, document: Mapping[str, Any], view: View) -> None:
        """Give out a result: as `view` shows it, or, with `json`, as part of the one document at the end."""
        self._document.update(document)
        if not self.json:
            self._write(_shown(view(document)))

    def item(self, name: str, entry: Mapping[str, Any], view: View) -> None:
        """Give out one of several results as soon as there is one; with `json`, `name` is a list of all of them."""
        self._document.setdefault(name, []).append(entry)
        if not self.json:
            self._write(_shown(view({name: [entry]})))

    def raw(self, block: memoryview) -> None:
        """Write bytes to stdout, all of them. Raises `UsageError` if whoever called us has closed it."""
        if getattr(sys.stdout, "name", None) == os.devnull:
            raise UsageError("standard output is closed", hint="Send it to a file or a program.")
        sys.stdout.flush()
        with self._told():
            while block:
                block = block[os.write(sys.stdout.fileno(), block) :]

    def note(self, text: str) -> None:
        """Say something in passing, on stderr."""
        if not self.quiet:
            self._aside("note", text, text)

    def warning(self, text: str) -> None:
        """Say what deserves attention, on stderr; not even `quiet` silences it."""
        self._aside("warning", text, f"penstock: warning: {text}")

    @contextmanager
    def progress(self, *, bars_only: bool = False) -> Iterator[Listener]:
        """Show progress for the length of the block; what it gives takes events, from any thread.

        With `bars_only`, nothing is shown that stays: nothing at all where there is no terminal.
        """
        progress: Progress
        terminal = not self.json and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        if self.quiet or (bars_only and not terminal):
            progress = SilentProgress()
        elif self.json:
            progress = JsonProgress(self._error_line)
        elif terminal:
            from penstock.cli.output.terminal import TerminalProgress

            progress = TerminalProgress(notes=not bars_only)
        else:
            progress = PlainProgress(self._error_line)
        told_as_events = isinstance(progress, JsonProgress)
        # Where both go to one terminal, the result names it in a moment, with its statement.
        result_follows = terminal and sys.stdout.isatty()

        def take(event: Event) -> None:
            if event.kind is EventKind.LEFT_OUT and result_follows:
                return
            if event.kind is EventKind.WARNING and not told_as_events:
                self.warning(f"{what(event)}: {event.message}")
            else:
                progress.take(event)

        self._progress = progress
        try:
            with progress:
                yield take
        finally:
            self._progress = None

    def finish(self) -> None:
        """End with success."""
        if self.json:
            self._write(jsonlib.dumps(self._document, indent=2) + "\n")
        else:
            self._write("")

    def failure(self, error: PenstockError) -> None:
        """End with an expected error: one line, what to do next, and what else is known of it."""
        self._fail(error_json(error))

    def unexpected(self, error: Exception, *, debug: bool) -> None:
        """End with a mistake of Penstock's own, or of a plugin. Its text is not shown: it may hold anything."""
        frames = traceback.extract_tb(error.__traceback__)
        place = f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else "an unknown place"
        details: tuple[str, ...] = ()
        if debug:
            # Frames with their source lines only: neither locals nor the error's text, which may quote a secret.
            details = tuple("".join(traceback.format_list(frames)).splitlines())
        hint = "Report it to the issue tracker of Penstock or of the plugin" + (
            ", with the lines above." if debug else "; set PENSTOCK_DEBUG=1 to see where it happened."
        )
        shown = PenstockError(f"unexpected {type(error).__name__} in {place}", hint=hint, details=details)
        self._fail({**error_json(shown), "type": type(error).__name__})

    def abandon_stdout(self) -> None:
        """Write nothing more to stdout, not even when the interpreter ends."""
        with suppress(OSError, ValueError):
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, sys.stdout.fileno())
            os.close(devnull)

    def _fail(self, error: Mapping[str, Any]) -> None:
        if self._progress is not None:
            self._progress.abandon()
        if self.json and not self._stdout_is_lost:
            with suppress(PenstockError):  # then stderr says what there is to say
                self._write(jsonlib.dumps({**self._document, "error": error}, indent=2) + "\n")
            if not self._stdout_is_lost:
                return
        with suppress(ReaderGone, PenstockError):
            self._write("")  # results come before the error where both go to one terminal
        self._error_line(f"penstock: error: {_lines(error['message'])}")
        for line in error["details"]:
            self._error_line(f"  {printable(line.expandtabs())}")
        if error["hint"]:
            self._error_line(f"hint: {_lines(error['hint'])}")

    def _aside(self, kind: str, text: str, line: str) -> None:
        if self.json:
            self._error_line(jsonlib.dumps({kind: text}))
        elif self._progress is not None:
            self._progress.say(_lines(line))
        else:
            self._error_line(_lines(line))

    def _write(self, text: str) -> None:
        if self._stdout_is_lost:
            return
        with self._told():
            sys.stdout.write(text)
            sys.stdout.flush()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """For writing to stdout: its errors in our words."""
        try:
            yield
        except BrokenPipeError:
            if not self._acts:
                raise ReaderGone from None
            self._stdout_is_lost = True
            self.abandon_stdout()
        except OSError as error:
            self._stdout_is_lost = True
            self.abandon_stdout()  # what is buffered would fail again, at the latest at the interpreter's end
            reason = f"cannot write to standard output: {error.strerror}"
            if not self._acts:
                raise PenstockError(reason, hint="Make room where the output goes.") from error
            self.warning(f"{reason}; the work goes on, and its exit code counts")

    def _error_line(self, text: str) -> None:
        if not self.json and (width := _width(sys.stderr)):
            text = "\n".join(part for one in text.split("\n") for part in wrapped(one, width))
        with suppress(OSError, ValueError):  # nobody reads it
            sys.stderr.write(text + "\n")
            sys.stderr.flush()


def _shown(lines: Iterable[str]) -> str:
    """What a view gives, as one text; prose is wrapped for a terminal."""
    width = _width(sys.stdout)
    parts = (wrapped(line, width) if width and isinstance(line, Prose) else [line] for line in lines)
    return "".join(one + "\n" for part in parts for one in part)


def _width(stream: TextIO) -> int | None:
    """How many cells a line of the terminal has that `stream` is; None for a file or a program, which wraps nothing."""
    try:
        if not stream.isatty():
            return None
        return (
            int(os.environ.get("COLUMNS", ""))
            if _WIDTH.fullmatch(os.environ.get("COLUMNS", ""))
            else (os.get_terminal_size(stream.fileno()).columns or None)
        )
    except (OSError, ValueError):
        return None


def _lines(text: str) -> str:
    return "\n".join(printable(line) for line in text.splitlines())
