"""Parts of a snapshot on their way: sections are gathered, sealed and put as soon as they fill a part."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from penstock.format.encoding import new_id
from penstock.format.part import (
    MAX_PLAIN,
    SECTION_OVERHEAD,
    Key,
    Kind,
    PartRef,
    encode_part,
    encode_refs,
)
from penstock.format.sealing import Sealer
from penstock.repository.domain import Domain

__all__ = ["Piece", "PutPart", "WrittenPart", "put_parts", "referred"]

#: Bytes of sections that are worth a part of their own: to seal them takes some ten times the memory.
ENOUGH = 256 * 1024

PutPart = Callable[[str, bytes], None]


@dataclass(frozen=True, slots=True)
class Piece:
    """A section that is not in a part yet; `stream` is the number of the stream whose recipe it belongs to."""

    kind: Kind
    data: bytes = field(repr=False)
    stream: int | None = None

    @property
    def size(self) -> int:
        """What it takes in a part, in bytes."""
        return SECTION_OVERHEAD + len(self.data)


@dataclass(frozen=True, slots=True)
class WrittenPart:
    """A part that is in the sink, and the streams whose recipes it holds a piece of."""

    ref: PartRef
    streams: tuple[int, ...] = ()


def put_parts(domain: Domain, pieces: Iterable[Piece], data_sealer: Sealer, put: PutPart) -> Iterator[WrittenPart]:
    """Put sections into as few parts as they fit into, those under one key together; `put` stores an object."""
    of_key: dict[Key, list[Piece]] = {}
    sizes: dict[Key, int] = {}
    for piece in pieces:
        key = piece.kind.key
        waiting = of_key.setdefault(key, [])
        sizes[key] = sizes.get(key, 0) + piece.size
        if waiting and sizes[key] > MAX_PLAIN:
            yield _put(domain, waiting, data_sealer, put)
            waiting.clear()
            sizes[key] = piece.size
        waiting.append(piece)
    for waiting in of_key.values():
        yield _put(domain, waiting, data_sealer, put)


def _put(domain: Domain, pieces: Sequence[Piece], data_sealer: Sealer, put: PutPart) -> WrittenPart:
    part, key = new_id(), pieces[0].kind.key
    sealer = data_sealer if key is Key.DATA else domain.layout_sealer
    data, ref = encode_part(
        part,
        [(piece.kind, piece.data) for piece in pieces],
        key,
        sealer,
        domain.scope,
        writer=domain.access.key,
        signer=domain.access.signing,
    )
    put(domain.at.part_key(part), data)
    streams = dict.fromkeys(piece.stream for piece in pieces if piece.stream is not None)
    return WrittenPart(ref, tuple(streams))


def referred(domain: Domain, refs: Sequence[PartRef], data_sealer: Sealer, most: int, put: PutPart) -> list[PartRef]:
    """These references, or, where there are more than `most`, references to parts that hold them."""
    if len(refs) <= most:
        return list(refs)
    at_once = (MAX_PLAIN // 2) // len(encode_refs(refs[:1]))
    pieces = [Piece(Kind.REFS, encode_refs(refs[at : at + at_once])) for at in range(0, len(refs), at_once)]
    return [part.ref for part in put_parts(domain, pieces, data_sealer, put)]
