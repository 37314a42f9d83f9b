"""What a host remembers of the last snapshot of a backup: the streams that the next one is compared with.

In the folder of the domain's cache: `past/<tag of the backup's name>/<run>/`, with a file for each writer, of frames of
streams and of rows of the segment table, and `meta`, which is written last. It holds no secret and no content, and can
be deleted at any time: the night after stores whole chunks where it would have stored records. Nothing is believed
but what its keyed digests confirm.
"""

import os
import shutil
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

from penstock.format.encoding import (
    ID_BYTES,
    Malformed,
    decode_record,
    digest_from_hex,
    encode_record,
    id_from_hex,
    integer,
    whole,
)
from penstock.format.head import Base
from penstock.format.part import PartRef, decode_refs, encode_refs
from penstock.repository.known.frames import Frame, FrameKey, read_piece, write_piece

__all__ = ["Past", "PastRow", "PastStream", "Recorder", "Remembered", "forget_run", "open_past", "write_past"]

_META = "meta"
_ROW = struct.Struct("<Q16s32sI16sH")
_META_PLACE = (1 << 40, 0)
#: Rows have this in the place of a stream's number.
_ROWS = 1 << 41
#: Runs that left their folder behind are gone after so many seconds.
_STALE = 2 * 86400.0
#: Hashes of records take a tenth of what they are of at most, and are left out where the disk has less than this left.
_SHARE = 10
_LEAST = 1024 * 1024
_SPARE = 512 * 1024 * 1024
#: Frames from one look at the disk to the next.
_LOOK = 16


class PastRow(NamedTuple):
    """A row of the segment table, as far as a writer needs it.

    With the key that signed the pack, and the sessions whose data keys seal its segments.
    """

    number: int
    pack: bytes
    pin: bytes
    segments: int
    writer: bytes
    sessions: bytes

    def each_session(self) -> list[bytes]:
        """Their ids."""
        return [self.sessions[at : at + ID_BYTES] for at in range(0, len(self.sessions), ID_BYTES)]

    def encode(self) -> bytes:
        """Reversed by `decode`."""
        head = _ROW.pack(self.number, self.pack, self.pin, self.segments, self.writer, len(self.sessions) // ID_BYTES)
        return head + self.sessions

    @classmethod
    def decode(cls, data: bytes) -> "Iterator[PastRow]":
        """Rows one behind the other, of bytes whose digest was right."""
        at = 0
        while at < len(data):
            number, pack, pin, segments, writer, count = _ROW.unpack_from(data, at)
            at += _ROW.size
            end = at + count * ID_BYTES
            yield cls(number, pack, pin, segments, writer, data[at:end])
            at = end


@dataclass(frozen=True, slots=True)
class Remembered:
    """Where the frames of a stored stream are: a writer's file, the offset in it, and how many they are."""

    file: str
    offset: int
    frames: int


@dataclass(frozen=True, slots=True)
class PastStream:
    """A stream of a past snapshot. `recipe` says, for each layer, in which of its parts the recipe is."""

    number: int
    remembered: Remembered
    recipe: tuple[tuple[int, ...], ...]
    #: Runs of bytes of bases that its recipe needs, counted in all layers.
    runs: int


@dataclass(frozen=True, slots=True)
class Past:
    """The last snapshot of a backup, as its writer's host remembers it.

    `layers` are the parts with recipes, its own first, then those of the bases that they go back to. `next_row` is more
    than the number of any row that was ever used along the chain. `streams` are by the tags of their names.
    """

    snapshot: bytes
    digest: bytes
    run: bytes
    layers: tuple[Base, ...]
    next_row: int
    streams: Mapping[bytes, PastStream] = field(repr=False)
    folder: Path
    key: FrameKey = field(repr=False)
    _rows: tuple[Remembered, ...]

    def rows(self) -> Iterator[PastRow]:
        """The rows of its segment table; several writers may have noted the same. Without those that are damaged."""
        for where in self._rows:
            for data in self._pieces(where, _ROWS):
                yield from PastRow.decode(data)

    def frames(self, stream: PastStream) -> Iterator[Frame]:
        """The frames of a stream, up to the first that is not what was written."""
        with suppress(Malformed):
            yield from map(Frame.decode, self._pieces(stream.remembered, stream.number))

    def _pieces(self, where: Remembered, what: int) -> Iterator[bytes]:
        with suppress(OSError, Malformed), (self.folder / where.file).open("rb") as file:
            file.seek(where.offset)
            for number in range(where.frames):
                yield read_piece(file, self.key, what, number)


def _folder(cache: Path, tag: bytes) -> Path:
    return cache / "past" / tag.hex()


def open_past(cache: Path, tag: bytes, chunk_key: bytes) -> Past | None:
    """The newest past of a backup whose name has this tag, below a cache's folder; None without any, or if damaged.

    What runs left long ago that were not committed on this host is deleted.
    """
    found = None
    with suppress(OSError):
        _tidy(_folder(cache, tag))
        metas = [(one.stat().st_mtime_ns, one) for one in _folder(cache, tag).glob(f"*/{_META}")]
        for _, meta in sorted(metas, reverse=True):
            with suppress(OSError, Malformed, ValueError):
                found = _decode(meta, chunk_key)
                break
    return found


def _decode(meta: Path, chunk_key: bytes) -> Past:
    run = id_from_hex(meta.parent.name)
    key = FrameKey(chunk_key, run)
    data = meta.read_bytes()
    digest, data = data[:16], data[16:]
    if key.digest([data], *_META_PLACE) != digest:
        raise Malformed("what is remembered of a snapshot is damaged")
    header, body = decode_record(data)
    refs = iter(decode_refs(body))
    layers = tuple(
        Base(id_from_hex(snapshot), id_from_hex(session), tuple(next(refs) for _ in range(whole(count))))
        for snapshot, session, count in header["layers"]
    )
    streams = {
        id_from_hex(tag): PastStream(
            whole(number),
            _where(remembered),
            tuple(tuple(map(whole, numbers)) for numbers in recipe),
            whole(runs),
        )
        for tag, (number, remembered, recipe, runs) in header["streams"].items()
    }
    return Past(
        snapshot=id_from_hex(header["snapshot"]),
        digest=digest_from_hex(header["digest"]),
        run=run,
        layers=layers,
        next_row=integer(header, "next_row"),
        streams=streams,
        folder=meta.parent,
        key=key,
        _rows=tuple(map(_where, header["rows"])),
    )


def _where(value: Any) -> Remembered:
    file, offset, frames = value
    return Remembered(str(file), whole(offset), whole(frames))


def write_past(
    cache: Path,
    tag: bytes,
    run: bytes,
    chunk_key: bytes,
    *,
    snapshot: bytes,
    digest: bytes,
    layers: Iterable[Base],
    streams: Mapping[bytes, PastStream],
    rows: Iterable[Remembered],
    next_row: int,
) -> None:
    """Write what makes a run's frames the past of the next, and delete older ones; raises `OSError`.

    Streams and rows whose frames other hosts have are left out; with no other streams, nothing is remembered.
    `streams` are by the tags of their names.
    """
    folder = _folder(cache, tag) / run.hex()
    here = {name: one for name, one in streams.items() if (folder / one.remembered.file).exists()}
    if not here:
        return
    kept = tuple(layers)
    header: dict[str, Any] = {
        "digest": digest.hex(),
        "layers": [[layer.snapshot.hex(), layer.session.hex(), len(layer.parts)] for layer in kept],
        "next_row": next_row,
        "rows": [astuple(one) for one in rows if (folder / one.file).exists()],
        "snapshot": snapshot.hex(),
        "streams": {
            name.hex(): [
                one.number,
                astuple(one.remembered),
                [list(numbers) for numbers in one.recipe],
                one.runs,
            ]
            for name, one in here.items()
        },
    }
    refs: list[PartRef] = [ref for layer in kept for ref in layer.parts]
    data = encode_record(header, [encode_refs(refs)])
    new = folder / f"{_META}.new"
    new.write_bytes(FrameKey(chunk_key, run).digest([data], *_META_PLACE) + data)
    new.rename(folder / _META)
    _tidy(_folder(cache, tag), folder)


def _tidy(folder: Path, newest: Path | None = None) -> None:
    """Delete what runs left that ended without a commit here, and all but the newest of those that ended with one."""
    for one in folder.iterdir():
        if (one / _META).exists():
            gone = newest is not None and one != newest
        else:
            # It may still go on, or be committed by another host.
            gone = time.time() - one.stat().st_mtime > _STALE
        if gone:
            shutil.rmtree(one, ignore_errors=True)


def forget_run(cache: Path, tag: bytes, run: bytes) -> None:
    """Delete what a run left that was not committed."""
    shutil.rmtree(_folder(cache, tag) / run.hex(), ignore_errors=True)


class Recorder:
    """Writes the frames of one writer's streams. It never fails: what cannot be written is not remembered.

    `limit` is what it may take in bytes; None leaves it to the size of the dump and the room on the disk. `on_trouble`
    is told why nothing more is remembered.
    """

    def __init__(
        self,
        cache: Path | None,
        tag: bytes,
        run: bytes,
        name: str,
        chunk_key: bytes,
        *,
        limit: int | None,
        on_trouble: Callable[[str], object],
    ) -> None:
        self.name = name
        self._key = FrameKey(chunk_key, run)
        self._limit = limit
        self._on_trouble = on_trouble
        self._file: IO[bytes] | None = None
        self._size = self._passed = 0
        self._full = False
        self._what = self._frames = self._offset = 0
        if cache is None or limit == 0:
            return
        self.folder = _folder(cache, tag) / run.hex()
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self.folder / name
            self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
        except OSError as error:
            self._fail(error)

    @property
    def takes_records(self) -> bool:
        """Whether there is room for hashes of records, and not only for chunks and recipes."""
        if self._file is None:
            return False
        if self._limit is not None:
            return not self._full
        return self._size < self._passed // _SHARE + _LEAST

    def begin(self, stream: int) -> None:
        """The frames of another stream follow."""
        self._begin(stream)

    def _begin(self, what: int) -> None:
        self._what, self._frames, self._offset = what, 0, self._size

    def add(self, frame: Frame) -> None:
        """The next frame of the stream."""
        if self._file is None or self._full:
            return
        self._passed += int(frame.chunk_lengths.sum())
        try:
            if self._limit is None and not self._frames % _LOOK and shutil.disk_usage(self.folder).free < _SPARE:
                raise OSError(28, "too little room is left on the disk")
            room = self._limit - self._size if self._limit is not None else None
            size = write_piece(self._file, frame.encode(), self._key, self._what, self._frames, room=room)
        except OSError as error:
            self._fail(error)
            return
        if not size:
            # What is there helps the next run as far as it goes.
            self._full = True
            return
        self._size += size
        self._frames += 1

    def end(self) -> Remembered | None:
        """Where the frames of the stream are; None if they are not remembered."""
        return Remembered(self.name, self._offset, self._frames) if self._file is not None else None

    def begin_rows(self) -> None:
        """Rows of the segment table follow, which streams cannot do without: `limit` does not count them."""
        self._begin(_ROWS)

    def add_rows(self, rows: Iterable[PastRow]) -> None:
        """More of them."""
        if self._file is None:
            return
        try:
            data = b"".join(row.encode() for row in rows)
            self._size += write_piece(self._file, [data], self._key, self._what, self._frames)
        except OSError as error:
            self._fail(error)
            return
        self._frames += 1

    def close(self) -> None:
        """Nothing more follows."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                self._file = None
                self._fail(error)
            self._file = None

    def _fail(self, error: OSError) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None
        with suppress(OSError):
            (self.folder / self.name).unlink()
        self._on_trouble(f"this run is not remembered: {error}; the next one stores more than it would")
