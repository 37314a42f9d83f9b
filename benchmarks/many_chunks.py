"""A repository that stands for as many chunks as one likes, without their bytes: FOLDER/large.

    python -m benchmarks.many_chunks FOLDER CHUNKS NIGHTS

How many chunks a segment has, and segments a pack, comes from a small repository that is made first, of a SQLite
database. The large one has heads, parts and ends of packs as that has them; segments are holes in files.
FOLDER/maintainer.key opens it.
"""

import argparse
import json
import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from penstock.api import Secret
from penstock.engine import backup
from penstock.engine.forget import forget
from penstock.format.encoding import new_id
from penstock.format.head import MAX_REFS, Head, encode_head
from penstock.format.keys import PassphraseCost, new_secret
from penstock.format.pack import MAGIC, Place, Places, SegmentId, pin_of, seal_places, sign_trailer, zeroes_for
from penstock.format.part import Kind, Row, encode_rows
from penstock.format.sealing import Sealer
from penstock.format.times import as_text
from penstock.repository import Repository
from penstock.repository.domain import Domain
from penstock.repository.pool import Workers
from penstock.repository.read.ends import TAIL, PackEnd, read_end
from penstock.repository.read.listing import listed, sizes_in
from penstock.repository.snapshots import list_snapshots
from penstock.repository.trust.keyring import add_maintainer
from penstock.repository.write.parts import ENOUGH, Piece, put_parts, referred
from penstock_filesystem.sink import FilesystemSettings, FilesystemSink
from penstock_sqlite.settings import SqliteSettings
from penstock_sqlite.source import SqliteSource

_MIB = 1024 * 1024
_PASSPHRASE = Secret("correct horse battery staple")
_CHEAP = PassphraseCost(iterations=2, memory_kib=19456, lanes=1)
#: Rows of the small database, some 90 MB.
_ROWS = 500_000
#: Of all chunks, what the first night has; the others have the rest.
_FIRST = 0.8
#: Of the segments that a night needs, what the next does not.
_DROPPED = 0.004
#: Rows of a table in one section.
_ROWS_A_SECTION = 1024


@dataclass(frozen=True, slots=True)
class Proportions:
    """Of the packs of a real repository: chunks in a segment, segments in a pack, their lengths in bytes."""

    chunks: float
    segments: int
    sealed: int
    plain: int
    #: Of the ids of a pack, as they are stored.
    ids: int


def _small(folder: Path) -> Proportions:
    """As a repository of a SQLite database has them."""
    database = folder / "small.sqlite3"
    chance = random.Random(1)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, level INTEGER, token TEXT, message TEXT)")
        words = [f"{chance.getrandbits(24):x}" for _ in range(2000)]
        rows = (
            (chance.randrange(100), chance.randbytes(20).hex(), " ".join(chance.choices(words, k=12)))
            for _ in range(_ROWS)
        )
        connection.executemany("INSERT INTO events (level, token, message) VALUES (?, ?, ?)", rows)
    repository = _create(folder / "small")
    backup(
        repository,
        SqliteSource(SqliteSettings(path=database)),
        name="small",
        source_type="sqlite",
        cache_dir=folder / "cache",
        memory=128 * _MIB,
        compression="auto",
        listener=lambda _: None,
    )
    ends = [end for end in _ends(repository.domain) if end.size > 12 * _MIB]
    places = [place for end in ends for place in end.places.places]
    return Proportions(
        chunks=sum(end.chunks().total for end in ends) / len(places),
        segments=round(median(len(end.places.places) for end in ends)),
        sealed=round(median(place.sealed_length for place in places)),
        plain=round(median(place.plain_length for place in places)),
        ids=round(median(end.trailer.ids_length for end in ends)),
    )


def _ends(domain: Domain) -> list[PackEnd]:
    with Workers(1, "benchmark", domain.sink.stop) as workers:
        return [read_end(domain, *one, TAIL) for one in sizes_in(listed(workers, domain.sink, domain.at.packs))]


def _create(folder: Path) -> Repository:
    folder.mkdir()
    return Repository.create(FilesystemSink(FilesystemSettings(path=folder)), passphrase=_PASSPHRASE, cost=_CHEAP)


class Large:
    """A repository of packs without data, and of snapshots that need them."""

    def __init__(self, folder: Path, of: Proportions, chunks: int, nights: int) -> None:
        self._folder = folder
        self._of = of
        self._chance = random.Random(2)
        self.repository = _create(folder)
        self._domain = self.repository.domain
        self.chunks = 0
        #: Rows of all tables.
        self.rows = 0
        #: Their ids, pins, numbers of segments, and the segments that the next snapshot needs.
        self.packs: list[tuple[bytes, bytes, int, set[int]]] = []
        for night in range(nights):
            share = _FIRST if night == 0 else (1 - _FIRST) / max(1, nights - 1)
            self._drop()
            self._store(share * chunks)
            self._commit(night)

    def _store(self, chunks: float) -> None:
        left = chunks
        while left > 0:
            segments = min(self._of.segments, max(1, round(left / self._of.chunks)))
            left -= segments * self._of.chunks
            self.chunks += round(segments * self._of.chunks)
            self.packs.append(self._pack(segments))

    def _drop(self) -> None:
        for *_, used in self.packs:
            used -= {one for one in used if self._chance.random() < _DROPPED}

    def _pack(self, segments: int) -> tuple[bytes, bytes, int, set[int]]:
        domain, of, pack = self._domain, self._of, new_id()
        session, start = bytes(16), len(MAGIC)
        places = tuple(
            Place(
                SegmentId(pack, one), session, start + one * of.sealed, of.sealed, of.plain, self._chance.randbytes(32)
            )
            for one in range(segments)
        )
        sealed = seal_places(Places(pack, places), domain.layout_sealer, domain.scope)
        ids = bytes(of.ids)
        trailer = sign_trailer(domain.access.signing, domain.access.key, domain.scope, pack, ids, sealed)
        end = start + segments * of.sealed
        end += zeroes_for(end, len(ids) + len(sealed)) + len(ids)
        path = self._folder / domain.at.pack_key(pack)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(MAGIC)
            file.seek(end)
            file.write(sealed + trailer)
        return pack, pin_of(sealed), segments, set(range(segments))

    def _commit(self, night: int) -> None:
        domain = self._domain
        sealer = Sealer(new_secret())
        parts = []
        for pieces in self._pieces():
            parts += [part.ref for part in put_parts(domain, pieces, sealer, domain.sink.put)]
        stamp = as_text(datetime(2026, 1, 1, 2, tzinfo=UTC) + timedelta(days=night))
        head = Head(
            snapshot=new_id(),
            backup="large",
            source="sqlite",
            started=stamp,
            finished=stamp,
            host="db1",
            program="penstock",
            parent=None,
            size=sum(len(used) for *_, used in self.packs) * self._of.plain,
            streams=1,
            stored=0,
            sequence=night + 1,
            previous=None,
            seen={},
            index=(),
            parts=tuple(referred(domain, parts, sealer, MAX_REFS, domain.sink.put)),
            manifest=len(parts),
        )
        data = encode_head(
            head,
            session=new_id(),
            writer=domain.access.key,
            scope=domain.scope,
            layout_sealer=domain.layout_sealer,
            signer=domain.access.signing,
        )
        domain.sink.put(domain.at.snapshot_key(head.snapshot), data)

    def _pieces(self) -> Iterator[list[Piece]]:
        """The sections of the segment table, as many at a time as a writer puts into a part."""
        rows = [
            Row(number, pack, pin, segments, frozenset(used))
            for number, (pack, pin, segments, used) in enumerate(self.packs)
            if used
        ]
        self.rows += len(rows)
        sections = [encode_rows(rows[at : at + _ROWS_A_SECTION]) for at in range(0, len(rows), _ROWS_A_SECTION)]
        at_once = max(1, ENOUGH // max(map(len, sections)))
        for at in range(0, len(sections), at_once):
            yield [Piece(Kind.TABLE, section) for section in sections[at : at + at_once]]

    def forget_every_second(self) -> None:
        """But not the last."""
        forget(self.repository, list_snapshots(self.repository)[-2::-2])


def _maintainer(repository: Repository, path: Path) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(add_maintainer(repository, "operations").to_key_file())


def main() -> None:
    """Make both repositories, and print what they have as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("chunks", type=int)
    parser.add_argument("nights", type=int)
    said = parser.parse_args()
    of = _small(said.folder)
    large = Large(said.folder / "large", of, said.chunks, said.nights)
    large.forget_every_second()
    _maintainer(large.repository, said.folder / "maintainer.key")
    made = {"chunks": large.chunks, "packs": len(large.packs), "rows": large.rows, "proportions": asdict(of)}
    print(json.dumps(made))


if __name__ == "__main__":
    main()
