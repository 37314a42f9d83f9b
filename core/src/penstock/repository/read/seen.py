"""What this host has seen of a domain before, from its local cache: the only trace of a deleted latest snapshot.

The one place where reading meets the cache. No restore needs it.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from penstock.format.encoding import Malformed
from penstock.repository import layout
from penstock.repository.domain import Domain
from penstock.repository.known.cache import Cache
from penstock.repository.known.cache_file import cache_file

__all__ = ["open_cache", "snapshots_seen"]


def snapshots_seen(folder: Path, domain: Domain) -> frozenset[bytes]:
    """The ids of all snapshots of the domain that this host has ever seen, as far as its cache can be read.

    Nothing is written, not even to make a cache or to mend one.
    """
    path = cache_file(folder, domain.scope, domain.sink.location)
    # With a log beside it, another process may be writing it. Without one, to open it as usual would leave one behind,
    # and fail in a folder that cannot be written.
    logged = path.with_name(f"{path.name}-wal").exists()
    for way in ("mode=ro", "immutable=1") if logged else ("immutable=1",):
        try:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{way}", uri=True, timeout=1)) as db:
                keys = db.execute("SELECT key FROM seen WHERE key GLOB ?", (f"{domain.at.snapshots}*",)).fetchall()
        except (sqlite3.Error, OSError):
            continue
        return frozenset(_ids(key for (key,) in keys))
    return frozenset()


def _ids(keys: Iterable[str]) -> Iterator[bytes]:
    for key in keys:
        with suppress(Malformed):
            yield layout.id_of(key)


@contextmanager
def open_cache(folder: Path | None, domain: Domain, warn: Callable[[str], None]) -> Iterator[Cache | None]:
    """The cache, for what a check takes from it and adds to it; `warn` hears why it cannot be used."""
    if folder is None:
        yield None
        return
    with Cache(folder, domain.scope, domain.sink.location, on_trouble=warn) as cache:
        yield cache
