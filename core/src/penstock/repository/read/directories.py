"""Directories of packs, read from the repository."""

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing
from penstock.format.encoding import Malformed
from penstock.format.index import PackSummary, summarize
from penstock.format.pack import MAGIC, TRAILER_BYTES, Directory, decode_trailer, open_directory
from penstock.repository import layout
from penstock.repository.repository import Repository

__all__ = ["read_directory", "read_pack_end"]

#: The directory of a full pack fits into this almost always; if not, a second read follows.
_TAIL = 768 * 1024


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
    """Find and read the directory from the pack's end; raises `DamagedObject`, `MissingObject`."""
    key = layout.pack_key(pack)
    try:
        if size is None:
            size = repository.sink.stat(key).size
        start = max(0, size - _TAIL)
        tail = memoryview(repository.sink.get(key, start=start, length=size - start))
        if len(tail) != size - start or size < len(MAGIC) + TRAILER_BYTES:
            raise Malformed("it is truncated")
        if not start and tail[: len(MAGIC)] != MAGIC:
            raise Malformed("it does not begin like a pack")
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
    return directory, summarize(directory, size, offset, length)
