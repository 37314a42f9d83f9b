"""A domain of an open repository: its keys, as far as the access reaches, and where its objects are."""

from functools import cached_property

from penstock.api.errors import RoleForbids
from penstock.api.sink import Sink
from penstock.format.grants import MadeDomain
from penstock.format.keys import DomainKeys, VerifyingKey
from penstock.format.sealing import Sealer
from penstock.format.trust import Role
from penstock.repository.layout import DomainLayout
from penstock.repository.trust.access import Access
from penstock.repository.trust.log import OwnerLog

__all__ = ["Domain"]


class Domain:
    """The writers that deduplicate against one another, and all that they stored.

    `at` says where its objects are, `scope` binds what is sealed and signed to it.
    """

    def __init__(self, sink: Sink, access: Access, log: OwnerLog, made: MadeDomain, keys: DomainKeys) -> None:
        self.sink = sink
        self.access = access
        self.log = log
        self.made = made
        self.keys = keys
        self.id = made.domain
        self.label = made.label
        self.at = DomainLayout(made.domain)
        self.scope = keys.scope

    @cached_property
    def layout_sealer(self) -> Sealer:
        """Opens what says where things are: heads, places of segments, segment tables."""
        return Sealer(self.keys.layout_key)

    @cached_property
    def id_sealer(self) -> Sealer:
        """Opens ids and hooks of chunks; raises `RoleForbids` for a maintainer, who must not know them."""
        if self.keys.secret is None:
            raise RoleForbids(f"a {self.access.role} key cannot look at chunks")
        return Sealer(self.keys.id_key)

    @property
    def knows_chunks(self) -> bool:
        """Whether this access can look at ids of chunks."""
        return self.keys.secret is not None

    def require_may_store(self, name: str) -> None:
        """Raise `RoleForbids` unless this access was granted to store backups of that name here."""
        if not self.log.may_store(self.access.key, self.id, name):
            raise RoleForbids(
                f"this key was not granted to store a backup named {name}",
                hint="Choose another name, or ask the owner for a key that may: penstock key list shows the names.",
            )

    def writer(self, key: bytes) -> VerifyingKey | None:
        """What verifies what a writer of this domain, or the owner, signed; None for any other key."""
        return self.log.signer(key, (Role.WRITER,), self.id)

    def signer(self, key: bytes) -> VerifyingKey | None:
        """As `writer`, and for maintainers too."""
        return self.log.signer(key, (Role.WRITER, Role.MAINTAINER), self.id)

    def keeper(self, key: bytes) -> VerifyingKey | None:
        """What verifies what a maintainer or the owner signed; None for any other key."""
        return self.log.signer(key, (Role.MAINTAINER,))
