"""Check: every object against what was written, and against the objects that rely on it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from blake3 import blake3

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing, RepositoryError
from penstock.api.models import ObjectInfo
from penstock.engine.reporting import Listener, Reporter, reporting
from penstock.format.documents import decode_document
from penstock.format.encoding import ID_BYTES, Malformed
from penstock.format.ids import chunk_ids
from penstock.format.index import open_index
from penstock.format.pack import MAGIC, Directory, SegmentId, open_segment
from penstock.format.recipe import decode_recipe
from penstock.format.sealing import Sealer
from penstock.format.trust import Role
from penstock.repository import Repository, SnapshotEntry, layout
from penstock.repository.known.cache import Cache
from penstock.repository.read.directories import read_pack_end
from penstock.repository.sessions import data_sealer, read_session
from penstock.repository.snapshots import list_snapshots, open_manifest

__all__ = ["CheckReport", "Finding", "check", "examine_documents"]

_THREADS = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """One object that is not as it should be: `gone`, or else damaged."""

    key: str
    problem: str
    gone: bool = False


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was checked, and what was found. `read` in bytes of packs; no findings means that all is well."""

    findings: tuple[Finding, ...]
    snapshots: int
    packs: int
    segments: int
    sessions: int
    index: int
    keys: int
    read: int
    data_read: bool


@dataclass(slots=True)
class _Findings:
    """Findings, each object once."""

    reporter: Reporter | None = None
    found: dict[str, Finding] = field(default_factory=dict)

    def add(self, key: str, problem: str, *, gone: bool = False) -> None:
        if key not in self.found:
            self.found[key] = Finding(key, problem, gone)
            if self.reporter is not None:
                self.reporter.finding(key, problem)

    def error(self, error: RepositoryError) -> None:
        assert isinstance(error, (DamagedObject, MissingObject))
        self.add(error.key, error.reason, gone=isinstance(error, MissingObject))


def check(repository: Repository, *, read_data: bool, cache_dir: Path | None, listener: Listener) -> CheckReport:
    """Check the whole repository.

    Every role can: signatures, seals, directories, and that whatever is referred to is there. With `read_data` every
    byte of every pack is read and compared with its digest, and, where the owner's key is at hand, opened and
    compared with the ids of its chunks. Damage is a finding, never an error.
    """
    with reporting(listener, "check", repository.sink.location, repository.sink) as reporter:
        findings = _Findings(reporter)
        documents = _Documents(repository, findings)
        snapshots = documents.examine(cache_dir)
        packs = _Packs(repository, findings, reporter, read_data=read_data, sessions=documents.sessions)
        packs.examine()
        for entry in snapshots:
            _examine_snapshot(repository, entry, packs.segments, findings)
        report = CheckReport(
            findings=tuple(findings.found.values()),
            snapshots=len(snapshots),
            packs=packs.count,
            segments=len(packs.segments),
            sessions=len(documents.sessions),
            index=documents.indexes,
            keys=repository.grants.length,
            read=packs.read,
            data_read=read_data,
        )
        figures = {"findings": len(report.findings), "packs": report.packs, "read": report.read}
        reporter.completed("checked", figures)
    return report


def examine_documents(repository: Repository, cache_dir: Path | None) -> list[Finding]:
    """Check all objects but the packs: what a restore looks at before it begins."""
    findings = _Findings()
    _Documents(repository, findings).examine(cache_dir)
    return list(findings.found.values())


class _Documents:
    """Everything but packs: slots, sessions, index objects, snapshots, and what this host has seen before.

    penstock.json and the log of grants were verified when the repository was opened.
    """

    def __init__(self, repository: Repository, findings: _Findings) -> None:
        self._repository = repository
        self._findings = findings
        self._present: set[str] = set()
        self.sessions: set[bytes] = set()
        self.indexes = 0

    def examine(self, cache_dir: Path | None) -> list[SnapshotEntry]:
        """The snapshots that are whole."""
        if cache_dir is None:
            return self._examine()
        with Cache(cache_dir, self._repository.id, self._repository.sink.location, on_trouble=_ignore) as cache:
            seen = cache.seen()
            snapshots = self._examine()
            self._vanished(cache, seen)
        return snapshots

    def _examine(self) -> list[SnapshotEntry]:
        # A backup may end meanwhile. Its snapshot comes last, so snapshots are read first: what they need is there.
        snapshots = list_snapshots(self._repository, self._findings.error)
        self._slots()
        self._present.update(layout.grant_key(number + 1) for number in range(self._repository.grants.length))
        self._each(layout.SESSIONS, self._session)
        self._each(layout.INDEX, self._index)
        self._present.update(info.key for info in self._repository.sink.list(layout.SNAPSHOTS))
        for entry in snapshots:
            self._references(entry)
        return snapshots

    def _each(self, prefix: str, examine: Callable[[ObjectInfo], None]) -> None:
        for info in self._repository.sink.list(prefix):
            self._present.add(info.key)
            try:
                examine(info)
            except Malformed as error:
                self._findings.add(info.key, str(error))
            except (DamagedObject, MissingObject) as error:
                self._findings.error(error)

    def _slots(self) -> None:
        repository = self._repository
        for grantee in repository.grants.active(Role.SLOT):
            key = layout.slot_key(grantee.grant.key)
            try:
                decode_document(key, repository.sink.get(key)).verified(repository.access.owner.signing)
            except ObjectMissing:
                self._findings.add(key, "the passphrase slot is gone", gone=True)
            except Malformed as error:
                self._findings.add(key, str(error))

    def _session(self, info: ObjectInfo) -> None:
        session = layout.id_of(info.key)
        read_session(self._repository, session)
        self.sessions.add(session)

    def _index(self, info: ObjectInfo) -> None:
        data = self._repository.sink.get(info.key)
        open_index(data, self._repository.index_sealer, self._repository.id, layout.id_of(info.key))
        self.indexes += 1

    def _references(self, entry: SnapshotEntry) -> None:
        name = entry.id.hex()[:8]
        wanted = {layout.session_key(session): "its session" for session in entry.catalogue.sessions}
        wanted |= {layout.index_key(index): "an index object of its run" for index in entry.catalogue.index}
        if entry.catalogue.parent is not None:
            wanted[layout.snapshot_key(entry.catalogue.parent)] = "its parent"
        for key, what in wanted.items():
            if key not in self._present:
                self._findings.add(key, f"gone: snapshot {name} names it as {what}", gone=True)

    def _vanished(self, cache: Cache, seen: set[str]) -> None:
        """What this host had seen before and is gone: the only trace that a deleted latest snapshot leaves."""
        packs = {info.key for info in self._repository.sink.list(layout.PACKS)}
        for key in sorted(seen - self._present - packs):
            self._findings.add(key, "gone: this host has seen it before", gone=True)
        cache.saw((self._present | packs) - seen - set(self._findings.found))


class _Packs:
    """The packs: their directories, and with `read_data` every byte."""

    def __init__(
        self,
        repository: Repository,
        findings: _Findings,
        reporter: Reporter,
        *,
        read_data: bool,
        sessions: set[bytes],
    ) -> None:
        self._repository = repository
        self._findings = findings
        self._reporter = reporter
        self._read_data = read_data
        self._sessions = sessions
        self._lost: set[bytes] = set()
        self._sealers: dict[bytes, Sealer | None] = {}
        #: Chunks of every segment that is there.
        self.segments: dict[SegmentId, int] = {}
        self.count = 0
        self.read = 0

    def examine(self) -> None:
        """Look at every pack."""
        infos = list(self._repository.sink.list(layout.PACKS))
        self._reporter.total = sum(info.size for info in infos) if self._read_data else None
        with ThreadPoolExecutor(_THREADS, "penstock-check") as pool:
            for info, result in zip(infos, pool.map(self._examine, infos), strict=True):
                self.count += 1
                if isinstance(result, Directory):
                    self._note(result)
                else:
                    self._findings.add(info.key, result)
                if self._read_data:
                    self._reporter.progress(info.key, info.size)
                    self._reporter.base += info.size
                    self.read += info.size

    def _note(self, directory: Directory) -> None:
        for place in directory.segments:
            self.segments[place.id] = place.chunks
        for session in {place.session for place in directory.segments} - self._sessions - self._lost:
            try:
                # It may have begun after the sessions were looked at.
                read_session(self._repository, session)
                self._sessions.add(session)
            except (DamagedObject, MissingObject) as error:
                self._lost.add(session)
                self._findings.error(error)

    def _examine(self, info: ObjectInfo) -> Directory | str:
        """On a thread: the directory, or what is wrong."""
        try:
            directory, _ = read_pack_end(self._repository, layout.id_of(info.key), info.size)
            if self._read_data:
                self._verify(info.key, directory)
        except Malformed as error:
            return str(error)
        except (DamagedObject, MissingObject) as error:
            return error.reason
        return directory

    def _verify(self, key: str, directory: Directory) -> None:
        """Every byte in front of the directory: raises `Malformed`."""
        sink = self._repository.sink
        if sink.get(key, length=len(MAGIC)) != MAGIC:
            raise Malformed("it does not begin like a pack")
        digest = blake3()
        first_chunk = 0
        for place in directory.segments:
            sealed = sink.get(key, start=place.offset, length=place.sealed_length)
            digest.update(sealed)
            self._open(directory, first_chunk, sealed, place.id, place.session, place.chunks)
            first_chunk += place.chunks
        if digest.digest() != directory.digest:
            raise Malformed("its segments do not have the digest that was recorded for them")

    def _open(
        self, directory: Directory, first: int, sealed: bytes, segment: SegmentId, session: bytes, chunks: int
    ) -> None:
        """Where the key is at hand: open the segment and compare its chunks with their ids."""
        sealer = self._sealer(session)
        if sealer is None:
            return
        data = memoryview(open_segment(sealed, sealer, self._repository.id, segment))
        lengths = directory.lengths[first : first + chunks]
        if sum(lengths) != len(data):
            raise Malformed(f"segment {segment.ordinal} has another length than its directory says")
        ids = chunk_ids(self._repository.access.index.id_key, data, lengths)
        if b"".join(ids) != directory.ids[first * ID_BYTES : (first + chunks) * ID_BYTES]:
            raise Malformed(f"segment {segment.ordinal} has other chunks than its directory says")

    def _sealer(self, session: bytes) -> Sealer | None:
        if self._repository.access.role is not Role.OWNER or session not in self._sessions:
            return None
        if session not in self._sealers:
            self._sealers[session] = data_sealer(self._repository, session)
        return self._sealers[session]


def _examine_snapshot(
    repository: Repository, entry: SnapshotEntry, segments: dict[SegmentId, int], findings: _Findings
) -> None:
    """Whether all that a snapshot refers to is there; with the owner's key, recipes included."""
    name = f"snapshot {entry.id.hex()[:8]}"
    table = entry.catalogue.segments
    whole = True
    for segment in table:
        if segment not in segments:
            findings.add(layout.pack_key(segment.pack), f"gone or damaged: {name} needs its segments")
            whole = False
    if repository.access.role is not Role.OWNER or not whole:
        return
    key = layout.snapshot_key(entry.id)
    try:
        for record in open_manifest(repository, entry).streams:
            for extent in decode_recipe(record.recipe):
                if extent.segment >= len(table) or extent.first + extent.chunks > segments[table[extent.segment]]:
                    raise Malformed(f"the recipe of {record.name} asks for chunks that are not there")
    except Malformed as error:
        findings.add(key, str(error))
    except (DamagedObject, MissingObject) as error:
        findings.error(error)


def _ignore(trouble: str) -> None:
    """A check goes on without the cache."""
    del trouble
