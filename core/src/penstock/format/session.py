"""Sessions, which are writers' runs, and leases, which are their signs of life. Both are signed documents."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.format.encoding import Malformed, digest_from_hex, id_from_hex, integer, text
from penstock.format.keys import DecapsulationKey, unwrap_data_key

__all__ = ["LeaseDocument", "SessionDocument"]


@dataclass(frozen=True, slots=True)
class SessionDocument:
    """sessions/<id>: one writer's run, and its data key, wrapped for the owner.

    `log` are the digests of the newest entries of the owner's log that the writer saw: a log without them was cut.
    """

    session: bytes
    writer: bytes
    started: str
    host: str
    log: frozenset[bytes]
    wrapped: bytes = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """The document's content."""
        return {
            "data_key": self.wrapped.hex(),
            "host": self.host,
            "log": sorted(digest.hex() for digest in self.log),
            "session": self.session.hex(),
            "started": self.started,
            "writer": self.writer.hex(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "SessionDocument":
        """Raises `Malformed`."""
        log = value.get("log")
        if not isinstance(log, list):
            raise Malformed("the session does not say which log its writer saw")
        wrapped = text(value, "data_key")
        try:
            data_key = bytes.fromhex(wrapped)
        except ValueError:
            raise Malformed("the wrapped data key is not hexadecimal") from None
        if data_key.hex() != wrapped:
            raise Malformed("the wrapped data key is not in lower case")
        return cls(
            session=id_from_hex(value.get("session")),
            writer=id_from_hex(value.get("writer")),
            started=text(value, "started"),
            host=text(value, "host"),
            log=frozenset(map(digest_from_hex, log)),
            wrapped=data_key,
        )

    def unwrap(self, private: DecapsulationKey, scope: bytes) -> bytes:
        """The data key; raises `Malformed` if the entry was changed."""
        return unwrap_data_key(self.wrapped, private, scope, self.session)


@dataclass(frozen=True, slots=True)
class LeaseDocument:
    """leases/<session>-<number>: the session lived when the store wrote this object."""

    session: bytes
    number: int

    def to_json(self) -> dict[str, Any]:
        """The document's content."""
        return {"number": self.number, "session": self.session.hex()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "LeaseDocument":
        """Raises `Malformed`."""
        return cls(id_from_hex(value.get("session")), integer(value, "number"))
