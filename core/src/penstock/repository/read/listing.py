"""Listings, and what is read of the objects that they name: on threads, so that a stop ends every wait for a sink."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from itertools import islice
from typing import TypeVar

from penstock.api.errors import ObjectMissing
from penstock.api.models import ObjectInfo
from penstock.api.sink import Sink
from penstock.format.encoding import Malformed
from penstock.repository import layout
from penstock.repository.domain import Domain
from penstock.repository.pool import Workers
from penstock.repository.temporary import PackSizes

__all__ = ["find_packs", "identified", "in_pages", "listed", "pages", "read_all", "sizes_in"]

#: Sinks list in pages of about so many objects, each of which takes a request.
_PAGE = 1000

T = TypeVar("T")


def listed(workers: Workers, sink: Sink, prefix: str) -> Iterator[ObjectInfo]:
    """What `Sink.list` gives."""
    objects = workers.call(lambda: iter(sink.list(prefix)))  # which may take the first request already
    yield from in_pages(workers, objects)


def identified(workers: Workers, sink: Sink, prefix: str) -> Iterator[tuple[bytes, ObjectInfo]]:
    """The objects under a prefix that are named by an id, with it; `check` tells of the others."""
    for info in listed(workers, sink, prefix):
        with suppress(Malformed):
            yield layout.id_of(info.key), info


def in_pages(workers: Workers, each: Iterator[T]) -> Iterator[T]:
    """The same, made in a thread: it asks a sink."""
    while page := workers.call(lambda: list(islice(each, _PAGE))):
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


def pages(objects: Iterable[ObjectInfo]) -> Iterator[list[ObjectInfo]]:
    """The objects, so many at a time as take one request."""
    iterator = iter(objects)
    while page := list(islice(iterator, _PAGE)):
        yield page


def sizes_in(page: Iterable[ObjectInfo]) -> Iterator[tuple[bytes, int]]:
    """The ids and sizes of those that may be packs, by their names."""
    for info in page:
        with suppress(Malformed):
            yield layout.id_of(info.key), info.size


def find_packs(workers: Workers, domain: Domain, packs: PackSizes) -> None:
    """Find the sizes of `packs`: those that are gone are missing there afterwards.

    In about as few requests as it takes: packs are asked for one by one, or looked for in a listing of all of them,
    which is given up when it has taken more requests than asking would.
    """
    if packs.count > workers.count:
        for number, page in enumerate(pages(listed(workers, domain.sink, domain.at.packs))):
            if number >= packs.count:
                break
            packs.met(sizes_in(page))
            if next(packs.missing(), None) is None:
                return
    for pack, size in workers.map(lambda one: (one, _size(domain.sink, domain.at.pack_key(one))), packs.missing()):
        if size is not None:
            packs.met([(pack, size)])


def _size(sink: Sink, key: str) -> int | None:
    try:
        return sink.stat(key).size
    except ObjectMissing:
        return None
