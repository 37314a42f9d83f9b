"""Repair: what is damaged or gone taken whole from replicas, and what is lost all the same named and marked."""

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime

from penstock.api.errors import UsageError
from penstock.api.sink import Sink
from penstock.engine.checking.findings import Findings
from penstock.engine.checking.ledger import Ledger
from penstock.engine.checking.survey import Surveyed, survey
from penstock.engine.repairing.domain import DomainRepair, Tools
from penstock.engine.repairing.losses import Losses
from penstock.engine.repairing.needs import Needs
from penstock.engine.repairing.report import LostSnapshot, Mended, RepairReport
from penstock.engine.reporting import Listener, reporting
from penstock.format.trust import Role
from penstock.repository import Access, Repository
from penstock.repository.notices import distrust
from penstock.repository.pool import Workers
from penstock.repository.read.budget import DEFAULT_MEMORY, ReadBudget
from penstock.repository.repository import put_new
from penstock.repository.upkeep.copying import Copier
from penstock.repository.upkeep.mending import Mender, Replica
from penstock.repository.upkeep.pretending import PretendedSink
from penstock.repository.upkeep.refounding import refound
from penstock.repository.upkeep.reindexing import let_go, reindex

__all__ = ["LostSnapshot", "Mended", "RepairReport", "repair"]


def repair(
    sink: Sink,
    access: Access,
    *,
    replicas: Sequence[Sink] = (),
    quick: bool = False,
    dry_run: bool = False,
    memory: int = DEFAULT_MEMORY,
    listener: Listener,
) -> RepairReport:
    """Mend the repository in `sink`, which `access` opens, as far as the `replicas` have whole what it lacks.

    Everything is read first, with `quick` all but the data of packs. What is damaged or gone and that a snapshot needs,
    with heads and what makes a repository, is taken byte for byte from the first replica that has it whole; no object
    is changed otherwise. Packs that nobody has whole are distrusted, so that the next backup stores anew what they
    held; packs without an index object get one, where the key knows chunks. Snapshots that are not whole then are
    marked bad, and what an earlier run marked so is marked good once it is whole. That takes a maintainer or the owner.

    Backups, restores and prunes go on meanwhile, and wherever this breaks off, the next run goes on. With `dry_run`,
    nothing is written. Buffers take `memory` bytes at most. Raises `OtherRepository`, `UsageError`,
    `RepositoryMissing`, `DamagedObject` or `MissingObject` where it cannot be opened all the same, and what the sinks
    raise.
    """
    if any(one.location == sink.location for one in replicas):
        raise UsageError(f"{sink.location} is the repository itself", hint="Name a replica with --from.")
    budget = ReadBudget.of(memory, min([sink.connections, *(one.connections for one in replicas)]))
    report = RepairReport(dry_run=dry_run, quick=quick)
    with (
        reporting(listener, "repair", sink.location, sink, *replicas) as reporter,
        ExitStack() as closing,
        Ledger() as ledger,
        Workers(budget.requests, "penstock-repair", sink.stop) as workers,
        Workers(budget.packs, "penstock-repair-packs", sink.stop) as packers,
    ):
        target = sink
        pretended = PretendedSink(sink) if dry_run else None
        if pretended is not None:
            target = pretended
            closing.callback(pretended.close)
        lock = threading.Lock()

        def on_mended(key: str, source: Sink) -> None:
            if pretended is not None:
                pretended.take(key, source)
            with lock:
                report.add_mended(key, source.location)

        whole = [Replica(one, Copier(one, target, reporter.progress)) for one in replicas]
        for replica in whole:
            refound(access, replica, target, workers, on_mended)
        repository = workers.call(Repository.open, target, access)
        findings = Findings(ledger, reporter)
        surveyed = survey(repository, workers, packers, ledger, findings, reporter, read_data=not quick)
        reporter.phase("mending")
        # This host's: all that hangs on it is whether a pack gets a second index object.
        now = datetime.now(UTC)
        for one in surveyed:
            domain, notices, packs = one
            mender = Mender(domain, whole, on_mended, reporter.warn)
            needs = Needs(domain, notices, ledger, packs, mender, workers, packers)
            losses = Losses(domain, ledger, workers, memory)
            tools = Tools(ledger, mender, needs, losses, workers)
            domain_repair = DomainRepair(domain, notices, tools, report, now, reporter.warn, dry_run=dry_run)
            domain_repair.mend()
            # Before new index objects: those are of packs that can be relied on.
            report.distrusted += _distrust(one, workers, dry_run=dry_run)
            found = reindex(domain, workers, domain_repair.ended, now, lambda key, data: put_new(target, key, data))
            if found.named:
                report.indexed += found.packs
            else:
                report.unindexed += found.packs
            if not dry_run and access.role is not Role.WRITER:
                let_go(domain, workers, needs.lost_indexes, reporter.warn)
        report.mended_size = sum(one.copier.bytes for one in whole)
        figures = {"mended": report.mended_count, "lost": report.lost_count, "bytes": report.mended_size}
        reporter.completed("repaired", figures)
    return report


def _distrust(one: Surveyed, workers: Workers, *, dry_run: bool) -> int:
    """Tell all writers of the packs that stay damaged; returns how many these are."""
    damaged = {pack: why for pack, why in one.packs.damaged.items() if pack not in one.notices.distrusted}
    if damaged and not dry_run:
        workers.call(distrust, one.domain, damaged)
    return len(damaged)
