"""Has the units of a dump written by several workers at once."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from penstock.api.errors import Interrupted, UsageError, WorkerDied
from penstock.api.models import StreamSpec
from penstock.api.plugin import Capability
from penstock.api.source import Dump, DumpStream, Source
from penstock.engine.dumping.lanes import Lanes
from penstock.engine.dumping.units import FinishedUnit, Unit, write_unit
from penstock.engine.dumping.workers import DumpBench, write_here
from penstock.engine.dumping.workplace import Order, Told, Workplace
from penstock.engine.reporting import Reporter
from penstock.repository.domain import Domain
from penstock.repository.write.session import Session

__all__ = ["LEAST_MEMORY", "ONE_JOB", "Jobs", "Submit", "in_processes", "in_threads", "write_all"]

#: What each job takes at least (bytes).
LEAST_MEMORY = 64 * 1024 * 1024

_AT_ONCE = frozenset({Capability.CONCURRENT_STREAMS, Capability.PARALLEL_STREAMS})

Submit: TypeAlias = Callable[[Unit], "Future[FinishedUnit]"]


@dataclass(frozen=True, slots=True)
class Jobs:
    """How many streams of a dump are written at once, and by whom. Processes need a `workplace`.

    `note_spent` is given, in this process, what each unit that another one wrote has used of the store.
    """

    count: int = 1
    executor: Literal["threads", "processes"] = "processes"
    workplace: Workplace | None = None
    note_spent: Callable[[Any], object] = lambda _: None

    def of(self, source: Source, memory: int) -> "Jobs":
        """Those that the source allows; raises `UsageError` where `memory` (bytes) does not do for so many."""
        if self.count < 1:
            raise UsageError("invalid jobs: it must be 1 or more")
        if self.executor == "processes" and self.count > 1 and self.workplace is None:
            raise ValueError("processes need a workplace")
        if self.count == 1:
            return self
        able = source.capabilities()
        apart = self.executor == "processes" and Capability.PARALLEL_STREAMS in able
        at_once = apart or not able.isdisjoint(_AT_ONCE)
        count = min(self.count, source.most_streams or self.count) if at_once else 1
        if count > 1 and memory // count < LEAST_MEMORY:
            raise UsageError(
                f"{memory // 2**20} MiB of memory do not do for {count} jobs: each takes {LEAST_MEMORY // 2**20} MiB",
                hint="Raise memory, or lower jobs.",
            )
        return replace(self, count=count, executor="processes" if apart else "threads")


ONE_JOB = Jobs()


def write_all(
    units: Sequence[Unit], submit: Submit, reporter: Reporter, note_spent: Callable[[Any], object]
) -> list[FinishedUnit]:
    """Have all units written; one whose worker dies is tried again, once. Raises what the first one raises that fails.

    Objects that a stream turned out to lack are reported here.
    """
    done: list[FinishedUnit] = []
    tried: set[int] = set()
    waiting = {submit(unit): unit for unit in units}
    while waiting:
        ended, _ = wait(waiting, return_when=FIRST_COMPLETED)
        for future in ended:
            unit = waiting.pop(future)
            try:
                finished = future.result()
            except WorkerDied as error:
                if unit.first in tried:
                    raise
                tried.add(unit.first)
                for _, spec in unit.streams:
                    reporter.dropped(spec.name)
                reporter.retry(f"{error.message}: {unit} is read again")
                waiting[submit(unit)] = unit
                continue
            note_spent(finished.spent)
            for one in finished.streams:
                reporter.ended(one.spec.name, one.stored.size)
            for left_out in finished.each_left_out():
                reporter.left_out(left_out)
            done.append(finished)
    return done


@contextmanager
def in_threads(session: Session, dump: Dump, count: int, units: int, reporter: Reporter) -> Iterator[Submit]:
    """So many units are written by threads of this process, from streams that the dump itself opens."""
    opening = threading.Lock()
    at_work: dict[int, DumpStream] = {}
    broken = threading.Event()

    def begin(spec: StreamSpec) -> DumpStream:
        with opening:
            if broken.is_set():
                raise Interrupted("another stream of the dump has failed")
            at_work[threading.get_ident()] = stream = dump.open(spec)
        return stream

    def write(unit: Unit) -> FinishedUnit:
        with opening:  # not before its turn: a writer has files open
            writer = session.writer(among=count, in_all=units)
        return write_unit(unit, begin, writer, reporter.progress)

    pool = ThreadPoolExecutor(count, "penstock-stream")
    try:
        yield lambda unit: pool.submit(write, unit)
    except BaseException:  # an interrupt, too: who reads from a database would go on for hours
        broken.set()
        with opening:
            for stream in at_work.values():
                stream.abort()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def in_processes(
    session: Session, order: Order, workplace: Workplace, count: int, told: Told, domain: Domain
) -> Iterator[Submit]:
    """Units are written by processes, each with a repository and a source of its own.

    `order` is what each is told, but for what the session hands over to it.
    """

    def new_bench() -> DumpBench:
        return DumpBench(workplace, replace(order, handed_over=session.hand_over().sealed(domain)))

    with Lanes(count, new_bench, told, domain.sink.stop) as lanes:
        yield lambda unit: lanes.submit(write_here, unit)
