"""Index objects that say nothing any more: their packs are gone, another one says the same, or nobody can read them."""

from contextlib import closing, suppress
from typing import NamedTuple

from penstock.api.errors import ObjectMissing
from penstock.api.models import ObjectInfo
from penstock.format.encoding import Malformed
from penstock.format.index import IndexedPack, PackEnds, decode_index
from penstock.repository import layout
from penstock.repository.domain import Domain
from penstock.repository.fetching import fetch
from penstock.repository.pool import Workers
from penstock.repository.read.budget import RANGE
from penstock.repository.read.listing import listed, pages, read_all, sizes_in
from penstock.repository.temporary import TemporaryTables

__all__ = ["ReadIndex", "dead_indexes", "read_index"]

_SCHEMA = """
CREATE TABLE named (idx BLOB, pack BLOB, PRIMARY KEY (idx, pack)) WITHOUT ROWID;
CREATE TABLE there (pack BLOB PRIMARY KEY) WITHOUT ROWID;
"""
#: Whether an index object (the first parameter) names a pack that is there and that another (the second) does not name.
_SAYS_MORE = """
SELECT 1 FROM named JOIN there USING (pack)
WHERE idx = ? AND NOT EXISTS (SELECT 1 FROM named AS other WHERE other.idx = ? AND other.pack = named.pack) LIMIT 1
"""


class ReadIndex(NamedTuple):
    """A verified index object: where the ends of which packs are, and which others it replaces.

    With `revoked`, its writer was: nobody believes what it says of packs.
    """

    info: ObjectInfo
    id: bytes
    indexed: tuple[IndexedPack, ...]
    replaces: tuple[bytes, ...]
    revoked: bool

    @property
    def packs(self) -> list[PackEnds]:
        """Without their hooks."""
        return [one.ends for one in self.indexed]


def dead_indexes(domain: Domain, workers: Workers, doomed: set[bytes]) -> dict[bytes, ObjectInfo]:
    """Those that can be deleted; `doomed` are packs that count as gone.

    An index object is a hint, but a writer reads each pack that none names. One of a revoked writer replaces nothing.
    What cannot be read says nothing to anybody: all pass it over, and its packs can be named anew from their ends.
    """
    found: dict[bytes, ObjectInfo] = {}
    unreadable: dict[bytes, ObjectInfo] = {}

    def read_one(info: ObjectInfo) -> ReadIndex | ObjectInfo:
        return read_index(domain, info) or info

    replacing: list[tuple[bytes, tuple[bytes, ...]]] = []
    with closing(TemporaryTables(_SCHEMA)) as tables:
        objects = listed(workers, domain.sink, domain.at.index)
        for read in read_all(workers, read_one, objects, most=RANGE):
            if not isinstance(read, ReadIndex):
                with suppress(Malformed):  # what no index object can be called is none, and stays
                    unreadable[layout.id_of(read.key)] = read
                continue
            found[read.id] = read.info
            tables.change_all("INSERT OR IGNORE INTO named VALUES (?, ?)", [(read.id, one.pack) for one in read.packs])
            if read.replaces:
                replacing.append((read.id, read.replaces))
        if not found:
            return unreadable
        for page in pages(listed(workers, domain.sink, domain.at.packs)):
            there = [(pack,) for pack, _ in sizes_in(page) if pack not in doomed]
            tables.change_all("INSERT OR IGNORE INTO there VALUES (?)", there)
        dead = {index for index in found if not tables.rows(_SAYS_MORE, (index, b""))}
        for index, replaced in replacing:
            if index not in dead:
                dead |= {
                    one
                    for one in replaced
                    if one in found and one != index and not tables.rows(_SAYS_MORE, (one, index))
                }
    return unreadable | {index: found[index] for index in dead}


def read_index(domain: Domain, info: ObjectInfo) -> ReadIndex | None:
    """Read an index object; None for what is none, or is gone."""
    try:
        sealed = decode_index(layout.id_of(info.key), fetch(domain.sink, info.key))
        signer = domain.signer(sealed.signer)
        if signer is None:
            raise Malformed("its signer was never granted to write here")
        sealed.verify(signer, domain.scope)
        packs, replaces = sealed.open_packs(domain.layout_sealer, domain.scope)
    except (Malformed, ObjectMissing):
        return None  # `check` tells
    revoked = domain.log.revoked(sealed.signer)
    return ReadIndex(info, sealed.index, tuple(packs), () if revoked else replaces, revoked)
