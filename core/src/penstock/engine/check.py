"""Check: every object against what was written, and against the objects that rely on it."""

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing
from penstock.api.models import ObjectInfo
from penstock.engine.ledger import Ledger
from penstock.engine.reporting import Listener, Reporter, reporting
from penstock.format.documents import decode_document
from penstock.format.encoding import Malformed
from penstock.format.index import open_index
from penstock.format.pack import Directory, SegmentId
from penstock.format.recipe import decode_recipe
from penstock.format.sealing import Sealer
from penstock.format.trust import Role
from penstock.repository import Repository, SnapshotEntry, layout
from penstock.repository.pool import Workers
from penstock.repository.read.budget import DEFAULT_MEMORY, ReadBudget
from penstock.repository.read.directories import read_pack_end
from penstock.repository.read.listing import listed
from penstock.repository.read.once import Once
from penstock.repository.read.seen import open_cache
from penstock.repository.read.verify import verify_pack
from penstock.repository.sessions import data_sealer, read_session
from penstock.repository.snapshots import each_snapshot

__all__ = ["MAX_FINDINGS", "CheckReport", "Finding", "check"]

#: A report holds so many findings at most; all of them are told to the listener.
MAX_FINDINGS = 1000
#: Data keys that are kept.
_SEALERS = 4096


@dataclass(frozen=True, slots=True)
class Finding:
    """One object that is not as it should be: `gone`, or else damaged."""

    key: str
    problem: str
    gone: bool = False

    def to_json(self) -> dict[str, Any]:
        """The finding as it stands in the document of `penstock check`."""
        return {"key": self.key, "problem": self.problem}


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was checked, and what was found. `read` in bytes of packs; `opened`: segments were opened too.

    `finding_count` objects were not as they should be, none if all is well; `findings` holds the first of them, at most
    `MAX_FINDINGS`.
    """

    findings: tuple[Finding, ...]
    finding_count: int
    snapshots: int
    packs: int
    segments: int
    sessions: int
    index: int
    keys: int
    read: int
    data_read: bool
    opened: bool

    def to_json(self) -> dict[str, Any]:
        """The document of `penstock check`."""
        return {
            "findings": [finding.to_json() for finding in self.findings],
            "finding_count": self.finding_count,
            "checked": {
                "snapshots": self.snapshots,
                "packs": self.packs,
                "segments": self.segments,
                "sessions": self.sessions,
                "index": self.index,
                "keys": self.keys,
                "read": self.read,
                "read_data": self.data_read,
                "opened": self.opened,
            },
        }


class _Findings:
    """Findings, each object once."""

    def __init__(self, ledger: Ledger, reporter: Reporter) -> None:
        self._ledger = ledger
        self._reporter = reporter
        self.first: list[Finding] = []
        self.count = 0

    def add(self, key: str, problem: str, *, gone: bool = False) -> None:
        if self._ledger.find(key):
            self.count += 1
            if len(self.first) < MAX_FINDINGS:
                self.first.append(Finding(key, problem, gone))
            self._reporter.finding(key, problem)

    def error(self, error: DamagedObject | MissingObject) -> None:
        self.add(error.key, error.reason, gone=isinstance(error, MissingObject))


def check(
    repository: Repository,
    *,
    read_data: bool,
    cache_dir: Path | None,
    memory: int = DEFAULT_MEMORY,
    listener: Listener,
) -> CheckReport:
    """Check the whole repository.

    Every role can: signatures, seals, directories, and that whatever is referred to is there. With `read_data` every
    byte of every pack is read and compared with its digest, and, where the owner's key is at hand, opened and
    compared with the ids of its chunks. With `cache_dir`, objects that this host has seen before must still exist.
    Damage is a finding, never an error, and so is what disappears meanwhile. Memory does not grow with the repository;
    buffers take `memory` bytes at most.
    """
    budget = ReadBudget.of(memory, repository.sink.connections)
    stop = repository.sink.stop
    with (
        reporting(listener, "check", repository.sink.location, repository.sink) as reporter,
        open_cache(cache_dir, repository, reporter.warn) as cache,
        Ledger() as ledger,
        Workers(budget.requests, "penstock-check", stop) as workers,
    ):
        findings = _Findings(ledger, reporter)
        # Before anything is listed: what is put later was not expected.
        ledger.expect(cache.seen() if cache is not None else ())
        reporter.phase("listing")
        documents = _Documents(repository, workers, ledger, findings)
        documents.list_all()
        documents.examine()
        packs = _Packs(repository, workers, ledger, findings, reporter)
        if read_data:
            reporter.phase("reading", ledger.count(layout.PACKS)[1])
            with Workers(budget.packs, "penstock-check-packs", stop) as readers:
                packs.examine(readers, read_data=True)
        reporter.phase("checking")
        if not read_data:
            packs.examine(workers, read_data=False)
        snapshots = _Snapshots(repository, workers, ledger, findings, packs.sealers)
        snapshots.examine()
        for key in ledger.vanished():
            findings.add(key, "gone: this host has seen it before", gone=True)
        if cache is not None:
            for keys in ledger.unseen():
                cache.saw(keys)
        report = CheckReport(
            findings=tuple(findings.first),
            finding_count=findings.count,
            snapshots=snapshots.count,
            packs=packs.count,
            segments=packs.segments,
            sessions=ledger.count(layout.SESSIONS, good=True)[0],
            index=ledger.count(layout.INDEX, good=True)[0],
            keys=repository.grants.length,
            read=packs.read,
            data_read=read_data,
            opened=read_data and repository.access.role is Role.OWNER,
        )
        figures = {"findings": report.finding_count, "packs": report.packs, "read": report.read}
        reporter.completed("checked", figures)
    return report


class _Documents:
    """Which objects there are, and the small ones: slots, sessions and index objects.

    penstock.json and the log of grants were verified when the repository was opened.
    """

    def __init__(self, repository: Repository, workers: Workers, ledger: Ledger, findings: _Findings) -> None:
        self._repository = repository
        self._workers = workers
        self._ledger = ledger
        self._findings = findings

    def list_all(self) -> None:
        """Snapshots first: a backup writes its own last, so all that it needs is there when the rest is listed."""
        grants = self._repository.grants
        self._ledger.add(ObjectInfo(layout.grant_key(number + 1), 0) for number in range(grants.length))
        for prefix in (layout.SNAPSHOTS, layout.SESSIONS, layout.INDEX, layout.PACKS):
            self._ledger.add(listed(self._workers, self._repository.sink, prefix))

    def examine(self) -> None:
        """Look at all small objects."""
        slots = (layout.slot_key(slot.grant.key) for slot in self._repository.grants.active(Role.SLOT))
        self._each(self._slot, slots)
        self._each(self._session, (info.key for info in self._ledger.under(layout.SESSIONS)))
        self._each(self._index, (info.key for info in self._ledger.under(layout.INDEX)))

    def _each(self, examine: Callable[[str], None], keys: Iterator[str]) -> None:
        def look(key: str) -> tuple[str, DamagedObject | MissingObject | None]:
            try:
                examine(key)
            except ObjectMissing:
                return key, MissingObject(key, "gone")
            except Malformed as error:
                return key, DamagedObject(key, str(error))
            except (DamagedObject, MissingObject) as error:
                return key, error
            return key, None

        for key, error in self._workers.map(look, keys):
            if error is not None:
                self._findings.error(error)
            if not key.startswith(layout.SLOTS):
                self._ledger.judge(key, good=error is None)

    def _slot(self, key: str) -> None:
        try:
            decode_document(key, self._repository.sink.get(key)).verified(self._repository.access.owner.signing)
        except ObjectMissing:
            raise MissingObject(key, "the passphrase slot is gone") from None

    def _session(self, key: str) -> None:
        read_session(self._repository, layout.id_of(key))

    def _index(self, key: str) -> None:
        data = self._repository.sink.get(key)
        open_index(data, self._repository.index_sealer, self._repository.id, layout.id_of(key))


class _Pack(NamedTuple):
    """What a check keeps of a pack: the number and the chunks of each segment that was born in it."""

    held: "array[int]"
    segments: int
    sessions: frozenset[bytes]

    @classmethod
    def of(cls, directory: Directory) -> "_Pack":
        held = array("I")
        for place in directory.segments:
            if place.id.pack == directory.pack:
                held.extend((place.id.ordinal, place.chunks))
        return cls(held, len(directory.segments), frozenset(place.session for place in directory.segments))


class _Packs:
    """The packs: their directories, and, where data is read, every byte."""

    def __init__(
        self, repository: Repository, workers: Workers, ledger: Ledger, findings: _Findings, reporter: Reporter
    ) -> None:
        self._repository = repository
        self._workers = workers
        self._ledger = ledger
        self._findings = findings
        self._reporter = reporter
        self.sealers: Once[bytes, Sealer] = Once(lambda session: data_sealer(repository, session), kept=_SEALERS)
        self.count = 0
        self.segments = 0
        #: Bytes.
        self.read = 0

    def examine(self, workers: Workers, *, read_data: bool) -> None:
        """Look at every pack, on the threads of `workers`."""

        def look(info: ObjectInfo) -> tuple[ObjectInfo, _Pack | DamagedObject | MissingObject]:
            try:
                return info, self._pack(info, read_data=read_data)
            except Malformed as error:
                return info, DamagedObject(info.key, str(error))
            except (DamagedObject, MissingObject) as error:
                return info, error

        for info, result in workers.map(look, self._ledger.under(layout.PACKS)):
            self.count += 1
            if isinstance(result, _Pack):
                self._note(layout.id_of(info.key), result)
            else:
                self._findings.error(result)
            if read_data:
                self._reporter.progress(info.key, info.size)
                self._reporter.base += info.size
                self.read += info.size

    def _pack(self, info: ObjectInfo, *, read_data: bool) -> _Pack:
        pack = layout.id_of(info.key)
        if read_data:
            return _Pack.of(verify_pack(self._repository, pack, info.size, self._sealer))
        return _Pack.of(read_pack_end(self._repository, pack, info.size)[0])

    def _sealer(self, session: bytes) -> Sealer | None:
        """The key of a segment, where it is at hand; what is wrong with a session is a finding about the session."""
        if self._repository.access.role is not Role.OWNER:
            return None
        try:
            return self.sealers(session)
        except (DamagedObject, MissingObject):
            return None

    def _note(self, pack: bytes, found: _Pack) -> None:
        self._ledger.add_pack(pack, found.held)
        self.segments += found.segments
        for session in found.sessions:
            key = layout.session_key(session)
            if self._ledger.judged(key) is None:
                # It may have begun after the sessions were listed.
                try:
                    self._workers.call(read_session, self._repository, session)
                    self._ledger.judge(key, good=True)
                except (DamagedObject, MissingObject) as error:
                    self._ledger.judge(key, good=False)
                    self._findings.error(error)


class _Snapshots:
    """The snapshots, and whether all that they refer to is there; with the owner's key, recipes included."""

    def __init__(
        self,
        repository: Repository,
        workers: Workers,
        ledger: Ledger,
        findings: _Findings,
        sealers: Once[bytes, Sealer],
    ) -> None:
        self._repository = repository
        self._workers = workers
        self._ledger = ledger
        self._findings = findings
        self._sealers = sealers
        #: Those that are what was written.
        self.count = 0

    def examine(self) -> None:
        """Look at all of them, of which a few are in memory at a time."""
        objects = self._ledger.under(layout.SNAPSHOTS)
        for entry in each_snapshot(self._repository, self._workers, objects, self._findings.error):
            self.count += 1
            self._references(entry)
            chunks = self._segments(entry)
            if chunks is not None and self._repository.access.role is Role.OWNER:
                self._recipes(entry, chunks)

    def _references(self, entry: SnapshotEntry) -> None:
        wanted = {layout.session_key(session): "its session" for session in entry.catalogue.sessions}
        wanted |= {layout.index_key(index): "an index object of its run" for index in entry.catalogue.index}
        if entry.catalogue.parent is not None:
            wanted[layout.snapshot_key(entry.catalogue.parent)] = "its parent"
        for key, what in wanted.items():
            if not self._exists(key):
                self._findings.add(key, f"gone: snapshot {_short(entry)} names it as {what}", gone=True)

    def _exists(self, key: str) -> bool:
        """Asked for again where it was not listed: it may have been put between two pages of the listing."""
        if self._ledger.holds(key):
            return True
        if self._ledger.found(key):
            return False
        try:
            self._ledger.add([self._workers.call(self._repository.sink.stat, key)])
        except ObjectMissing:
            return False
        return True

    def _segments(self, entry: SnapshotEntry) -> "array[int] | None":
        """The chunks of each segment of the snapshot's table; None if a segment is gone."""
        chunks = array("I")
        whole = True
        for segment in entry.catalogue.segments:
            count = self._chunks(segment)
            if count is None:
                key = layout.pack_key(segment.pack)
                problem = f"gone or damaged: snapshot {_short(entry)} needs its segments"
                self._findings.add(key, problem, gone=not self._ledger.holds(key))
                whole = False
            else:
                chunks.append(count)
        return chunks if whole else None

    def _chunks(self, segment: SegmentId) -> int | None:
        held = self._ledger.segments(segment.pack)
        return None if held is None else held.get(segment.ordinal)

    def _recipes(self, entry: SnapshotEntry, chunks: "array[int]") -> None:
        try:
            sealer = self._workers.call(self._sealers, entry.sealed.session)
            for record in entry.sealed.open_manifest(sealer, self._repository.id).streams:
                for extent in decode_recipe(record.recipe):
                    if extent.segment >= len(chunks) or extent.first + extent.chunks > chunks[extent.segment]:
                        raise Malformed(f"the recipe of {record.name} asks for chunks that are not there")
        except Malformed as error:
            self._findings.add(layout.snapshot_key(entry.id), str(error))
        except (DamagedObject, MissingObject) as error:
            self._findings.error(error)


def _short(entry: SnapshotEntry) -> str:
    return entry.id.hex()[:8]
