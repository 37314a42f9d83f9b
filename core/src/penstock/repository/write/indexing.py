"""Index objects: written for new packs, and merged when there are many small ones."""

from collections.abc import Callable, Sequence

from penstock.format.encoding import new_id
from penstock.format.index import PackSummary, encode_index, seal_hooks
from penstock.repository.domain import Domain
from penstock.repository.known.cache import Cache

__all__ = ["HOOKS_AN_INDEX", "PACKS_AN_INDEX", "merge_indexes", "put_index", "write_index"]

#: An index object is written when its packs are so many, or have so many hooks: 512 KiB, but several times as much in
#: memory until then. One for the whole run, for most.
HOOKS_AN_INDEX = 32_768
PACKS_AN_INDEX = 512
#: Index objects of fewer packs and fewer hooks (some 12 bytes each) are small; so many small ones are merged.
_SMALL = 10_000
_MANY = 32

Put = Callable[[str, bytes], None]


def write_index(
    domain: Domain, cache: Cache, packs: Sequence[PackSummary], put: Put, replaces: Sequence[bytes] = ()
) -> bytes:
    """Put an index object for these packs, and note it in the cache; returns its id."""
    index = put_index(domain, packs, put, replaces)
    cache.add_packs(packs, index=index)
    cache.saw([domain.at.index_key(index)])
    return index


def put_index(domain: Domain, packs: Sequence[PackSummary], put: Put, replaces: Sequence[bytes] = ()) -> bytes:
    """Put an index object for these packs, on a host that remembers nothing; returns its id."""
    index = new_id()
    data = encode_index(
        index,
        [seal_hooks(pack, domain.id_sealer, domain.scope) for pack in packs],
        replaces=replaces,
        scope=domain.scope,
        signer=domain.access.key,
        layout_sealer=domain.layout_sealer,
        key=domain.access.signing,
    )
    put(domain.at.index_key(index), data)
    return index


def merge_indexes(domain: Domain, cache: Cache, put: Put) -> list[bytes]:
    """Put one index object in the place of many small ones, if there are many; returns its id.

    It takes in the smallest, as many as an index object holds. A host without a cache reads it instead of all of them.
    The small ones stay until a prune deletes them.
    """
    small = cache.small_indexes(_SMALL, PACKS_AN_INDEX // 2)
    if len(small) < _MANY:
        return []
    packs: list[PackSummary] = []
    merged: list[bytes] = []
    hooks = 0
    for index in small:
        found = cache.packs_of([index])
        hooks += sum(len(pack.hooks) for pack in found)
        if hooks > HOOKS_AN_INDEX or len(packs) + len(found) > PACKS_AN_INDEX:
            break
        packs += found
        merged.append(index)
    return [write_index(domain, cache, packs, put, replaces=merged)]
