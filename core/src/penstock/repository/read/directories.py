"""Directories of packs, read from the repository."""

from dataclasses import dataclass

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing
from penstock.format.encoding import Malformed
from penstock.format.index import PackSummary, summarize
from penstock.format.pack import MAGIC, TRAILER_BYTES, Directory, decode_trailer, open_directory
from penstock.repository import layout
from penstock.repository.repository import Repository

__all__ = ["TAIL", "PackEnd", "read_directory", "read_end", "read_pack_end"]

#: The directory of a full pack fits into so many bytes almost always; if not, a second read follows.
TAIL = 768 * 1024


@dataclass(frozen=True, slots=True)
class PackEnd:
    """A pack's directory, where it begins, and the bytes that were read to find it: those from `start` to the end."""

    directory: Directory
    offset: int
    length: int
    start: int
    tail: memoryview


def read_directory(repository: Repository, pack: bytes, offset: int, length: int) -> Directory:
    """Read the directory whose place is known; raises `DamagedObject`, `MissingObject`."""
    key = layout.pack_key(pack)
    try:
        sealed = repository.sink.get(key, start=offset, length=length)
        return open_directory(sealed, repository.index_sealer, repository.id, pack)
    except ObjectMissing:
        raise MissingObject(key, "the pack is gone") from None
    except Malformed as error:
        raise DamagedObject(key, f"directory: {error}") from None


def read_pack_end(repository: Repository, pack: bytes, size: int | None = None) -> tuple[Directory, PackSummary]:
    """Find and read the directory from the pack's end; raises `DamagedObject`, `MissingObject`.

    One request for a pack whose `size` in bytes is known, otherwise two.
    """
    if size is None:
        key = layout.pack_key(pack)
        try:
            size = repository.sink.stat(key).size
        except ObjectMissing:
            raise MissingObject(key, "the pack is gone") from None
    end = read_end(repository, pack, size, TAIL)
    return end.directory, summarize(end.directory, size, end.offset, end.length)


def read_end(repository: Repository, pack: bytes, size: int, most: int) -> PackEnd:
    """Read the last `most` bytes of a pack of `size` bytes, or all of it, and open its directory.

    Raises `DamagedObject`, `MissingObject`.
    """
    key = layout.pack_key(pack)
    try:
        start = max(0, size - most)
        tail = memoryview(repository.sink.get(key, start=start, length=size - start))
        if len(tail) != size - start or size < len(MAGIC) + TRAILER_BYTES:
            raise Malformed("it is truncated")
        if not start and tail[: len(MAGIC)] != MAGIC:
            raise Malformed("not a pack: wrong magic bytes")
        length = decode_trailer(tail[-TRAILER_BYTES:], size)
        offset = size - TRAILER_BYTES - length
        sealed: bytes | memoryview
        if offset >= start:
            sealed = tail[offset - start : offset - start + length]
        else:
            sealed = repository.sink.get(key, start=offset, length=length)
        directory = open_directory(sealed, repository.index_sealer, repository.id, pack)
        last = directory.segments[-1] if directory.segments else None
        if (last.offset + last.sealed_length if last else len(MAGIC)) != offset:
            raise Malformed("its segments do not end where the directory begins")
    except ObjectMissing:
        raise MissingObject(key, "the pack is gone") from None
    except Malformed as error:
        raise DamagedObject(key, str(error)) from None
    return PackEnd(directory, offset, length, start, tail)
