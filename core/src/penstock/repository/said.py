"""What owners, maintainers and writers say of the objects of a domain: read from whoever may say it, and put."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from penstock.api.errors import DamagedObject, ObjectMissing
from penstock.api.models import ObjectInfo
from penstock.format.encoding import Malformed, new_id
from penstock.format.keys import VerifyingKey
from penstock.format.notice import Deletion, Mark, Notice, Tombstone, decode_notice, encode_notice
from penstock.format.times import as_text
from penstock.repository import layout
from penstock.repository.domain import Domain
from penstock.repository.fetching import fetch
from penstock.repository.pool import Workers
from penstock.repository.read.listing import listed
from penstock.repository.repository import put_new

__all__ = ["OnStranger", "Said", "is_said", "put_said", "read_said", "refuse_unreadable"]

OnStranger = Callable[[DamagedObject], object]
T = TypeVar("T", Notice, Tombstone, Deletion, Mark)


@dataclass(frozen=True, slots=True)
class Said(Generic[T]):
    """One of these objects: its id, whose it is, when the store wrote it ("" if it does not say), and what it says."""

    name: bytes
    signer: bytes
    written: str
    content: T

    @property
    def order(self) -> tuple[str, bytes]:
        """What decides on the order in which they apply.

        Not what one says alone: one that claims to be of the last year could never be taken back.
        """
        return min(self.content.made, self.written or self.content.made), self.name


def read_said(
    domain: Domain,
    workers: Workers,
    prefix: str,
    kind: type[T],
    signer: Callable[[bytes], VerifyingKey | None],
    on_stranger: OnStranger | None,
) -> Iterator[Said[T]]:
    """Each of the objects under `prefix` that is of this kind and by somebody whose key `signer` gives.

    `on_stranger` is told of the others; those of a revoked key are left out without a word.
    """

    def read(info: ObjectInfo) -> Said[T] | DamagedObject | None:
        return _read(domain, info, kind, signer)

    for found in workers.map(read, listed(workers, domain.sink, prefix)):
        if isinstance(found, DamagedObject):
            if on_stranger is not None:
                on_stranger(found)
        elif found is not None:
            yield found


def refuse_unreadable(hint: str, *prefixes: str) -> OnStranger:
    """An `on_stranger` that raises what it is told of objects under these prefixes, with this hint.

    But for those whose names Penstock never gives: these said nothing.
    """

    def refuse(error: DamagedObject) -> None:
        try:
            layout.id_of(error.key)
        except Malformed:
            return
        if error.key.startswith(prefixes):
            raise DamagedObject(error.key, error.reason, hint=hint)

    return refuse


def is_said(domain: Domain, key: str, kind: type[T], signer: Callable[[bytes], VerifyingKey | None]) -> bool:
    """Whether the object is there, of this kind, and by somebody whose key `signer` gives."""
    return isinstance(_read(domain, ObjectInfo(key, 0), kind, signer), Said)


def _read(
    domain: Domain, info: ObjectInfo, kind: type[T], signer: Callable[[bytes], VerifyingKey | None]
) -> Said[T] | DamagedObject | None:
    try:
        sealed = decode_notice(layout.id_of(info.key), fetch(domain.sink, info.key))
        key = signer(sealed.signer)
        if key is None:
            raise Malformed("its signer may not say so")
        content = sealed.open(kind, key, domain.layout_sealer, domain.scope)
        if domain.log.revoked(sealed.signer):
            return None  # nobody's damage: it was said while the key was good, or has no effect
        return Said(sealed.name, sealed.signer, as_text(info.modified) if info.modified else "", content)
    except ObjectMissing:
        return None
    except Malformed as error:
        return DamagedObject(info.key, str(error))


def put_said(domain: Domain, content: Notice | Tombstone | Deletion | Mark, name: bytes | None = None) -> bytes:
    """Say it with the key at hand; returns the id of the object, which is a new one unless it is given."""
    name = name or new_id()
    folders = {
        Notice: domain.at.notice_key,
        Tombstone: domain.at.tombstone_key,
        Deletion: domain.at.deletion_key,
        Mark: domain.at.mark_key,
    }
    data = encode_notice(
        name,
        content,
        signer=domain.access.signing,
        key=domain.access.key,
        layout_sealer=domain.layout_sealer,
        scope=domain.scope,
    )
    put_new(domain.sink, folders[type(content)](name), data)
    return name
