# ruff: noqa: D102 - the names of the tests are what they promise
"""The part of the kit for sources that is about what a dump sees: of writers, and of other dumps and processes."""

import multiprocessing
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from penstock.api import Capability, Dump
from penstock.testing.dumping import Dumped, dump_all, open_and_read, read_all, restore_all
from penstock.testing.kit import NotApplicable, essential, must_work
from penstock.testing.source_lab import SourceLab
from penstock.testing.source_trials import SourceTests, compare

__all__ = ["ViewTests"]


class ViewTests(SourceTests):
    """Tests of what `CONSISTENT` and `PARALLEL_STREAMS` promise, and of the independence of dumps."""

    @essential("a source that holds no view does not declare CONSISTENT")
    def test_changes_during_a_dump_are_not_in_it(self, lab: SourceLab) -> None:
        _wants(lab, Capability.CONSISTENT)
        self._holds_against(lab, lab.change, "a change")

    @essential("a source whose view holds against its own process alone does not declare CONSISTENT")
    def test_changes_by_another_process_are_not_in_it(self, lab: SourceLab) -> None:
        _wants(lab, Capability.CONSISTENT)
        command = lab.change_command
        if isinstance(command, NotApplicable):
            pytest.skip(f"not applicable: {command.reason}")

        def change() -> None:
            subprocess.run(command, check=True, capture_output=True, timeout=self.patience)

        self._holds_against(lab, change, "a change by another process")

    def test_two_dumps_at_once_are_independent(self, lab: SourceLab) -> None:
        expected = dump_all(lab.source)
        for first_to_end in (0, 1):
            with must_work("a dump beside another of the same source"), ExitStack() as one, ExitStack() as other:
                held = [one.enter_context(lab.source.dump()), other.enter_context(lab.source.dump())]
                compare(lab, expected, _streams(held[first_to_end]), "a dump, and the same beside another,")
                (one, other)[first_to_end].close()
                compare(lab, expected, _streams(held[1 - first_to_end]), "a dump, and the same after another ended,")

    def test_streams_can_be_read_at_the_same_time(self, lab: SourceLab) -> None:
        if lab.source.capabilities().isdisjoint({Capability.CONCURRENT_STREAMS, Capability.PARALLEL_STREAMS}):
            pytest.skip("not applicable: the source declares neither CONCURRENT_STREAMS nor PARALLEL_STREAMS")
        first = dump_all(lab.source)
        with (
            must_work("reading all streams of a dump at the same time, each in a thread of its own,"),
            lab.source.dump() as held,
            ThreadPoolExecutor(len(held.plan.streams)) as pool,
        ):
            asked = [(spec, pool.submit(read_all, held.open(spec))) for spec in held.plan.streams]
            second = {spec.name: (spec, future.result(self.patience)) for spec, future in asked}
        compare(lab, first, second, "streams that are read one after another, and at the same time")

    def test_a_stream_can_be_opened_in_another_process(self, lab: SourceLab) -> None:
        _wants(lab, Capability.PARALLEL_STREAMS)
        first = dump_all(lab.source)
        with lab.source.dump() as held:
            second = self._attached(lab, held)
        compare(lab, first, second, "dumps by this process and by another")

    def test_a_stream_of_another_process_shows_the_same_view(self, lab: SourceLab) -> None:
        _wants(lab, Capability.PARALLEL_STREAMS)
        _wants(lab, Capability.CONSISTENT)
        first = dump_all(lab.source)
        writer = _Writer(lab.change)
        with lab.source.dump() as held:
            writer.write(self.writers_wait)
            second = self._attached(lab, held)
        writer.finish(self.patience)
        compare(lab, first, second, "dumps by this process and, after a change, by another that attached to the view")

    def _attached(self, lab: SourceLab, held: Dump) -> Dumped:
        source = lab.source
        with (
            must_work("attach() in another process, with nothing but settings and spec,"),
            ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool,
        ):
            asked = [
                (spec, pool.submit(open_and_read, type(source), source.settings, spec)) for spec in held.plan.streams
            ]
            return {spec.name: (spec, future.result(self.patience)) for spec, future in asked}

    def _holds_against(self, lab: SourceLab, change: Callable[[], object], what: str) -> None:
        before = lab.content()
        writer = _Writer(change)
        with lab.source.dump() as held:
            writer.write(self.writers_wait)
            dump = _streams(held)
        writer.finish(self.patience)
        assert lab.content() != before, "the lab's change changes nothing"
        target = lab.target()
        with must_work("a restore of a dump beside which something was changed"):
            restore_all(target.source, dump)
        assert target.content() == before, (
            f"{what} that was made after dump() had begun shows in the dump, which CONSISTENT rules out"
        )


class _Writer:
    """Changes the content beside a dump. Where the engine lets it wait, or refuses it, it writes after the dump."""

    def __init__(self, change: Callable[[], object]) -> None:
        self._change = change
        self._raised: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def write(self, seconds: float) -> None:
        """Return when it has written, was refused, or has waited that long."""
        self._thread.start()
        self._thread.join(seconds)
        if isinstance(self._raised, pytest.skip.Exception):  # nothing can change the content, as the lab says
            raise self._raised

    def finish(self, seconds: float) -> None:
        """After the dump nothing stands in its way."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), f"a writer still waits {seconds:g} seconds after the dump has ended"
        if self._raised is not None:
            self._change()

    def _run(self) -> None:
        try:
            self._change()
        except BaseException as error:  # noqa: BLE001 - refused; tried again when the dump has ended
            self._raised = error


def _streams(held: Dump) -> Dumped:
    return {spec.name: (spec, read_all(held.open(spec))) for spec in held.plan.streams}


def _wants(lab: SourceLab, capability: Capability) -> None:
    if capability not in lab.source.capabilities():
        pytest.skip(f"not applicable: the source does not declare {capability.name}")
