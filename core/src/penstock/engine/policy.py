"""The least that a role needs in the store, for the store's own policies."""

from penstock.api.rights import Right, Rights
from penstock.format.trust import Role
from penstock.repository import layout
from penstock.repository.layout import DomainLayout

__all__ = ["rights_of"]

_READ = frozenset({Right.LIST, Right.READ})


def rights_of(role: Role, domain: bytes | None = None, *, locks: bool = False) -> list[Rights]:
    """What `role` needs, a writer in its domain. With `locks`, for a store that keeps objects from deletion for a time.

    Raises `ValueError` for a writer without a domain, and for a slot.
    """
    match role:
        case Role.WRITER:
            if domain is None:
                raise ValueError("a writer has a domain")
            return _writer(DomainLayout(domain), locks=locks)
        case Role.MAINTAINER:
            # Whatever a prune deletes, and what it records before.
            return [Rights("", _READ), Rights(layout.DOMAINS, frozenset({Right.CREATE, Right.DELETE}))]
        case Role.OWNER:
            return [
                Rights("", _READ | {Right.CREATE} | _locks(locks)),
                Rights(layout.SLOTS, frozenset({Right.DELETE})),
                Rights(layout.DOMAINS, frozenset({Right.DELETE})),
            ]
        case _:
            raise ValueError(f"nobody has the role {role} in a store")


def _writer(at: DomainLayout, *, locks: bool) -> list[Rights]:
    own = [at.sessions, at.packs, at.index, at.parts, at.snapshots, at.leases, at.notices]
    rights = [
        Rights(layout.CONFIG, frozenset({Right.READ}) | _locks(locks)),
        Rights(layout.GRANTS, _READ | _locks(locks)),
        Rights(at.prefix, _READ | _locks(locks)),
        *(Rights(prefix, frozenset({Right.CREATE})) for prefix in own),
    ]
    if locks:
        # A backup lengthens the locks of all that its restore will need, and passphrases are among it.
        rights.append(Rights(layout.SLOTS, frozenset({Right.LOCK})))
    return rights


def _locks(locks: bool) -> frozenset[Right]:
    return frozenset({Right.LOCK}) if locks else frozenset()
