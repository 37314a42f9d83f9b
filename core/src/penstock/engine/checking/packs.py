"""The packs in a check: their ends, and, where data is read, every byte."""

from array import array
from collections.abc import Callable, Iterable
from typing import NamedTuple

from blake3 import blake3

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing
from penstock.api.models import ObjectInfo
from penstock.engine.checking.findings import Findings
from penstock.engine.checking.ledger import Ledger
from penstock.engine.reporting import Reporter
from penstock.format.encoding import Malformed
from penstock.format.pack import Place
from penstock.format.sealing import Sealer
from penstock.format.trust import Role
from penstock.repository import layout
from penstock.repository.domain import Domain
from penstock.repository.notices import Notices
from penstock.repository.pool import Workers
from penstock.repository.read.copies import carried
from penstock.repository.read.ends import PLACES_TAIL, TAIL, PackEnd, read_end
from penstock.repository.read.once import Once
from penstock.repository.read.verify import verify_pack
from penstock.repository.sessions import data_sealer, read_session

__all__ = ["Packs"]

#: Data keys that are kept.
_SEALERS = 4096


class _Pack(NamedTuple):
    """What a check keeps of a pack: its pin, and the number and plain length of each segment that was born in it.

    `copies`: the same of each pack whose segments it has copies of, as far as the places that it carries prove them.
    """

    pin: bytes
    held: "array[int]"
    copies: "dict[bytes, tuple[bytes, int, array[int]]]"
    segments: int
    sessions: frozenset[bytes]

    @classmethod
    def of(cls, end: PackEnd, whole: "frozenset[Place] | None" = None) -> "_Pack":
        """With `whole`, as if the pack had no other segments than these."""
        places = end.places.places
        there = frozenset(places) if whole is None else whole
        held = _numbered(place for place in places if place.id.pack == end.places.pack and place in there)
        copies = {origin: found for origin in end.ends.origins if (found := _copies(end, origin, there)) is not None}
        return cls(end.pin, held, copies, len(places), frozenset(place.session for place in there))


def _copies(end: PackEnd, origin: bytes, there: "frozenset[Place]") -> "tuple[bytes, int, array[int]] | None":
    """The pin of the carried places, how many segments they have, and those of which this pack says what they say."""
    try:
        found = carried(end.domain, end.places, origin)
    except Malformed:
        return None
    same = there.intersection(found.places)
    return found.pin, found.segments, _numbered(place for place in found.places if place in same)


def _numbered(places: Iterable[Place]) -> "array[int]":
    return array("I", [value for place in places for value in (place.id.ordinal, place.plain_length)])


class Packs:
    """The packs of a domain."""

    def __init__(
        self,
        domain: Domain,
        notices: Notices,
        workers: Workers,
        ledger: Ledger,
        findings: Findings,
        reporter: Reporter,
    ) -> None:
        self._domain = domain
        self._deleted = notices.deleted
        self._workers = workers
        self._ledger = ledger
        self._findings = findings
        self._reporter = reporter
        self.sealers: Once[bytes, Sealer] = Once(lambda session: data_sealer(domain, session), kept=_SEALERS)
        self.count = 0
        self.segments = 0
        #: Bytes.
        self.read = 0
        #: Packs that are damaged, and why.
        self.damaged: dict[bytes, str] = {}

    def examine(
        self,
        workers: Workers,
        *,
        read_data: bool,
        only: Callable[[bytes], bool] = lambda _: True,
        on_read: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Look at every pack, or `only` at some of them, on the threads of `workers`.

        `on_read` hears of each that was read, by its key.
        """

        def look(info: ObjectInfo) -> tuple[ObjectInfo, _Pack | DamagedObject | MissingObject]:
            try:
                return info, self._pack(info, read_data=read_data)
            except Malformed as error:
                return info, DamagedObject(info.key, str(error))
            except (DamagedObject, MissingObject) as error:
                return info, error

        found = (
            info
            for info in self._ledger.under(self._domain.at.packs)
            if not self._ledger.found(info.key) and only(layout.id_of(info.key))
        )
        for info, result in workers.map(look, found):
            self.count += 1
            pack = layout.id_of(info.key)
            if isinstance(result, _Pack):
                self._note(pack, result)
            else:
                self._findings.error(result)
                if isinstance(result, DamagedObject):
                    self.damaged[pack] = result.reason
            if read_data:
                self._reporter.progress(info.key, info.size)
                self._reporter.ended(info.key, info.size)
                self.read += info.size
                on_read(info.key)

    def replaced(self, end: PackEnd) -> None:
        """Note that a pack was put anew, whole, with this end."""
        self.damaged.pop(end.places.pack, None)
        self._note(end.places.pack, _Pack.of(end))

    def salvage(self, pack: bytes) -> None:
        """Note what a restore can still read of a damaged pack: the segments that are as its places say."""
        key = self._domain.at.pack_key(pack)
        try:
            found = self._workers.call(self._whole_segments, pack, key)
        except (DamagedObject, MissingObject, ObjectMissing, Malformed):
            return  # nothing: its places cannot be read
        self._note(pack, found)

    def _whole_segments(self, pack: bytes, key: str) -> _Pack:
        # As a restore does, which asks neither for the signature nor for the ids.
        size = self._domain.sink.stat(key).size
        end = read_end(self._domain, pack, size, PLACES_TAIL, with_ids=False)
        data = memoryview(self._domain.sink.get(key, start=0, length=end.end_of_segments))

        def is_whole(place: Place) -> bool:
            sealed = data[place.offset : place.offset + place.sealed_length]
            return blake3(sealed).digest() == place.digest

        return _Pack.of(end, frozenset(filter(is_whole, end.places.places)))

    def _pack(self, info: ObjectInfo, *, read_data: bool) -> _Pack:
        pack = layout.id_of(info.key)
        if read_data:
            return _Pack.of(verify_pack(self._domain, pack, info.size, self._sealer))
        end = read_end(self._domain, pack, info.size, TAIL)
        end.require_signer()
        if self._domain.knows_chunks:
            end.chunks()
        return _Pack.of(end)

    def _sealer(self, session: bytes) -> Sealer | None:
        """The key of a segment, where it is at hand; what is wrong with a session is a finding about the session."""
        if self._domain.access.role is not Role.OWNER:
            return None
        try:
            return self.sealers(session)
        except (DamagedObject, MissingObject):
            return None

    def _note(self, pack: bytes, found: _Pack) -> None:
        self._ledger.add_pack(pack, found.pin, found.segments, found.held)
        for origin, (pin, segments, held) in found.copies.items():
            self._ledger.add_copies(origin, pin, segments, pack, held)
        self.segments += found.segments
        for session in found.sessions:
            key = self._domain.at.session_key(session)
            # A prune deletes packs last: what it has not come to yet, or is locked, is nobody's loss.
            if key not in self._deleted and self._ledger.judged(key) is None:
                # It may have begun after the sessions were listed.
                try:
                    self._ledger.judge(key, self._workers.call(read_session, self._domain, session).writer)
                except (DamagedObject, MissingObject) as error:
                    self._ledger.judge(key, None)
                    self._findings.error(error)
