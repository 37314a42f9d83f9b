"""Fetching small objects whole: never more bytes than their kind may have, whoever put them there."""

from penstock.api.sink import Sink
from penstock.format.encoding import Malformed
from penstock.repository import layout

__all__ = ["fetch", "require_size"]


def fetch(sink: Sink, key: str) -> bytes:
    """All bytes of an object; raises `Malformed` if there are more than its kind may have, and what the sink raises."""
    limit = layout.limit_of(key)
    data = sink.get(key, start=0, length=limit + 1)
    size = len(data)
    if size > limit:
        # The error keeps this frame, and with it all its bytes, until Python's collector comes.
        del data
    require_size(key, size)
    return data


def require_size(key: str, size: int) -> None:
    """Raise `Malformed` if an object of `size` bytes is larger than its kind may be."""
    if size > layout.limit_of(key):
        raise Malformed("larger than any object of its kind")
