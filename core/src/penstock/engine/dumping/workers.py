"""The bench of a process that writes units of a dump."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from penstock.api.models import LeftOut
from penstock.api.stopping import StopToken
from penstock.engine.dumping.units import FinishedUnit, Unit, write_unit
from penstock.engine.dumping.workplace import Opened, Order, Told, Workplace
from penstock.repository.write.handing_over import HandedOver
from penstock.repository.write.session import Session

__all__ = ["DumpBench", "write_here"]


class _Holding:
    """The `Report` of a source: holds back what is left out, for it counts only if the unit does."""

    def __init__(self, told: Told) -> None:
        self.note, self.warn, self.retry = told.note, told.warn, told.retry
        self.held: list[LeftOut] = []

    def left_out(self, one: LeftOut) -> None:
        self.held.append(one)


@dataclass(frozen=True, slots=True)
class _AtWork:
    opened: Opened
    session: Session
    told: Told

    def write(self, unit: Unit) -> FinishedUnit:
        """Store it, and say what that took."""
        source = self.opened.source
        source.report = holding = _Holding(self.told)
        done = write_unit(unit, source.attach, self.session.writer(), self.told.progress)
        return replace(done, left_out=tuple(holding.held), spent=self.opened.spent())


#: What this process works at.
_at_work: _AtWork | None = None


@dataclass(frozen=True, slots=True)
class DumpBench:
    """Joins a session, with a repository and a source of its own."""

    workplace: Workplace
    order: Order

    @contextmanager
    def open(self, stop: StopToken, told: Told) -> Iterator[None]:
        """Until the block is left, `write_here` writes streams of that session in this process."""
        global _at_work  # noqa: PLW0603 - of the process, as a pool's initializer leaves it
        order = self.order
        with self.workplace.open(stop) as opened:
            opened.repository.sink.report = told
            session = Session(
                opened.repository,
                order.backup,
                cache_folder=order.cache_folder,
                cache_size=order.cache_size,
                pack_size=order.pack_size,
                memory=order.memory,
                level=order.level,
                on_damage=told.damage,
                on_trouble=told.warn,
                joins=HandedOver.opened(order.handed_over, opened.repository.domain),
                sharers=order.workers,
            )
            with session:
                _at_work = _AtWork(opened, session, told)
                try:
                    yield
                finally:
                    _at_work = None


def write_here(unit: Unit) -> FinishedUnit:
    """Store a unit in a process with a `DumpBench`."""
    assert _at_work is not None, "called where no bench is"
    return _at_work.write(unit)
