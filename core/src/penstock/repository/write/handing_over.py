"""What another process or machine needs to write streams of a session, and how it gets there."""

from dataclasses import dataclass, field
from datetime import datetime

from penstock.api.errors import WrongKey
from penstock.format.encoding import Malformed, decode_json, encode_json, id_from_hex, integer, text
from penstock.format.keys import SECRET_BYTES
from penstock.format.sealing import Sealer, message
from penstock.repository.domain import Domain

__all__ = ["HandedOver"]


@dataclass(frozen=True, slots=True)
class HandedOver:
    """What another process or machine needs to write streams of a session. Secret: it holds the data key."""

    session: bytes
    number: int
    started: str
    data_key: bytes = field(repr=False)
    #: Nothing is used that the store wrote earlier.
    renewed: datetime | None
    #: The snapshot that its streams are compared with, if there is one, and the first row of its segment table.
    past: bytes | None
    first_row: int

    def sealed(self, domain: Domain) -> bytes:
        """It, for whoever opened the same domain with the same key file; tells nobody else anything."""
        content = {
            "data_key": self.data_key.hex(),
            "first_row": self.first_row,
            "number": self.number,
            "past": self.past.hex() if self.past else None,
            "renewed": self.renewed.isoformat() if self.renewed else None,
            "session": self.session.hex(),
            "started": self.started,
        }
        return _sealer(domain).seal(encode_json(content), message("handed over", domain.scope))

    @classmethod
    def opened(cls, sealed: bytes, domain: Domain) -> "HandedOver":
        """Reverse `sealed`; raises `WrongKey` where another key opened the domain."""
        try:
            content = decode_json(_sealer(domain).open(sealed, message("handed over", domain.scope)))
        except Malformed:
            raise WrongKey(
                "the key at hand is not the one that began this backup",
                hint="All workers of a backup need the same key file as the host that began it.",
            ) from None
        past, renewed, key = (content.get(name) for name in ("past", "renewed", "data_key"))
        data_key = bytes.fromhex(str(key))
        assert len(data_key) == SECRET_BYTES
        return cls(
            id_from_hex(content.get("session")),
            integer(content, "number"),
            text(content, "started"),
            data_key,
            renewed=datetime.fromisoformat(renewed) if renewed else None,
            past=id_from_hex(past) if past else None,
            first_row=integer(content, "first_row"),
        )


def _sealer(domain: Domain) -> Sealer:
    return Sealer(domain.access.signing.own_key(domain.scope))
