"""Index objects: the packs and the hooks of each. Only writers need them; they can be rebuilt from the packs.

record header: {"packs": [[id, size, directory offset, directory length, chunks, hooks, [session, …]], …]}
record body:   the hooks of the packs, one pack after another, 16 bytes each
"""

from dataclasses import dataclass

from penstock.format.codec import RAW
from penstock.format.encoding import ID_BYTES, Malformed, decode_record, encode_record, id_from_hex, ids_from_hex, whole
from penstock.format.ids import hooks
from penstock.format.pack import Directory
from penstock.format.sealing import Sealer, binding

__all__ = ["PackSummary", "open_index", "seal_index", "summarize"]


@dataclass(frozen=True, slots=True)
class PackSummary:
    """An index entry for one pack. Offsets and sizes in bytes; `chunks` is a count."""

    pack: bytes
    size: int
    directory_offset: int
    directory_length: int
    chunks: int
    hooks: tuple[bytes, ...]
    #: The sessions whose data keys seal its segments.
    sessions: tuple[bytes, ...]


def summarize(directory: Directory, size: int, directory_offset: int, directory_length: int) -> PackSummary:
    """The summary of a pack of `size` bytes with this directory."""
    found = tuple(dict.fromkeys(hooks(directory.ids)))
    sessions = dict.fromkeys(place.session for place in directory.segments)
    count = len(directory.lengths)
    return PackSummary(directory.pack, size, directory_offset, directory_length, count, found, tuple(sessions))


def seal_index(index: bytes, packs: list[PackSummary], sealer: Sealer, repository: bytes) -> bytes:
    """Seal the index object `index` under the index key."""
    rows = [
        [
            pack.pack.hex(),
            pack.size,
            pack.directory_offset,
            pack.directory_length,
            pack.chunks,
            len(pack.hooks),
            [session.hex() for session in pack.sessions],
        ]
        for pack in packs
    ]
    plain = encode_record({"packs": rows}, [hook for pack in packs for hook in pack.hooks])
    return sealer.seal(bytes((RAW,)) + plain, binding("index", repository, index))


def open_index(sealed: bytes, sealer: Sealer, repository: bytes, index: bytes) -> list[PackSummary]:
    """The summaries in an index object; raises `Malformed`."""
    plain = memoryview(sealer.open(sealed, binding("index", repository, index)))
    if not plain or plain[0] != RAW:
        raise Malformed("unknown codec")
    header, body = decode_record(plain[1:])
    rows = header.get("packs")
    if not isinstance(rows, list):
        raise Malformed("the index is incomplete")
    packs = []
    start = 0
    try:
        for pack, size, offset, length, chunks, hooks, sessions in rows:
            end = start + whole(hooks) * ID_BYTES
            if end > len(body):
                raise Malformed("the number of hooks differs from the index header")
            found = tuple(bytes(body[at : at + ID_BYTES]) for at in range(start, end, ID_BYTES))
            owners = ids_from_hex(sessions)
            packs.append(
                PackSummary(id_from_hex(pack), whole(size), whole(offset), whole(length), whole(chunks), found, owners)
            )
            start = end
    except (TypeError, ValueError) as error:
        if isinstance(error, Malformed):
            raise
        raise Malformed("the index is incomplete") from None
    if start != len(body):
        raise Malformed("the number of hooks differs from the index header")
    return packs
