"""Listings, and what is read of the objects that they name: on threads, so that a stop ends every wait for a sink."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future
from itertools import islice
from typing import TypeVar

from penstock.api.errors import ObjectMissing
from penstock.api.models import ObjectInfo
from penstock.api.sink import Sink
from penstock.repository import layout
from penstock.repository.pool import Workers

__all__ = ["find_packs", "listed", "read_all"]

#: Sinks list in pages of about so many objects, each of which takes a request.
_PAGE = 1000

T = TypeVar("T")


def listed(workers: Workers, sink: Sink, prefix: str) -> Iterator[ObjectInfo]:
    """What `Sink.list` gives."""
    objects = workers.call(lambda: iter(sink.list(prefix)))  # which may take the first request already
    while page := workers.call(lambda: list(islice(objects, _PAGE))):
        yield from page


def read_all(
    workers: Workers, read: Callable[[ObjectInfo], T], objects: Iterable[ObjectInfo], *, most: int
) -> Iterator[T]:
    """What `read` gives for each object, in order.

    As many are under way as there are threads, or fewer: their sizes are at most `most` bytes together, but for a
    single one that is larger.
    """
    waiting: deque[tuple[int, Future[T]]] = deque()
    size = 0
    try:
        for info in objects:
            while waiting and (len(waiting) > workers.count or size + info.size > most):
                done, future = waiting.popleft()
                yield workers.result(future)
                size -= done
            waiting.append((info.size, workers.submit(read, info)))
            size += info.size
        while waiting:
            _, future = waiting.popleft()
            yield workers.result(future)
    finally:
        for _, future in waiting:
            future.cancel()


def find_packs(workers: Workers, sink: Sink, packs: Collection[bytes]) -> tuple[dict[bytes, int], list[bytes]]:
    """The sizes in bytes of those of `packs` that are there, and those that are gone.

    In about as few requests as it takes: packs are asked for one by one, or looked for in a listing of all of them,
    which is given up when it has taken more requests than asking would.
    """
    wanted = {layout.pack_key(pack): pack for pack in packs}
    sizes: dict[bytes, int] = {}
    if len(wanted) > workers.count:
        for number, info in enumerate(listed(workers, sink, layout.PACKS)):
            if number >= _PAGE * len(packs):
                break
            pack = wanted.pop(info.key, None)
            if pack is not None:
                sizes[pack] = info.size
                if not wanted:
                    break
    gone = []
    for pack, size in workers.map(lambda one: (wanted[one], _size(sink, one)), sorted(wanted)):
        if size is None:
            gone.append(pack)
        else:
            sizes[pack] = size
    return sizes, gone


def _size(sink: Sink, key: str) -> int | None:
    try:
        return sink.stat(key).size
    except ObjectMissing:
        return None
