"""The frame of a restore that can undo what it wrote."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from penstock.api.errors import say_more
from penstock.api.models import StreamSpec
from penstock.api.source import Restore

__all__ = ["UndoableRestore", "undone_unless_finished"]


class UndoableRestore(Protocol):
    """What a restore has written so far. `write` and `finish` are those of `Restore`."""

    def write(self, spec: StreamSpec, blocks: Iterable[memoryview], /) -> None:
        """Write one stream."""

    def finish(self) -> None:
        """Keep everything: `undo` has nothing left to do."""

    def undo(self) -> tuple[str, ...]:
        """Undo what was written and is not kept; returns what is left or gone, a sentence each. Never raises."""


@contextmanager
def undone_unless_finished(work: UndoableRestore) -> Iterator[Restore]:
    """The `with` block of `Source.restore`: `work` is undone when the block is left before `finish` kept it.

    What is left or gone is told by whatever exception leaves the block: see `say_more`.
    """
    try:
        yield Restore(work.write, work.finish)
    except BaseException as error:
        say_more(error, *work.undo())
        raise
    work.undo()
