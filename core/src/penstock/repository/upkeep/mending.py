"""Objects that are damaged or gone, taken whole from a replica: verified there before anything is put here."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from penstock.api.errors import DamagedObject, MissingObject, ObjectLocked, ObjectMissing
from penstock.api.sink import Sink
from penstock.format.keys import VerifyingKey
from penstock.format.notice import Mark, Notice
from penstock.format.part import PartRef
from penstock.repository.domain import Domain
from penstock.repository.read.ends import PackEnd
from penstock.repository.upkeep.copying import Copier

__all__ = ["Mender", "Replica"]

#: Told which object was put, and where it was taken from.
OnMended = Callable[[str, Sink], object]


class Replica(NamedTuple):
    """Where whole objects may be, and what copies them here."""

    sink: Sink
    copier: Copier


class Mender:
    """Takes objects of the domain `target` from the first of the `replicas` that has them whole.

    An object that is there but damaged is replaced by one atomic PUT: whenever this breaks off, nothing is lost that
    was whole. For any number of threads; a pack is in memory as a whole. `warn` is told of what cannot be replaced.
    Each method tells whether it was put; and raises what the sinks raise.
    """

    def __init__(
        self, target: Domain, replicas: Sequence[Replica], on_mended: OnMended, warn: Callable[[str], object]
    ) -> None:
        self._at = target.at
        # With the keys and the log of the original: the replica's own log may lag behind.
        self._sources = [
            (Domain(one.sink, target.access, target.log, target.made, target.keys), one.copier) for one in replicas
        ]
        self._on_mended = on_mended
        self._warn = warn

    @property
    def sources(self) -> list[Domain]:
        """The domain as each replica has it."""
        return [domain for domain, _ in self._sources]

    def part(self, ref: PartRef) -> bool:
        """A part, as a head or another part pins it."""
        return self._take(self._at.part_key(ref.part), lambda one, by: by.part(one, ref, replace=True))

    def session(self, session: bytes, pinned: bytes) -> bool:
        """A session, as a snapshot pins it."""
        key = self._at.session_key(session)
        return self._take(key, lambda one, by: by.session(one, session, pinned, replace=True))

    def index(self, index: bytes) -> bool:
        """An index object, by its signature."""
        return self._take(self._at.index_key(index), lambda one, by: by.index(one, index, replace=True))

    def head(self, snapshot: bytes, digest: bytes) -> bool:
        """The head with this digest."""
        return self._take(self._at.snapshot_key(snapshot), lambda one, by: by.head(one, snapshot, digest, replace=True))

    def said(self, key: str, kind: type[Notice | Mark], signer: Callable[[bytes], VerifyingKey | None]) -> bool:
        """A notice or a mark, by somebody whose key `signer` gives."""
        return self._take(key, lambda one, by: by.said(one, key, kind, signer, replace=True))

    def pack(self, pack: bytes, pinned: tuple[bytes, int]) -> PackEnd | None:
        """The pack with this pin and so many segments; returns its end, or None if no replica has it whole."""
        key = self._at.pack_key(pack)
        found: list[PackEnd] = []

        def copy(domain: Domain, copier: Copier) -> None:
            try:
                size = domain.sink.stat(key).size
            except ObjectMissing:
                raise MissingObject(key, "the pack is gone") from None
            found.append(copier.pack(domain, pack, size, pinned, replace=True))

        return found[0] if self._take(key, copy) else None

    def _take(self, key: str, copy: Callable[[Domain, Copier], object]) -> bool:
        for domain, copier in self._sources:
            try:
                copy(domain, copier)
            except (DamagedObject, MissingObject):
                continue
            except ObjectLocked as error:
                self._warn(f"not replaced: {error}")
                return False
            self._on_mended(key, domain.sink)
            return True
        return False
