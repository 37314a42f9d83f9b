"""The owner's log: domains, keys, what is kept of revoked ones. Each entry is a document that the owner signed.

Entries have random names, and name by digest the newest ones before them. So nothing that a stranger puts can take the
place of the next one, and two that were written at once are both in force.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from penstock.format.chunker import ChunkerParameters
from penstock.format.encoding import Malformed, digest_from_hex, id_from_hex, integer, text, texts
from penstock.format.keys import VerifyingKey
from penstock.format.trust import Role

__all__ = ["Content", "Entry", "Granted", "Kept", "MadeDomain", "Revoked", "Unknown"]


#: The fields that every entry has.
_OF_ALL = {"action", "created", "number", "previous"}


@dataclass(frozen=True, slots=True)
class MadeDomain:
    """A domain: its label, how its writers cut, and the proofs of its keys."""

    domain: bytes
    label: str
    chunker: ChunkerParameters
    layout_proof: bytes
    domain_proof: bytes


@dataclass(frozen=True, slots=True)
class Granted:
    """A role for a key. A writer's has a domain, and the backup names that it may use there, as globs."""

    key: bytes
    role: Role
    label: str
    signing: VerifyingKey | None = None
    domain: bytes | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Revoked:
    """The end of a key. Of what it signed only the snapshots in `kept` stay valid: {id: digest of the head}."""

    key: bytes
    kept: Mapping[bytes, bytes] = field(default_factory=dict)
    #: What began at this time or later is not kept, by the owner's wish. None: all that was known is kept.
    since: str | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """More snapshots of a revoked key that stay valid: those that a bucket hid, or that were left out by mistake."""

    key: bytes
    kept: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Unknown:
    """What this version does not understand, whatever its action: it counts as there, and has no effect."""

    action: str
    fields: Mapping[str, Any]


Content: TypeAlias = MadeDomain | Granted | Revoked | Kept | Unknown


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. `previous` are the digests of the newest entries that its writer saw, or of penstock.json."""

    number: int
    previous: frozenset[bytes]
    created: str
    content: Content

    def to_json(self) -> dict[str, Any]:
        """The document's content. Raises `ValueError` for what a reader would refuse, who would then find a gap."""
        action, body = _content_to_json(self.content)
        content = {
            **body,
            "action": action,
            "created": self.created,
            "number": self.number,
            "previous": sorted(digest.hex() for digest in self.previous),
        }
        if isinstance(Entry.from_json(content).content, Unknown) and not isinstance(self.content, Unknown):
            raise ValueError(f"no reader would understand this entry: {action}")  # noqa: TRY004 - not a matter of types
        return content

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Entry":
        """Raises `Malformed` where something is wrong with what every entry has; its content may be `Unknown`."""
        previous = value.get("previous")
        if not isinstance(previous, list) or not previous:
            raise Malformed("the entry does not name those before it")
        number = integer(value, "number")
        if number < 1:
            raise Malformed("entries are numbered from 1")
        digests = frozenset(map(digest_from_hex, previous))
        return cls(number, digests, text(value, "created"), _content_from_json(value))


def _content_to_json(content: Content) -> tuple[str, dict[str, Any]]:
    match content:
        case MadeDomain():
            return "domain", {
                "chunker": content.chunker.to_json(),
                "domain": content.domain.hex(),
                "label": content.label,
                "layout_proof": content.layout_proof.hex(),
                "domain_proof": content.domain_proof.hex(),
            }
        case Granted():
            return "grant", {
                "domain": content.domain.hex() if content.domain else None,
                "ed25519": content.signing.raw.hex() if content.signing else None,
                "key": content.key.hex(),
                "label": content.label,
                "names": list(content.names),
                "role": content.role.value,
            }
        case Revoked():
            return "revoke", {"key": content.key.hex(), "kept": _pins(content.kept), "since": content.since}
        case Kept():
            return "keep", {"key": content.key.hex(), "kept": _pins(content.kept)}
        case Unknown():
            return content.action, dict(content.fields)


def _content_from_json(value: Mapping[str, Any]) -> Content:
    action = text(value, "action")
    try:
        known = _known_from_json(action, value)
    except Malformed:
        # The owner signed it, and later entries name it: it must not look as if the log had a gap.
        known = None
    return known or Unknown(action, {name: field for name, field in value.items() if name not in _OF_ALL})


def _known_from_json(action: str, value: Mapping[str, Any]) -> Content | None:
    match action:
        case "domain":
            return MadeDomain(
                domain=id_from_hex(value.get("domain")),
                label=text(value, "label"),
                chunker=ChunkerParameters.from_json(value.get("chunker")),
                layout_proof=id_from_hex(value.get("layout_proof")),
                domain_proof=id_from_hex(value.get("domain_proof")),
            )
        case "grant":
            return _grant(value)
        case "revoke":
            since = None if value.get("since") is None else text(value, "since")
            return Revoked(id_from_hex(value.get("key")), _pinned(value.get("kept")), since)
        case "keep":
            return Kept(id_from_hex(value.get("key")), _pinned(value.get("kept")))
        case _:
            return None


def _grant(value: Mapping[str, Any]) -> Granted:
    try:
        role = Role(text(value, "role"))
    except Malformed:
        raise
    except ValueError:
        raise Malformed("unknown role in a grant") from None
    signing, domain, names = value.get("ed25519"), value.get("domain"), texts(value, "names")
    signs, writes = role in (Role.WRITER, Role.MAINTAINER), role is Role.WRITER
    if role is Role.OWNER or (signing is not None) != signs or (domain is not None) != writes or bool(names) != writes:
        raise Malformed(f"its content does not match the role {role}")
    return Granted(
        key=id_from_hex(value.get("key")),
        role=role,
        label=text(value, "label"),
        signing=None if signing is None else VerifyingKey.from_hex(signing),
        domain=None if domain is None else id_from_hex(domain),
        names=names,
    )


def _pins(kept: Mapping[bytes, bytes]) -> dict[str, str]:
    return {snapshot.hex(): digest.hex() for snapshot, digest in kept.items()}


def _pinned(value: object) -> dict[bytes, bytes]:
    if not isinstance(value, dict):
        raise Malformed("what is kept is missing")
    return {id_from_hex(snapshot): digest_from_hex(digest) for snapshot, digest in value.items()}
