"""What a command works with: a workspace, the output, and the token that stops it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

from penstock.api import Event, EventKind, StopToken
from penstock.cli.amounts import size
from penstock.cli.folders import user_folders
from penstock.cli.options import Options
from penstock.cli.output.console import Listener, Output
from penstock.cli.prompts import TerminalPrompts, can_ask
from penstock.workspace import Credentials, Overrides, Workspace

__all__ = ["Listening", "Run"]


class Run:
    """One invocation of one command. Its workspace is made when it is first asked for."""

    def __init__(self, options: Options, output: Output, stop: StopToken) -> None:
        self.options = options
        self.output = output
        self.stop = stop

    @cached_property
    def workspace(self) -> Workspace:
        """The workspace of the options, this process's environment and this user's folders. Raises `UsageError`."""
        said = self.options
        return Workspace(
            user_folders(),
            environ=os.environ,
            credentials=Credentials(key_file=said.key, passphrase_file=said.passphrase_file),
            prompts=TerminalPrompts() if not said.json and can_ask() else None,
            overrides=Overrides(
                settings_file=said.config,
                repository=said.repo,
                cache=said.cache_dir,
                memory=size("--memory", said.memory),
                jobs=said.jobs,
                limit_upload=size("--limit-upload", said.limit_upload),
                limit_download=size("--limit-download", said.limit_download),
            ),
            stop=self.stop,
            warn=self.output.warning,
        )

    def close(self) -> None:
        """Close the workspace, if it was ever made."""
        if "workspace" in vars(self):
            self.workspace.close()

    def requesting(self) -> frozenset[int]:
        """The idents of the threads that are in the middle of a request to a sink; for any thread to ask."""
        return self.workspace.requesting() if "workspace" in vars(self) else frozenset()

    def sink_figures(self) -> dict[str, dict[str, float]]:
        """The requests of the command to sinks, by method, as they stand in JSON documents."""
        return {method: figures.to_json() for method, figures in self.workspace.figures().items()}

    @contextmanager
    def listening(self) -> Iterator["Listening"]:
        """What takes events during the block: progress, and the plugins that listen."""
        with self.output.progress() as show:
            yield Listening(self, show)


class Listening:
    """Takes the events of a run, from any thread. `warnings` are the messages of those that were warnings."""

    def __init__(self, run: Run, show: Listener) -> None:
        self._show = show
        self._notify = run.workspace.host.notify
        self.warnings: set[str] = set()

    def __call__(self, event: Event) -> None:
        """Show it, and tell the plugins."""
        if event.kind is EventKind.WARNING:
            self.warnings.add(event.message)
        self._show(event)
        self._notify(event)
