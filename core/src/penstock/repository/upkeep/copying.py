"""Copies of objects, byte for byte: each is verified before it is put, so that no damage spreads."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

from blake3 import blake3

from penstock.api.errors import DamagedObject, MissingObject, ObjectExists, ObjectMissing, SinkDenied, SinkError
from penstock.api.plugin import Capability
from penstock.api.sink import Sink
from penstock.format.documents import decode_document
from penstock.format.encoding import Malformed
from penstock.format.index import decode_index
from penstock.format.keys import VerifyingKey
from penstock.format.notice import Mark, Notice, decode_notice
from penstock.format.pack import Place
from penstock.format.part import PartRef
from penstock.format.session import SessionDocument
from penstock.repository import layout
from penstock.repository.domain import Domain
from penstock.repository.fetching import fetch
from penstock.repository.read.ends import PackEnd
from penstock.repository.read.verify import verify_pack

__all__ = ["Copier"]


class Copier:
    """Copies objects of one repository into `target`, and counts them. For any number of threads.

    Each method raises `DamagedObject` or `MissingObject` for an object that is not what was written, and puts nothing
    then; and what the sinks raise. With `replace`, what else is under the key is replaced by one PUT, or deleted
    first where the credential may not replace. `on_copied` hears of
    each object, and of its size in bytes.
    """

    def __init__(self, source: Sink, target: Sink, on_copied: Callable[[str, int], None]) -> None:
        self._source = source
        self._target = target
        self._on_copied = on_copied
        self._conditional = Capability.CONDITIONAL_PUT in target.capabilities()
        self._lock = Lock()
        self.objects = 0
        #: Of these objects.
        self.bytes = 0

    def document(self, key: str, owner: VerifyingKey, digests: set[bytes] | None = None, *, replace: bool) -> None:
        """A document that the owner signed: with one of these digests, if any are given."""

        def verify(data: bytes) -> None:
            decode_document(key, data).verified(owner)
            if digests is not None and blake3(data).digest() not in digests:
                raise Malformed("not what it was when the owner's log was read")

        self._small(key, verify, replace=replace)

    def session(self, domain: Domain, session: bytes, pinned: bytes, *, replace: bool) -> None:
        """A session, as a snapshot pins it."""
        key = domain.at.session_key(session)

        def verify(data: bytes) -> None:
            if blake3(data).digest() != pinned:
                raise Malformed("not the session that the snapshot pins")
            document = decode_document(key, data)
            claimed = SessionDocument.from_json(document.claimed)
            document.verified(_known(domain.writer(claimed.writer)))
            if claimed.session != session:
                raise Malformed("it belongs to another session")

        self._small(key, verify, replace=replace)

    def part(self, domain: Domain, ref: PartRef, *, replace: bool) -> None:
        """A part, as a head or another part pins it."""
        self._small(domain.at.part_key(ref.part), ref.verify, replace=replace)

    def index(self, domain: Domain, index: bytes, *, replace: bool) -> None:
        """An index object, by its signature."""

        def verify(data: bytes) -> None:
            sealed = decode_index(index, data)
            sealed.verify(_known(domain.signer(sealed.signer)), domain.scope)

        self._small(domain.at.index_key(index), verify, replace=replace)

    def head(self, domain: Domain, snapshot: bytes, digest: bytes, *, replace: bool) -> None:
        """A head that was verified already: the one with this digest."""

        def verify(data: bytes) -> None:
            if blake3(data).digest() != digest:
                raise Malformed("not the head that was there a moment ago")

        self._small(domain.at.snapshot_key(snapshot), verify, replace=replace)

    def said(
        self,
        domain: Domain,
        key: str,
        kind: type[Notice | Mark],
        signer: Callable[[bytes], VerifyingKey | None],
        *,
        replace: bool = False,
    ) -> None:
        """A notice or a mark by somebody whose key `signer` gives."""

        def verify(data: bytes) -> None:
            sealed = decode_notice(layout.id_of(key), data)
            sealed.open(kind, _known(signer(sealed.signer)), domain.layout_sealer, domain.scope)

        self._small(key, verify, replace=replace)

    def pack(
        self, domain: Domain, pack: bytes, size: int, pinned: tuple[bytes, int], *, replace: bool = False
    ) -> PackEnd:
        """A pack of `size` bytes, if it is the one with this pin and so many segments: every byte is verified.

        Returns its end.
        """
        key = domain.at.pack_key(pack)
        with _reading(key):
            end = verify_pack(domain, pack, size, lambda _: None)
        if (end.pin, len(end.places.places)) != pinned:
            raise DamagedObject(key, "not the pack that the snapshot pins")
        self._put(key, end.tail, replace=replace)
        return end

    def carrier(self, domain: Domain, pack: bytes, size: int, needed: list[Place]) -> None:
        """A pack that carries copies of segments of another: those `needed` are what that pack's places say."""
        key = domain.at.pack_key(pack)
        with _reading(key):
            end = verify_pack(domain, pack, size, lambda _: None)
        for place in needed:
            if blake3(end.tail[place.offset : place.offset + place.sealed_length]).digest() != place.digest:
                raise DamagedObject(key, f"segment {place.id.ordinal}: not the bytes that the snapshot pins")
        self._put(key, end.tail, replace=False)

    def _small(self, key: str, verify: Callable[[bytes], None], *, replace: bool) -> None:
        with _reading(key):
            data = fetch(self._source, key)
            verify(data)
        self._put(key, data, replace=replace)

    def _put(self, key: str, data: bytes | memoryview, *, replace: bool) -> None:
        try:
            self._target.put(key, data, if_absent=self._conditional)
        except ObjectExists:
            if not replace:
                return  # by another run, since the target was listed
            self._replace(key, data)
        with self._lock:
            self.objects += 1
            self.bytes += len(data)
            self._on_copied(key, self.bytes)

    def _replace(self, key: str, data: bytes | memoryview) -> None:
        try:
            self._target.put(key, data)
        except SinkDenied:
            # The policies that Penstock prints let nobody replace an object, and maintainers delete.
            self._target.delete(key)
            self._target.put(key, data, if_absent=self._conditional)


@contextmanager
def _reading(key: str) -> Iterator[None]:
    """What goes wrong with one object is its own fault, unless to try again could help: nothing else waits for it."""
    try:
        yield
    except ObjectMissing:
        raise MissingObject(key, "gone") from None
    except Malformed as error:
        raise DamagedObject(key, str(error)) from None
    except SinkError as error:
        if error.retryable:
            raise
        raise DamagedObject(key, f"it cannot be read: {error.reason}") from error


def _known(key: VerifyingKey | None) -> VerifyingKey:
    if key is None:
        raise Malformed("its signer was never granted to write here")
    return key
