"""Check: every object against what was written, and against the objects that rely on it."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from penstock.api.errors import SinkError
from penstock.engine.checking.findings import MAX_FINDINGS, Finding, Findings
from penstock.engine.checking.ledger import Ledger
from penstock.engine.checking.packs import Packs
from penstock.engine.checking.snapshots import Snapshots
from penstock.engine.checking.survey import survey
from penstock.engine.checking.turns import Turns
from penstock.engine.reporting import Listener, Reporter, reporting
from penstock.format.trust import Role
from penstock.repository import Repository, layout
from penstock.repository.checkpoint import SET_BACK, checked, is_known
from penstock.repository.domain import Domain
from penstock.repository.known.cache import Cache
from penstock.repository.notices import Notices, distrust, read_notices
from penstock.repository.pool import Workers
from penstock.repository.read.budget import DEFAULT_MEMORY, ReadBudget
from penstock.repository.read.seen import open_cache

__all__ = ["MAX_FINDINGS", "CheckReport", "Finding", "check"]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was checked, and what was found. `read` in bytes of packs; `opened`: segments were opened too.

    `finding_count` objects were not as they should be, none if all is well; `findings` holds the first of them, at most
    `MAX_FINDINGS`. `distrusted` packs will not be deduplicated against any more: the next backups store anew what they
    held.
    """

    findings: tuple[Finding, ...]
    finding_count: int
    distrusted: int
    snapshots: int
    packs: int
    segments: int
    sessions: int
    index: int
    keys: int
    read: int
    data_read: bool
    opened: bool
    #: Whether only some of the packs were read: those whose turn it was.
    in_part: bool = False
    #: How many findings nobody relies on: strangers, heads of revoked writers that the owner left out, and what is
    #: damaged and no snapshot needs. A prune deletes those whose names are such as Penstock gives.
    harmless: int = 0

    def to_json(self) -> dict[str, Any]:
        """The document of `penstock check`."""
        return {
            "findings": [finding.to_json() for finding in self.findings],
            "finding_count": self.finding_count,
            "harmless": self.harmless,
            "distrusted": self.distrusted,
            "checked": {
                "snapshots": self.snapshots,
                "packs": self.packs,
                "segments": self.segments,
                "sessions": self.sessions,
                "index": self.index,
                "keys": self.keys,
                "read": self.read,
                "read_data": self.data_read,
                "in_part": self.in_part,
                "opened": self.opened,
            },
        }


def check(
    repository: Repository,
    *,
    read_data: bool,
    within: timedelta | None = None,
    cache_dir: Path | None,
    checkpoint: str | None = None,
    memory: int = DEFAULT_MEMORY,
    listener: Listener,
) -> CheckReport:
    """Check the whole repository, as far as the key reaches.

    Every role can: names, sizes, signatures, seals, pins, and that whatever is referred to is there. With `read_data`
    every byte of every pack is read and compared with its digest, and, where the owner's key is at hand, opened and
    compared with the ids of its chunks. With `within` too, only packs whose turn it is are read, so many that runs on
    this host over that time read all of them; that needs `cache_dir`. With `cache_dir`, objects that this host has seen
    before must still exist; with a `checkpoint`, the snapshot that it stands for must be known. Damage is a finding,
    never an error, and so is what a stranger put there, or what disappears meanwhile, unless a prune deletes it, which
    leaves a record. Damaged packs are recorded: no writer relies on them any more. Memory does not grow with the
    repository; buffers take `memory` bytes at most.
    """
    wanted = None if checkpoint is None else checked(checkpoint)
    if within is not None and cache_dir is None:
        raise ValueError("what was read is noted in the cache")
    budget = ReadBudget.of(memory, repository.sink.connections)
    stop = repository.sink.stop
    with (
        reporting(listener, "check", repository.sink.location, repository.sink) as reporter,
        ExitStack() as caches,
        Ledger() as ledger,
        Workers(budget.requests, "penstock-check", stop) as workers,
    ):
        findings = Findings(ledger, reporter)
        opened = {
            domain.id: caches.enter_context(open_cache(cache_dir, domain, reporter.warn))
            for domain in repository.domains
        }
        # Before anything is listed: what is put later was not expected.
        for cache in opened.values():
            ledger.expect(cache.seen() if cache is not None else ())

        def turns(domain: Domain) -> Turns:
            cache = opened[domain.id]
            assert within is not None
            assert cache is not None
            return Turns(domain, cache, ledger, within)

        choose = turns if read_data and within is not None else None
        with Workers(budget.packs, "penstock-check-packs", stop) as readers:
            surveyed = survey(
                repository, workers, readers, ledger, findings, reporter, read_data=read_data, choose=choose
            )
        parts = [_Part(*one, opened[one.domain.id]) for one in surveyed]
        reporter.phase("checking")
        snapshots = 0
        for part in parts:
            found = Snapshots(part.domain, part.notices, workers, ledger, findings, part.packs.sealers)
            found.examine()
            snapshots += found.count
        if wanted is not None and not is_known(repository, wanted):
            findings.add(layout.DOMAINS, SET_BACK, gone=True)
        _tell_vanished(parts, ledger, findings)
        findings.settle(lambda: ((part.domain, read_notices(part.domain, workers)) for part in parts))
        distrusted = sum(_distrust(part, workers, reporter) for part in parts)
        for part in parts:
            if part.cache is not None:
                _remember(part.cache, ledger, part.domain)
        report = CheckReport(
            findings=tuple(findings.first),
            finding_count=findings.count,
            distrusted=distrusted,
            snapshots=snapshots,
            packs=sum(part.packs.count for part in parts),
            segments=sum(part.packs.segments for part in parts),
            sessions=sum(ledger.count(part.domain.at.sessions, good=True)[0] for part in parts),
            index=sum(ledger.count(part.domain.at.index, good=True)[0] for part in parts),
            keys=sum(1 for _ in repository.log),
            read=sum(part.packs.read for part in parts),
            data_read=read_data,
            opened=read_data and repository.access.role is Role.OWNER,
            in_part=read_data and within is not None,
            harmless=findings.harmless,
        )
        figures = {"findings": report.finding_count, "packs": report.packs, "read": report.read}
        reporter.completed("checked", figures)
    return report


class _Part(NamedTuple):
    """What the check of one domain has at hand."""

    domain: Domain
    notices: Notices
    packs: Packs
    cache: Cache | None


def _tell_vanished(parts: Sequence[_Part], ledger: Ledger, findings: Findings) -> None:
    """Objects that this host has seen before, and whose deletion nobody recorded."""
    deleted = {key for part in parts for key in part.notices.deleted}
    for key in ledger.vanished():
        if key not in deleted:
            findings.add(key, "gone: this host has seen it before", gone=True)


def _remember(cache: Cache, ledger: Ledger, domain: Domain) -> None:
    """Note what is there and sound, to be missed by later checks; but not leases and tombstones, which come and go."""
    at = domain.at
    lasting = (at.sessions, at.packs, at.index, at.parts, at.snapshots, at.notices, at.deletions, at.marks)
    for prefix in (layout.GRANTS, *lasting):
        for keys in ledger.unseen(prefix):
            cache.saw(keys)


def _distrust(part: _Part, workers: Workers, reporter: Reporter) -> int:
    """Record damaged packs, on this host and for all writers; returns how many are recorded."""
    damaged = part.packs.damaged
    if part.cache is not None:
        for pack, why in damaged.items():
            part.cache.distrust(pack, why)
    new = {pack: why for pack, why in damaged.items() if pack not in part.notices.distrusted}
    if new:
        try:
            workers.call(distrust, part.domain, new)
        except SinkError as error:
            # A key that may only read: this host alone knows, then.
            reporter.warn(f"other hosts are not told of damaged packs: {error}")
            return 0
    return len(damaged)
