"""The part of the kit for sources that is about the process in which a source works."""

import contextlib
import multiprocessing
import os
import sys
from multiprocessing.connection import Connection

import pytest

from penstock.api import PluginSettings, Source
from penstock.testing.dumping import dump_all, restore_all
from penstock.testing.source_lab import SourceLab
from penstock.testing.source_trials import SourceTests

__all__ = ["ProcessTests"]

_STANDARD = 3  # stdin, stdout and stderr are the first descriptors

Made = tuple[type[Source], PluginSettings]


class ProcessTests(SourceTests):
    """Tests of what a source needs of its process."""

    def test_it_works_without_standard_streams(self, lab: SourceLab) -> None:
        """As under a supervisor that closes them: the next files and pipes then get their numbers."""
        target = lab.target()
        before = lab.content()
        context = multiprocessing.get_context("spawn")
        receiving, sending = context.Pipe(duplex=False)
        made = [(type(source), source.settings) for source in (lab.source, target.source)]
        process = context.Process(target=_copy, args=(sending, *made))
        process.start()
        sending.close()
        doing = "a dump and its restore in a process whose stdin, stdout and stderr are closed"
        try:
            assert receiving.poll(2 * self.patience), f"{doing} took more than {2 * self.patience:g} seconds"
            try:
                error = receiving.recv()
            except EOFError:
                error = "the process died"
        finally:
            process.join(1)
            process.kill()
            process.join()
            process.close()
            receiving.close()
        if error:
            pytest.fail(f"{doing} must work: {error}")
        assert target.content() == before, f"{doing} does not bring back what was dumped: is something printed?"


def _copy(told: Connection, source: Made, target: Made) -> None:
    """Dump and restore in a process of its own, and tell what went wrong."""
    sys.stdin = sys.stdout = sys.stderr = None  # as Python has it when they are closed
    for number in range(_STANDARD):
        with contextlib.suppress(OSError):
            os.close(number)
    error = ""
    try:
        (kind, settings), (target_kind, target_settings) = source, target
        restore_all(target_kind(target_settings), dump_all(kind(settings)))
    except BaseException as raised:  # noqa: BLE001 - told, since this process has no stderr
        error = f"it raised {type(raised).__name__}: {raised}"
    told.send(error)
