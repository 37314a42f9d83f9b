"""Which streams of a snapshot are lost: none that a restore would still bring out whole, and each that it would not."""

from functools import lru_cache
from typing import NamedTuple

from penstock.api.errors import DamagedObject, MissingObject
from penstock.engine.checking.ledger import Ledger
from penstock.engine.repairing.needs import Condition
from penstock.format.encoding import Malformed
from penstock.format.manifest import StreamRecord
from penstock.format.sealing import Sealer
from penstock.format.trust import Role
from penstock.repository.domain import Domain
from penstock.repository.pool import Workers
from penstock.repository.read.content import Content
from penstock.repository.read.once import Once
from penstock.repository.read.reader import SnapshotReader
from penstock.repository.sessions import data_sealer
from penstock.repository.snapshots import SnapshotEntry

__all__ = ["Losses", "LostStream"]

#: Data keys that are kept.
_SEALERS = 4096
#: Pins in memory.
_PINS = 256


class LostStream(NamedTuple):
    """A stream that does not come out whole, and why; None for all of a snapshot, or for streams that nobody knows."""

    stream: str | None
    problem: str


class Losses:
    """Looks at the snapshots of a domain that lack something. Reading takes `memory` bytes at most."""

    def __init__(self, domain: Domain, ledger: Ledger, workers: Workers, memory: int) -> None:
        self._domain = domain
        self._ledger = ledger
        self._workers = workers
        self._memory = memory
        self._sealers: Once[tuple[bytes, bytes], Sealer] = Once(lambda one: data_sealer(domain, *one), kept=_SEALERS)

    def of(self, entry: SnapshotEntry, condition: Condition) -> list[LostStream]:
        """The streams that are lost, one at least. The owner's key alone tells which."""
        # What no stream needs, a restore of all of them asks for as well.
        return self._streams(entry, condition) or [LostStream(None, condition.problem)]

    def _streams(self, entry: SnapshotEntry, condition: Condition) -> list[LostStream]:
        if self._domain.access.role is not Role.OWNER:
            return []
        try:
            if condition.keys:
                # Of which run a segment is, is said nowhere but in its pack.
                return self._by_reading(entry)
            content = self._workers.call(Content, entry, lambda *session: self._sealers(session))
            try:
                return self._workers.call(self._of_content, content)
            finally:
                content.table.close()
        except (DamagedObject, MissingObject) as error:
            return [LostStream(None, str(error))]

    def _of_content(self, content: Content) -> list[LostStream]:
        pin = lru_cache(_PINS)(content.table.pin)

        def problem_of(record: StreamRecord) -> str | None:
            for extent in content.runs(record):
                assert extent.segment is not None
                segment = content.table.find(extent.segment)
                if segment.ordinal not in self._ledger.at_hand(segment.pack, *pin(segment.pack)):
                    key = self._domain.at.pack_key(segment.pack)
                    return f"{key}: segment {segment.ordinal} is gone or damaged"
            return None

        found = []
        for record in content.manifest.streams:
            try:
                problem = problem_of(record)
            except (DamagedObject, MissingObject, Malformed) as error:
                problem = str(error)
            if problem is not None:
                found.append(LostStream(record.name, problem))
        return found

    def _by_reading(self, entry: SnapshotEntry) -> list[LostStream]:
        found = []
        with SnapshotReader(entry, self._memory) as reader:
            for record in reader.manifest.streams:
                try:
                    for _ in reader.blocks(record):
                        pass
                except (DamagedObject, MissingObject) as error:
                    found.append(LostStream(record.name, str(error)))
        return found
