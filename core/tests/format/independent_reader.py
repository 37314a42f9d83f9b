"""Lists and restores the snapshots of a Penstock repository. Written from docs/format.md alone.

It imports nothing from Penstock: it proves that the page, the objects and the owner's key or a passphrase are enough.
It passes over whatever the page says to pass over; otherwise it checks all that the page lets a reader check, and stops
at the first error.

    python independent_reader.py REPOSITORY OUTPUT (--key-file FILE | --passphrase-file FILE)

Streams go to OUTPUT/<snapshot id>/<number>-<percent-encoded name>; a list of them goes to stdout as JSON.
"""

import argparse
import json
import re
import struct
import sys
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from hmac import compare_digest
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KIB, MIB = 1 << 10, 1 << 20
OWNER = bytes(16)
#: No place in a stream or a segment is beyond it.
FAR = 1 << 61


class Refused(Exception):
    """The repository violates docs/format.md, or the key does not open it."""


#: What reading bytes that violate the page may raise.
BROKEN = (
    Refused, InvalidSignature, InvalidTag, ValueError, LookupError, TypeError, AttributeError, struct.error,
    RecursionError, zstandard.ZstdError,
)  # fmt: skip


def need(condition: bool, what: str) -> None:
    if not condition:
        raise Refused(what)


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn whatever nonsense raises into a refusal that names it."""
    try:
        yield
    except Refused:
        raise
    except BROKEN as error:
        raise Refused(f"{what}: {error!r}") from error


# --- 1. Objects

LIMITS = {
    "grants": 16 * MIB, "slots": 16 * KIB, "sessions": 16 * KIB, "packs": 20 * MIB, "index": 16 * MIB, "parts": 8 * MIB,
    "snapshots": 64 * KIB, "leases": 4 * KIB, "notices": MIB, "tombstones": 16 * MIB, "deletions": 16 * MIB,
    "marks": MIB,
}  # fmt: skip


class Objects:
    """The objects of a repository by their keys."""

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        self._objects = objects

    def get(self, key: str) -> bytes:
        """The object; refuses one that is missing, or larger than allowed."""
        need(key in self._objects, f"{key} is missing")
        data = self._objects[key]
        folder = key.split("/")[2 if key.startswith("d/") else 0]
        need(len(data) <= LIMITS.get(folder, 64 * KIB), f"{key} is larger than allowed")
        return data

    def ids(self, prefix: str) -> list[bytes]:
        """What has an id for a name under this prefix."""
        pattern = re.compile(re.escape(prefix) + ("([0-9a-f]{2})/" if prefix.endswith("packs/") else "()") + HEX_ID)
        names = [pattern.fullmatch(key) for key in sorted(self._objects)]
        return [bytes.fromhex(name[2]) for name in names if name and name[2].startswith(name[1])]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._objects))


class Folder(Mapping[str, bytes]):
    """A repository in a folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __getitem__(self, key: str) -> bytes:
        return (self._path / key).read_bytes()

    def __iter__(self) -> Iterator[str]:
        return (path.relative_to(self._path).as_posix() for path in self._path.rglob("*") if path.is_file())

    def __len__(self) -> int:
        return sum(1 for _ in self)


# --- 2. Building blocks

HEX_ID = "([0-9a-f]{32})"


def ident(value: Any) -> bytes:
    need(isinstance(value, str) and re.fullmatch(HEX_ID, value) is not None, "not an id")
    return bytes.fromhex(value)


def octets(value: Any) -> bytes:
    need(isinstance(value, str) and re.fullmatch("([0-9a-f]{2})*", value) is not None, "not in hexadecimal")
    return bytes.fromhex(value)


def pin(value: Any) -> bytes:
    need(isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None, "not a digest")
    return bytes.fromhex(value)


def whole(value: Any) -> int:
    need(type(value) is int, "not an integer")
    return int(value)


def words(value: Any) -> str:
    need(isinstance(value, str), "not a text")
    return str(value)


def from_number(digits: str) -> int:
    need(re.fullmatch("[0-9]+", digits) is not None and int(digits) < 1 << 63, f"the number {digits} is not allowed")
    return int(digits)


def from_json(data: bytes) -> Any:
    value = json.loads(data, parse_int=from_number, parse_float=from_number, parse_constant=from_number)
    spelling = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    need(spelling.encode() == data and isinstance(value, dict), "not an object of canonical JSON")
    return value


def varints(data: bytes) -> Iterator[int]:
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            need(value < 1 << 63 and (byte > 0 or shift == 7), "a varint is too long")
            yield value
            value = shift = 0
    need(shift == 0, "a varint is truncated")


def take_varint(data: bytes, at: int) -> tuple[int, int]:
    end = next((place for place in range(at, len(data)) if data[place] < 0x80), len(data)) + 1
    (value,) = varints(data[at:end])
    return value, end


def unzigzag(value: int) -> int:
    return value // 2 if value % 2 == 0 else -(value + 1) // 2


def record(data: bytes) -> tuple[Any, bytes]:
    (length,) = struct.unpack_from("<I", data)
    need(4 + length <= len(data), "a record is truncated")
    return from_json(data[4 : 4 + length]), data[4 + length :]


def payload(data: bytes, limit: int) -> bytes:
    need(len(data) > 0 and data[0] in {0, 1}, "unknown codec")
    if data[0] == 0:
        need(len(data) - 1 <= limit, "a payload is above the limit")
        return data[1:]
    size = zstandard.get_frame_parameters(data[1:]).content_size
    need(0 < size <= limit, "a payload states no content size, or a forbidden one")
    plain = zstandard.ZstdDecompressor().decompress(data[1:], allow_extra_data=False)
    need(len(plain) == size, "a payload's content size is wrong")
    return plain


def padme(size: int) -> int:
    if size <= 4096:
        return 4096
    exponent = size.bit_length() - 1
    unit = 1 << (exponent - exponent.bit_length())
    return (size + unit - 1) // unit * unit


def unpadded(data: bytes, limit: int) -> bytes:
    (length,) = struct.unpack_from("<I", data)
    need(4 + length <= len(data) and not any(data[4 + length :]), "padding is not zeroes")
    return payload(data[4 : 4 + length], limit)


def unseal(key: bytes, sealed: bytes, what: str, *place: bytes) -> bytes:
    need(len(sealed) >= 28, "sealed bytes are truncated")
    return AESGCM(key).decrypt(sealed[:12], sealed[12:], b"penstock/1 " + what.encode() + b"\0" + b"".join(place))


def digest(data: bytes) -> bytes:
    return blake3(data).digest()


def document_of(data: bytes) -> tuple[bytes, bytes]:
    """The content and the signature of a document."""
    content, outer, end = data.split(b"\n")
    signature = from_json(outer)
    need(end == b"" and signature.keys() == {"signature"}, "not a document")
    need(re.fullmatch("[0-9a-f]{128}", signature["signature"]) is not None, "not a signature")
    return content, bytes.fromhex(signature["signature"])


# --- 3. Keys


def derived(secret: bytes, salt: bytes, purpose: str, domain: bytes = b"", length: int = 32) -> bytes:
    return HKDF(hashes.SHA256(), length, salt, b"penstock/1 " + purpose.encode() + b"\0" + domain).derive(secret)


@dataclass
class Owner:
    """The owner's secrets."""

    ed25519: bytes
    root: bytes
    mlkem768: bytes
    x25519: bytes

    @cached_property
    def signing(self) -> Ed25519PublicKey:
        return Ed25519PrivateKey.from_private_bytes(self.ed25519).public_key()

    @cached_property
    def opening(self) -> hpke.MLKEM768X25519PrivateKey:
        mlkem = MLKEM768PrivateKey.from_seed_bytes(self.mlkem768)
        return hpke.MLKEM768X25519PrivateKey(mlkem, X25519PrivateKey.from_private_bytes(self.x25519))

    @cached_property
    def public(self) -> dict[str, str]:
        mlkem = MLKEM768PrivateKey.from_seed_bytes(self.mlkem768).public_key()
        x25519 = X25519PrivateKey.from_private_bytes(self.x25519).public_key()
        keys = {"ed25519": self.signing.public_bytes_raw(), "x25519": x25519.public_bytes_raw()}
        keys["mlkem768"] = mlkem.public_bytes_raw()
        return {name: key.hex() for name, key in keys.items()}


def owner_of(key_file: bytes, repository: bytes) -> Owner:
    need(key_file.endswith(b"\n"), "a key file is one line")
    content = from_json(key_file[:-1])
    need(content["penstock_key"] == 1 and content["role"] == "owner", "not a key file of an owner")
    fields = {"penstock_key", "role", "repository", "key", "label", "owner", "ed25519", "secrets"}
    need(content.keys() == fields, "another field than those of a key file")
    need(ident(content["repository"]) == repository, "the key file belongs to another repository")
    need(ident(content["key"]) == OWNER, "the owner has another id")
    secrets = {name: octets(value) for name, value in content["secrets"].items()}
    owner = Owner(ed25519=octets(content["ed25519"]), **secrets)
    need(content["owner"] == owner.public, "the key file's private keys are not those of its public ones")
    return owner


def owner_in(content: Any, passphrase: str, repository: bytes, slot: bytes) -> Owner:
    """Open a slot."""
    kdf, sealed = content["kdf"], octets(content["sealed"])
    need(kdf["name"] == "argon2id" and len(sealed) == 188, "an unknown kind of slot")
    passes, memory, lanes = (whole(kdf[name]) for name in ("iterations", "memory_kib", "lanes"))
    need(2 <= passes <= 10 and 19456 <= memory <= 1048576 and 1 <= lanes <= 16, "an absurd cost")
    salt = ident(kdf["salt"])
    secret = Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory).derive(
        unicodedata.normalize("NFC", passphrase).encode()
    )
    need(compare_digest(derived(secret, salt, "slot commitment"), pin(content["commitment"])), "another passphrase")
    plain = unseal(derived(secret, salt, "slot key"), sealed, "slot", repository, slot)
    return Owner(plain[:32], plain[32:64], plain[64:128], plain[128:])


@dataclass
class Domain:
    """One domain and its keys."""

    id: bytes
    scope: bytes
    layout_key: bytes = field(repr=False)
    id_key: bytes = field(repr=False)
    chunk_key: bytes = field(repr=False)

    def key(self, folder: str, name: bytes) -> str:
        prefix = f"{name.hex()[:2]}/" if folder == "packs" else ""
        return f"{self.prefix}{folder}/{prefix}{name.hex()}"

    @property
    def prefix(self) -> str:
        return f"d/{self.id.hex()}/"


@dataclass
class Grant:
    """What the log says about one key or slot."""

    role: str
    public: Ed25519PublicKey | None
    domain: bytes | None
    names: list[str]
    revoked: bool = False
    kept: dict[bytes, bytes] = field(default_factory=dict)

    def may_store(self, backup: str) -> bool:
        patterns = (".*".join(map(re.escape, name.split("*"))) for name in self.names)
        return any(re.fullmatch(pattern, backup, re.DOTALL) for pattern in patterns)


class Ref(NamedTuple):
    """A reference to a part."""

    part: bytes
    size: int
    digest: bytes
    key: int


def refs_of(data: bytes) -> list[Ref]:
    refs = [Ref(*fields) for fields in struct.iter_unpack("<16sI32sB", data)]
    need(all(ref.key in {0, 1, 2} for ref in refs), "a part under an unknown key")
    return refs


def sessions_of(data: bytes) -> list[tuple[bytes, bytes]]:
    """Sessions and the digests of their objects."""
    return list(struct.iter_unpack("<16s32s", data))


@dataclass
class Head:
    """A snapshot that counts."""

    domain: Domain
    id: bytes
    session: bytes
    writer: bytes
    digest: bytes
    header: dict[str, Any]
    parts: list[Ref]
    #: Session and parts of each base.
    bases: list[tuple[bytes, list[Ref]]]


class Segment(NamedTuple):
    """A segment as the places of a pack have it."""

    name: tuple[bytes, int]
    session: bytes
    offset: int
    sealed: int
    plain: int
    digest: bytes


class Carried(NamedTuple):
    places: bytes
    signer: bytes
    ids: bytes
    signature: bytes


class Places(NamedTuple):
    """Opened places."""

    segments: list[Segment]
    carried: dict[bytes, Carried]


class Trailer(NamedTuple):
    """The end of a pack."""

    ids: int
    places: int
    writer: bytes
    signature: bytes
    mark: bytes


TRAILER = struct.Struct("<II16s64s4s")


class Repository:
    """One repository, opened with the owner's key file or a passphrase."""

    def __init__(
        self, objects: Mapping[str, bytes], *, key_file: bytes | None = None, passphrase: str | None = None
    ) -> None:
        self.objects = Objects(objects)
        #: What the page wants said, without stopping anybody.
        self.warnings: list[str] = []
        with refusing("penstock.json"):
            # Not verified yet: the keys to verify it come first.
            config = from_json(document_of(self.objects.get("penstock.json"))[0])
            need(whole(config["format"]) == 1, "another format")
            self.id = ident(config["repository"])
            words(config["created"])
            # With a passphrase, the key that is claimed must be the one in the slot in the end.
            self.signing = Ed25519PublicKey.from_public_bytes(octets(config["owner"]["ed25519"]))
        with refusing("the owner's key"):
            need(key_file is not None or passphrase is not None, "neither a key nor a passphrase")
            if key_file is not None:
                self.owner = owner_of(key_file, self.id)
                need(self.owner.public == config["owner"], "these keys are not those of this repository's owner")
        with refusing("penstock.json"):
            self.document("penstock.json", self.signing)
        with refusing("the owner's log"):
            self.read_log()
        if key_file is None:
            self.owner = self.open_slots(str(passphrase), config["owner"])
        with refusing("the owner's log"):
            self.domains = {domain: self.domain(domain, *proofs) for domain, proofs in self.proofs.items()}

    def document(self, key: str, public: Ed25519PublicKey) -> Any:
        content, signature = document_of(self.objects.get(key))
        public.verify(signature, b"penstock/1 document\0" + key.encode() + b"\0" + content)
        return from_json(content)

    def open_slots(self, passphrase: str, public: Mapping[str, str]) -> Owner:
        """The owner; whatever is wrong with a slot, the answer is the same."""
        slots = [key for key, grant in self.grants.items() if grant.role == "slot" and not grant.revoked]
        for slot in slots[:64]:
            with suppress(*BROKEN):
                content = self.document(f"slots/{slot.hex()}", self.signing)
                need(ident(content["slot"]) == slot, "another slot")
                owner = owner_in(content, passphrase, self.id, slot)
                need(owner.public == public, "a slot of another owner")
                return owner
        raise Refused("the passphrase opens no slot")

    # --- 4. The owner's log

    def read_log(self) -> None:
        self.grants: dict[bytes, Grant] = {}
        self.proofs: dict[bytes, tuple[bytes, bytes]] = {}
        self.log = {digest(self.objects.get("penstock.json"))}
        self.entries: list[str] = []
        found = []
        for name in self.objects.ids("grants/"):
            key = f"grants/{name.hex()}"
            with suppress(*BROKEN):
                entry = self.document(key, self.signing)
                order = (whole(entry["number"]), words(entry["created"]), digest(self.objects.get(key)))
                need(order[0] > 0 and isinstance(entry["previous"], list), "not an entry")
                words(entry["action"])
                found.append((order, {pin(one) for one in entry["previous"]}, entry))
                self.log.add(order[2])
                self.entries.append(key)
        for _, previous, entry in sorted(found, key=lambda one: one[0]):
            need(bool(previous) and previous <= self.log, "the log was cut: an entry before another one is gone")
            # What is not understood has no effect, but is there.
            with suppress(*BROKEN):
                takes = {"domain": self.take_domain, "grant": self.take_grant}
                takes |= {"revoke": self.take_revoke, "keep": self.take_keep}
                takes[entry["action"]](entry)

    def take_domain(self, entry: Any) -> None:
        words(entry["label"])
        proofs = (ident(entry["layout_proof"]), ident(entry["domain_proof"]))
        self.proofs.setdefault(ident(entry["domain"]), proofs)

    def domain(self, domain: bytes, *proofs: bytes) -> Domain:
        """A domain's keys."""
        maintenance = derived(self.owner.root, self.id, "maintenance secret")
        layout_key = derived(maintenance, self.id, "layout key", domain)
        secret = derived(self.owner.root, self.id, "domain secret", domain)
        layout_proof = derived(layout_key, self.id, "layout proof", domain, 16)
        domain_proof = derived(secret, self.id, "domain proof", domain, 16)
        need(proofs == (layout_proof, domain_proof), "the root secret is damaged")
        id_key, chunk_key = (derived(secret, self.id, purpose, domain) for purpose in ("id key", "chunk id key"))
        return Domain(domain, self.id + domain, layout_key, id_key, chunk_key)

    def take_grant(self, entry: Any) -> None:
        role, public, domain, names = (entry[name] for name in ("role", "ed25519", "domain", "names"))
        need(role in {"writer", "maintainer", "slot"}, "an unknown role")
        need((public is None) == (role == "slot") and (domain is None) == (role != "writer"), "not a grant of its role")
        need(isinstance(names, list) and bool(names) == (role == "writer"), "names of what is no writer, or no names")
        key = None if public is None else Ed25519PublicKey.from_public_bytes(pin(public))
        place = None if domain is None else ident(domain)
        self.grants.setdefault(ident(entry["key"]), Grant(role, key, place, [words(name) for name in names]))

    def take_revoke(self, entry: Any) -> None:
        need(entry.get("since") is None or isinstance(entry["since"], str), "not a time")
        self.take_keep(entry)
        self.grants[ident(entry["key"])].revoked = True

    def take_keep(self, entry: Any) -> None:
        kept = {ident(snapshot): pin(head) for snapshot, head in entry["kept"].items()}
        self.grants[ident(entry["key"])].kept.update(kept)

    def signer(self, domain: Domain, key: bytes, *roles: str, revoked: bool = False) -> Ed25519PublicKey:
        """What verifies signatures of the owner, or of a key with one of these roles in this domain."""
        if key == OWNER:
            return self.owner.signing
        grant = self.grants.get(key)
        if grant is None or grant.public is None or grant.role not in roles:
            raise Refused("signed by nobody who may")
        need(grant.domain in {None, domain.id}, "signed by a writer of another domain")
        need(revoked or not grant.revoked, "signed by a revoked key")
        return grant.public

    def verify(self, domain: Domain, what: str, name: bytes, data: bytes, public: Ed25519PublicKey) -> None:
        """Verify the signature at the end of an object."""
        public.verify(data[-64:], b"penstock/1 " + what.encode() + b"\0" + domain.scope + name + data[:-64])

    # --- 5. Sessions

    def session(self, domain: Domain, session: bytes, pinned: bytes | None = None) -> tuple[bytes, bytes]:
        """The writer of a session, and its data key."""
        key = domain.key("sessions", session)
        with refusing(key):
            need(pinned is None or digest(self.objects.get(key)) == pinned, "a session is not what was pinned")
            writer = ident(from_json(document_of(self.objects.get(key))[0])["writer"])
            content = self.document(key, self.signer(domain, writer, "writer", revoked=True))
            need(ident(content["session"]) == session, "a session under the wrong key")
            words(content["started"]), words(content["host"])
            cut = not {pin(one) for one in content["log"]} <= self.log
            warning = f"the log was cut: {key} names an entry that is gone"
            if cut and not (writer in self.grants and self.grants[writer].revoked) and warning not in self.warnings:
                self.warnings.append(warning)
            wrapped = octets(content["data_key"])
            suite = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
            data_key = suite.decrypt(wrapped, self.owner.opening, b"penstock/1 data key\0" + domain.scope + session)
            need(len(data_key) == 32, "a data key of another length")
            return writer, data_key

    # --- 6. Packs

    def trailer(self, pack: bytes) -> Trailer:
        """The trailer at the end of the bytes of a pack."""
        trailer = Trailer(*TRAILER.unpack(pack[-TRAILER.size :]))
        need(trailer.mark == b"PEND" and trailer.ids > 0 and trailer.places > 0, "not a pack")
        need(8 + trailer.ids + trailer.places + TRAILER.size <= len(pack), "a pack's ends are longer than the pack")
        return trailer

    def sealed_places(self, pack: bytes) -> bytes:
        return pack[-TRAILER.size - self.trailer(pack).places : -TRAILER.size]

    def places(self, domain: Domain, pack: bytes, sealed: bytes) -> Places:
        header, body = record(unpadded(unseal(domain.layout_key, sealed, "places", domain.scope, pack), 8 * MIB))
        origins, sessions = ([ident(one) for one in header[name]] for name in ("origins", "sessions"))
        need(origins[0] == pack, "the places of another pack")
        rows, found, offset = header["segments"], [], 8
        need(len(rows) <= 4096, "too many segments")
        for number, row in enumerate(rows):
            origin, ordinal, session, start, size, plain = map(whole, row)
            need(start == offset and ordinal < 4096 and plain <= 8 * MIB, "an impossible segment")
            digest_at = body[32 * number : 32 * number + 32]
            found.append(Segment((origins[origin], ordinal), sessions[session], start, size, plain, digest_at))
            offset += size
        carried, at = {}, 32 * len(rows)
        for name, length, signer, ids, signature in header["carried"]:
            need(len(octets(signature)) == 64, "a signature of another length")
            signed = (ident(signer), pin(ids), octets(signature))
            carried[ident(name)] = Carried(body[at : at + whole(length)], *signed)
            at += length
        need(at == len(body), "the places have another length than they say")
        return Places(found, carried)

    # --- 10. Notices, tombstones, deletions, marks

    def notice(
        self, domain: Domain, folder: str, name: bytes, *, revoked: bool = False
    ) -> tuple[bytes, dict[str, Any]]:
        """Who signed, and the header."""
        what = folder.removesuffix("s")
        data = self.objects.get(domain.key(folder, name))
        magic, signer = struct.unpack_from("<8s16s", data)
        need(magic == b"PSNOTE\1\0" and len(data) >= 88, "not a notice")
        roles = ("writer", "maintainer") if folder == "notices" else ("maintainer",)
        self.verify(domain, what, name, data, self.signer(domain, signer, *roles, revoked=revoked))
        plain = unseal(domain.layout_key, data[24:-64], what, domain.scope, name)
        header, body = record(unpadded(plain, 16 * MIB))
        words(header["made"])
        need(body == b"", "a notice is too long")
        things: set[str] = set()
        if folder == "notices":
            for pack, why in header["packs"].items():
                ident(pack), words(why)
        elif folder == "marks":
            words(header["text"]), [ident(one) for one in header["holds"]]
            known = {"tag", "untag", "hold", "release", "bad", "good", "written"}
            need(header["action"] in known, "an unknown action")
        elif folder == "tombstones" or header["action"] == "delete":
            things = {"packs", "parts", "index", "sessions"}
        if folder == "tombstones":
            need(isinstance(header["grace"], int), "no grace")
        elif header.get("action") == "undelete":
            things = {"lifts"}
        for thing in things:
            [ident(one) for one in header[thing]]
        for snapshot, head in header.get(
            {"notices": "void", "deletions": "snapshots", "marks": "snapshots", "tombstones": "snapshots"}.get(
                folder, ""
            ),
            {},
        ).items():
            ident(snapshot), pin(head)
        need(folder != "deletions" or header["action"] in {"forget", "undelete", "delete"}, "an unknown action")
        return signer, header

    def notices(self, domain: Domain, folder: str) -> Iterator[tuple[bytes, dict[str, Any]]]:
        for name in self.objects.ids(f"{domain.prefix}{folder}/"):
            with suppress(*BROKEN):
                yield self.notice(domain, folder, name)

    def named_notices(self, domain: Domain, folder: str) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """The same by their ids."""
        for name in self.objects.ids(f"{domain.prefix}{folder}/"):
            with suppress(*BROKEN):
                yield name, self.notice(domain, folder, name)[1]

    @staticmethod
    def too_late(header: dict[str, Any]) -> bool:
        """As far as the record says itself: these objects come without the store's times."""
        return bool(header.get("until")) and header["made"] >= header["until"]

    def forgotten(self, domain: Domain) -> set[tuple[str, str]]:
        """Snapshots and digests of their heads."""
        records = {name.hex(): header for name, header in self.named_notices(domain, "deletions")}
        lifted = {
            (name, *head)
            for header in records.values()
            if header["action"] == "undelete" and not self.too_late(header)
            for name in header["lifts"]
            for head in header["snapshots"].items()
        }
        return {
            head
            for name, header in records.items()
            if header["action"] != "undelete"
            for head in header["snapshots"].items()
            if header["action"] == "delete" or (name, *head) not in lifted
        }

    # --- 8. Snapshots

    def head(self, domain: Domain, snapshot: bytes) -> Head:
        """The head of a snapshot, if it has a valid signature."""
        data = self.objects.get(domain.key("snapshots", snapshot))
        magic, session, writer = struct.unpack_from("<8s16s16s", data)
        need(magic == b"PSHEAD\1\0" and len(data) >= 104, "not a head")
        self.verify(domain, "head", snapshot, data, self.signer(domain, writer, "writer", revoked=True))
        grant = self.grants.get(writer)
        if writer != OWNER and grant and grant.revoked:
            need(grant.kept.get(snapshot) == digest(data), "signed by a revoked writer")
        header, body = record(
            unpadded(unseal(domain.layout_key, data[40:-64], "head", domain.scope, snapshot), 1 * MIB)
        )
        for name in ("backup", "source", "started", "finished", "host", "program"):
            words(header[name])
        need(writer == OWNER or (grant is not None and grant.may_store(header["backup"])), "a name that is not granted")
        need(len(header["bases"]) <= 16, "too many bases")
        counts = [whole(header["parts"]), *(whole(base[2]) for base in header["bases"])]
        refs = refs_of(body)
        need(max(counts) <= 16 and sum(counts) == len(refs), "the number of parts is wrong")
        parts, refs = refs[: counts[0]], refs[counts[0] :]
        bases = []
        for name, base_session, count in header["bases"]:
            ident(name)
            bases.append((ident(base_session), refs[:count]))
            refs = refs[count:]
        return Head(domain, snapshot, session, writer, digest(data), header, parts, bases)

    def snapshots(self) -> list[Head]:
        """All snapshots that count: not void, not forgotten."""
        found = []
        for domain in self.domains.values():
            hidden = self.forgotten(domain)
            voids = list(self.notices(domain, "notices"))
            for snapshot in self.objects.ids(f"{domain.prefix}snapshots/"):
                with suppress(*BROKEN):
                    head = self.head(domain, snapshot)
                    name = (snapshot.hex(), head.digest.hex())
                    if name not in hidden and not any(self.voids(*one, head) for one in voids):
                        found.append(head)
        return found

    def voids(self, signer: bytes, header: dict[str, Any], head: Head) -> bool:
        """Whether a notice says that this is no snapshot, and may say so: the owner's, or its own writer's."""
        return header["void"].get(head.id.hex()) == head.digest.hex() and signer in {OWNER, head.writer}

    def open(self, snapshot: bytes | str) -> "Snapshot":
        """One of the snapshots that count, ready to be restored."""
        name = bytes.fromhex(snapshot) if isinstance(snapshot, str) else snapshot
        head = next((head for head in self.snapshots() if head.id == name), None)
        if head is None:
            raise Refused(f"there is no snapshot {name.hex()}")
        with refusing(f"snapshot {name.hex()}"):
            return Snapshot(self, head)

    def restored(self, snapshot: bytes | str) -> dict[str, bytes]:
        """All streams of a snapshot, by name."""
        opened = self.open(snapshot)
        return {stream["name"]: b"".join(opened.read(number)) for number, stream in opened.in_phases()}

    # --- Beyond a restore

    def check(self) -> dict[str, str]:
        """What of all that lies there violates the page, and how.

        What a revoked key signed is no damage: it was signed by whom it must be signed by. Only its heads are named,
        for they look like snapshots.
        """
        found = {}
        for key in self.objects:
            try:
                self.examine(key)
            except BROKEN as error:
                found[key] = repr(error)
        return found

    def examine(self, key: str) -> None:
        self.objects.get(key)
        if key == "penstock.json":
            return
        if key.startswith("grants/"):
            need(key in self.entries, "not an entry of the log")
        elif key.startswith("slots/"):
            slot = ident(key[6:])
            content = self.document(key, self.owner.signing)
            need(ident(content["slot"]) == slot and slot in self.grants, "a slot that was never granted")
            need(self.grants[slot].role == "slot", "a slot under the id of a key")
        else:
            top, domain, folder, name = key.split("/", 3)
            need(top == "d" and ident(domain) in self.domains and folder in LIMITS, "an unknown folder")
            self.examine_in(self.domains[ident(domain)], folder, name)

    def examine_in(self, domain: Domain, folder: str, name: str) -> None:
        if folder == "leases":
            session, number = name.split("-")
            need(re.fullmatch("[0-9]{8}", number) is not None and int(number) > 0, "not a lease")
            writer, _ = self.session(domain, ident(session))
            content = self.document(
                f"{domain.prefix}leases/{name}", self.signer(domain, writer, "writer", revoked=True)
            )
            need(content == {"session": session, "number": int(number)}, "a lease under the wrong key")
            return
        if folder == "packs":
            need(name[2] == "/" and name[:2] == name[3:5], "a pack under another prefix")
            name = name[3:]
        whose = ident(name)
        match folder:
            case "sessions":
                self.session(domain, whose)
            case "packs":
                self.examine_pack(domain, whose)
            case "index":
                self.examine_index(domain, whose)
            case "parts":
                data = self.objects.get(domain.key("parts", whose))
                need(data[:8] == b"PSPART\1\0" and len(data) >= 88, "not a part")
                self.verify(domain, "part", whose, data, self.signer(domain, data[8:24], "writer", revoked=True))
            case "snapshots":
                self.head(domain, whose)
            case _:
                self.notice(domain, folder, whose, revoked=True)

    def examine_pack(self, domain: Domain, pack: bytes) -> list[bytes]:
        """The ids of its chunks, those included that it lists as assembled."""
        data = self.objects.get(domain.key("packs", pack))
        trailer, sealed = self.trailer(data), self.sealed_places(data)
        end = len(data) - TRAILER.size - trailer.places
        all_ids = data[end - trailer.ids : end]
        places = self.places(domain, pack, sealed)
        copies = all(segment.name[0] != pack for segment in places.segments)
        roles = ("writer", "maintainer") if copies else ("writer",)
        signed = [(pack, roles, Carried(sealed, trailer.writer, digest(all_ids), trailer.signature))]
        signed += [(origin, ("writer",), kept) for origin, kept in places.carried.items()]
        for whose, who, kept in signed:
            public = self.signer(domain, kept.signer, *who, revoked=True)
            what = domain.scope + whose + kept.signer + digest(kept.places) + kept.ids
            public.verify(kept.signature, b"penstock/1 pack\0" + what)
        zeroes = max((one.offset + one.sealed for one in places.segments), default=8)
        need(data[:8] == b"PSPACK\1\0" and not any(data[zeroes : end - trailer.ids]), "not a pack")
        need(len(data) == padme(len(data) - (end - trailer.ids - zeroes)), "a pack of another size")
        found: list[bytes] = []
        for segment in places.segments:
            (length,) = struct.unpack_from("<I", all_ids)
            need(4 + length <= len(all_ids), "ids that are cut")
            born = domain.scope + segment.name[0] + struct.pack("<I", segment.name[1])
            plain = unpadded(unseal(domain.id_key, all_ids[4 : 4 + length], "ids", born), 8 * MIB)
            all_ids = all_ids[4 + length :]
            count = len(plain) // 14
            lengths, rest = struct.unpack_from(f"<{count}H", plain), plain[2 * count :]
            need(len(rest) == 12 * count and all(lengths), "another number of ids, or a chunk of nothing")
            ids = [rest[at : at + 12] for at in range(0, 12 * count, 12)]
            found += ids
            _, data_key = self.session(domain, segment.session)
            bytes_ = data[segment.offset : segment.offset + segment.sealed]
            need(digest(bytes_) == segment.digest, "a damaged segment")
            text, at = opened_segment(domain, data_key, bytes_, segment), 0
            for number in range(count):
                chunk = text[at : at + lengths[number]]
                need(blake3(chunk, key=domain.chunk_key).digest(12) == ids[number], "a chunk with another id")
                at += lengths[number]
            need(at == len(text), "the chunks of a segment do not add up")
        for origin, kept in places.carried.items():
            self.places(domain, origin, kept.places)
        (length,) = struct.unpack_from("<I", all_ids)
        listed, zeroes_ = all_ids[4 : 4 + length], all_ids[4 + length :]
        need(not any(zeroes_) and trailer.ids == padme(trailer.ids - len(zeroes_)), "ids of another length")
        if not listed:
            return found
        need(not copies, "a list of assembled chunks among copies")
        plain = unpadded(unseal(domain.id_key, listed, "assembled", domain.scope, pack), 8 * MIB)
        return found + self.examine_assembled(domain, pack, plain)

    def examine_assembled(self, domain: Domain, pack: bytes, plain: bytes) -> list[bytes]:
        """The ids of chunks that lie in pieces; where all packs are there, the pieces are put together."""
        (count,) = struct.unpack_from("<I", plain)
        lengths = struct.unpack_from(f"<{count}H", plain, 4)
        at = 4 + 2 * count
        need(count > 0 and min(lengths) > 0 and len(plain) >= at + 12 * count + 4, "an incomplete list of chunks")
        ids = [plain[at + 12 * number : at + 12 * number + 12] for number in range(count)]
        at += 12 * count
        (others,) = struct.unpack_from("<I", plain, at)
        at += 4
        need(others < 4096 and len(plain) >= at + 48 * others, "an incomplete list of packs")
        packs = [
            (plain[at + 48 * n : at + 48 * n + 16], plain[at + 48 * n + 16 : at + 48 * n + 48]) for n in range(others)
        ]
        need(len({one for one, _ in packs}) == others, "a pack that is listed twice")
        at += 48 * others
        extents: list[Extent] = []
        made = 0
        while at < len(plain):
            (size,) = struct.unpack_from("<I", plain, at)
            need(0 < size <= len(plain) - at - 4, "a block that is cut")
            start, length, some = block_of(plain[at + 4 : at + 4 + size])
            need(start == made and all(one.segment is not None for one in some), "blocks that are not of a list")
            extents += some
            made, at = made + length, at + 4 + size
        need(made == sum(lengths) and len(extents) <= 1 << 18, "pieces of another size")
        texts: dict[int, bytes | None] = {}
        for number in {one.segment for one in extents if one.segment is not None}:
            need(number < 4096 * (1 + others), "a pack that is not listed")
            which, ordinal = divmod(number, 4096)
            found, pinned = packs[which - 1] if which else (pack, None)
            texts[number] = self.text_of(domain, found, ordinal, pinned)
        if None in texts.values():
            return ids
        text = b"".join((texts[one.segment or 0] or b"")[one.start : one.start + one.length] for one in extents)
        need(len(text) == made, "a piece behind the end of its segment")
        for one, length in zip(ids, lengths, strict=True):
            need(blake3(text[:length], key=domain.chunk_key).digest(12) == one, "an assembled chunk with another id")
            text = text[length:]
        return ids

    def text_of(self, domain: Domain, pack: bytes, ordinal: int, pinned: bytes | None) -> bytes | None:
        """What is in a segment of the pack that it was written to; None if that pack is gone."""
        if domain.key("packs", pack) not in self.objects:
            return None
        data = self.objects.get(domain.key("packs", pack))
        sealed = self.sealed_places(data)
        need(pinned is None or digest(sealed) == pinned, "a pack with another pin")
        found = [one for one in self.places(domain, pack, sealed).segments if one.name == (pack, ordinal)]
        need(len(found) == 1, "a segment that its pack does not have")
        _, data_key = self.session(domain, found[0].session)
        return opened_segment(domain, data_key, data[found[0].offset : found[0].offset + found[0].sealed], found[0])

    def examine_index(self, domain: Domain, index: bytes) -> None:
        data = self.objects.get(domain.key("index", index))
        magic, writer, length = struct.unpack_from("<8s16sI", data)
        need(magic == b"PSINDX\1\0" and 28 + length + 64 <= len(data), "not an index object")
        self.verify(domain, "index", index, data, self.signer(domain, writer, "writer", "maintainer", revoked=True))
        place = domain.scope + index
        header, body = record(unpadded(unseal(domain.layout_key, data[28 : 28 + length], "index", place), 16 * MIB))
        need(body == b"", "an index object is too long")
        [ident(one) for one in header["replaces"]]
        sealed, at = data[28 + length : -64], 0
        for pack, size, ids, places, origins, blocks in header["packs"]:
            bytes_ = self.objects.get(domain.key("packs", ident(pack)))
            trailer = self.trailer(bytes_)
            need((size, ids, places) == (len(bytes_), trailer.ids, trailer.places), "the pack's ends lie elsewhere")
            found = self.places(domain, ident(pack), self.sealed_places(bytes_)).segments
            born = {one.name[0] for one in found}
            need({ident(one) for one in origins} == born - {ident(pack)}, "other origins")
            own = self.examine_pack(domain, ident(pack))
            chunks, hooks = 0, set[bytes]()
            for whose, long in blocks:
                need(ident(whose) == ident(pack) or ident(whose) in born, "hooks of another pack")
                block = unseal(domain.id_key, sealed[at : at + long], "hooks", domain.scope + ident(whose))
                plain, at = unpadded(block, 16 * MIB), at + long
                chunks += struct.unpack_from("<I", plain)[0]
                need(len(plain) % 12 == 4, "a hook that is cut")
                hooks |= {plain[start : start + 12] for start in range(4, len(plain), 12)}
            expected = {one for one in own if one[11] & 63 == 0}
            others = [ident(whose) for whose, _ in blocks] != [ident(pack)]
            need(
                (hooks >= expected and chunks >= len(own)) if others else (hooks == expected and chunks == len(own)),
                "other hooks than the pack's",
            )
        need(not any(sealed[at:]) and len(sealed) == padme(at), "hooks of another length")


def opened_segment(domain: Domain, data_key: bytes, sealed: bytes, segment: Segment) -> bytes:
    pack, ordinal = segment.name
    plain = unseal(data_key, sealed, "segment", domain.scope, pack, struct.pack("<I", ordinal))
    found = payload(plain, 8 * MIB)
    need(len(found) == segment.plain, "a segment has another length than its places say")
    return found


class Row(NamedTuple):
    """A pack in the segment table."""

    pack: bytes
    pin: bytes
    segments: int
    used: frozenset[int]


def rows_of(data: bytes) -> Iterator[tuple[int, Row]]:
    at = 0
    while at < len(data):
        number, at = take_varint(data, at)
        pack, pinned, at = data[at : at + 16], data[at + 16 : at + 48], at + 48
        count, at = take_varint(data, at)
        bits = int.from_bytes(data[at : at + (count + 7) // 8], "little")
        at += (count + 7) // 8
        need(at <= len(data) and count <= 4096 and bits < 1 << count and number < 1 << 51, "an impossible row")
        yield number, Row(pack, pinned, count, frozenset(one for one in range(count) if bits >> one & 1))


class Extent(NamedTuple):
    """Bytes of a segment, or of a stream of the nearest base."""

    segment: int | None
    stream: int
    start: int
    length: int


def block_of(data: bytes) -> tuple[int, int, list[Extent]]:
    """Where a block of a recipe starts in its stream, its size, and its extents."""
    start, size, base, at, count, *columns = varints(data)
    need(1 <= count <= 32768, "a block has too many extents, or none")
    lengths, columns = columns[:count], columns[count:]
    of_segments = sum(1 for length in lengths if length % 2 == 0)
    need(len(lengths) == count and len(columns) == count + of_segments, "the columns of a block do not match")
    numbers = [unzigzag(value) for value in columns[:of_segments]]
    offsets = [unzigzag(value) for value in columns[of_segments : 2 * of_segments]]
    jumps = [unzigzag(value) for value in columns[2 * of_segments :]]
    ends: dict[int, int] = {}
    segment, extents = 0, []
    for column in (numbers, offsets, jumps):
        column.reverse()
    for word in lengths:
        length = word // 2
        if word % 2:
            first = at + jumps.pop()
            at = first + length
            extents.append(Extent(None, base, first, length))
        else:
            segment += numbers.pop()
            first = ends.get(segment, 0) + offsets.pop()
            ends[segment] = first + length
            extents.append(Extent(segment, 0, first, length))
        need(length > 0 and 0 <= first <= FAR - length and 0 <= segment < 1 << 63, "an impossible extent")
    need(sum(extent.length for extent in extents) == size, "a block makes another size than it says")
    need(start + size <= FAR, "a block beyond the end of any stream")
    return start, size, extents


class Recipe:
    """The extents of one stream, by where they start in it."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self.starts: list[int] = []
        self.extents: list[Extent] = []
        for at, _, extents in sorted(map(block_of, blocks), key=lambda one: one[0]):
            start = at
            for extent in extents:
                self.starts.append(start)
                self.extents.append(extent)
                start += extent.length

    def between(self, start: int, end: int) -> Iterator[Extent]:
        """The extents of a run of bytes, cut to it; refuses a gap, and bytes that are there twice."""
        number = max(0, bisect_right(self.starts, start) - 1)
        while start < end:
            need(number < len(self.starts), "a recipe ends before the bytes that are needed")
            first, extent = self.starts[number], self.extents[number]
            need(first <= start < first + extent.length, "a recipe has a gap, or goes back")
            length = min(end, first + extent.length) - start
            yield extent._replace(start=extent.start + start - first, length=length)
            start, number = start + length, number + 1


class Location(NamedTuple):
    """A segment as its pinned places have it, and where its bytes may be: packs, and offsets in them."""

    segment: Segment
    copies: list[tuple[str, int]]


class Snapshot:
    """A snapshot, opened: everything but the packs is read and checked."""

    def __init__(self, repository: Repository, head: Head) -> None:
        self.repository, self.head, self.domain = repository, head, head.domain
        self.keys: dict[bytes, bytes] = {}
        own = list(self.flat(head.parts))
        for refs in (own, *(list(self.flat(base)) for _, base in head.bases)):
            need(len({ref.part for ref in refs}) == len(refs), "a part that is named twice")
        layout = [(kind, data) for ref in own if ref.key == 0 for kind, data in self.sections(ref)]
        for session, pinned in (pair for kind, data in layout if kind == 4 for pair in sessions_of(data)):
            writer, self.keys[session] = repository.session(self.domain, session, pinned)
            need(session != head.session or writer == head.writer, "a head in the session of another writer")
        #: The parts of the snapshot itself, then of its bases, nearest first: the sections of each.
        self.parts = [self.read_parts(head.parts, head.session)]
        self.parts += [self.read_parts(refs, session) for session, refs in head.bases]
        self.table = self.read_table(data for kind, data in layout if kind == 1)
        sections = [section for part in self.parts[0][whole(head.header["manifest"]) :] for section in part]
        plain = b"".join(data for kind, data in sections if kind == 2)
        need(len(plain) <= 32 * MIB, "a manifest that is too large")
        manifest, body = record(plain)
        need(body == b"" and isinstance(manifest["inspection"], dict), "an incomplete manifest")
        words(manifest["consistency"])
        self.streams: list[dict[str, Any]] = manifest["streams"]
        for stream in self.streams:
            words(stream["name"]), whole(stream["phase"]), whole(stream["size"]), pin(stream["digest"])
        need(len(self.streams) == head.header["streams"], "another number of streams than the head says")
        need(sum(one["size"] for one in self.streams) == head.header["size"], "another size than the head says")
        self.recipe = lru_cache(maxsize=None)(self._recipe)
        self.segment = lru_cache(maxsize=8)(self._segment)
        self.places = lru_cache(maxsize=None)(self._places)
        # Before anything is emitted.
        used = {segment for number in range(len(self.streams)) for segment, _, _ in self.pieces(number)}
        self.found = {segment: self.locate(segment) for segment in used}

    def flat(self, refs: Iterable[Ref]) -> Iterator[Ref]:
        """These references, with those that parts hold in the places of these parts."""
        for ref in refs:
            if ref.key == 2:
                further = [one for _, data in self.sections(ref) for one in refs_of(data)]
                need(all(one.key != 2 for one in further), "references to references")
                yield from further
            else:
                yield ref

    def read_parts(self, refs: Iterable[Ref], session: bytes) -> list[list[tuple[int, bytes]]]:
        """These parts: kind and content of the sections of each."""
        return [list(self.sections(ref, session)) for ref in self.flat(refs)]

    def sections(self, ref: Ref, session: bytes = b"") -> Iterator[tuple[int, bytes]]:
        data = self.repository.objects.get(self.domain.key("parts", ref.part))
        need(len(data) == ref.size and digest(data) == ref.digest, "a part is not what was pinned")
        need(data[:8] == b"PSPART\1\0", "not a part")
        key = self.keys[session] if ref.key == 1 else self.domain.layout_key
        plain = unpadded(unseal(key, data[24:-64], "part", self.domain.scope, ref.part), 4 * MIB)
        at = 0
        while at < len(plain):
            kind, length = struct.unpack_from("<BI", plain, at)
            at += 5 + length
            need(at <= len(plain) and kind <= 4, "a section is truncated, or of an unknown kind")
            need(ref.key == {0: 2, 1: 0, 4: 0}.get(kind, 1), "a section lies under another key than its own")
            yield kind, plain[at - length : at]

    def read_table(self, sections: Iterable[bytes]) -> dict[int, Row]:
        table: dict[int, Row] = {}
        for number, row in (pair for data in sections for pair in rows_of(data)):
            before = table.get(number, row)
            need(before[:3] == row[:3], "two packs in one row")
            table[number] = row._replace(used=row.used | before.used)
        return table

    def _recipe(self, level: int, stream: int, parts: tuple[int, ...]) -> Recipe:
        """What these parts have of the recipe of a stream, of the snapshot itself or of a base."""
        found = (section for part in parts for section in self.parts[level][part])
        blocks = (data for kind, data in found if kind == 3)
        return Recipe(data[4:] for data in blocks if struct.unpack_from("<I", data) == (stream,))

    def pieces(self, number: int) -> Iterator[tuple[int, int, int]]:
        """Segment, offset and length of what makes a stream."""
        stream = self.streams[number]
        levels = [tuple(map(whole, parts)) for parts in stream["recipe"]]
        yield from self.resolved(0, levels, number, 0, stream["size"])

    def resolved(
        self, level: int, levels: list[tuple[int, ...]], stream: int, start: int, end: int
    ) -> Iterator[tuple[int, int, int]]:
        need(start >= end or level < len(levels), "a recipe goes back farther than it says")
        recipe = self.recipe(level, stream, levels[level]) if level < len(levels) else Recipe(())
        need(level > 0 or sum(extent.length for extent in recipe.extents) == end, "a recipe makes another size")
        for segment, base, first, length in recipe.between(start, end):
            if segment is None:
                yield from self.resolved(level + 1, levels, base, first, first + length)
            else:
                yield segment, first, length

    def locate(self, number: int) -> Location:
        """Where a segment is: at its pack's place, or in packs that carry its pack's places."""
        row, ordinal = self.table[number // 4096], number % 4096
        need(ordinal in row.used, "a recipe uses a segment that the table does not need")
        packs = self.repository.objects.ids(f"{self.domain.prefix}packs/")
        pinned, copies = None, []
        for pack in [row.pack, *packs]:
            with suppress(*BROKEN):
                sealed, places = self.places(pack)
                proof = sealed if pack == row.pack else places.carried[row.pack].places
                need(digest(proof) == row.pin, "these are not the places that were pinned")
                proved = self.repository.places(self.domain, row.pack, proof).segments
                need(len(proved) == row.segments, "another number of segments than the table says")
                (pinned,) = (one for one in proved if one.name == (row.pack, ordinal))
                key = self.domain.key("packs", pack)
                copies += [(key, one.offset) for one in places.segments if one.name == pinned.name]
                if pack == row.pack and copies:
                    return Location(pinned, copies)
        if pinned is None or not copies:
            raise Refused(f"segment {ordinal} of pack {row.pack.hex()} is missing")
        return Location(pinned, copies)

    def _places(self, pack: bytes) -> tuple[bytes, Places]:
        """The places at the end of a pack, sealed and opened."""
        sealed = self.repository.sealed_places(self.repository.objects.get(self.domain.key("packs", pack)))
        return sealed, self.repository.places(self.domain, pack, sealed)

    def _segment(self, number: int) -> bytes:
        segment, copies = self.found[number]
        for key, offset in copies:
            with suppress(Refused):
                sealed = self.repository.objects.get(key)[offset : offset + segment.sealed]
                need(digest(sealed) == segment.digest, "a segment is damaged")
                return opened_segment(self.domain, self.keys[segment.session], sealed, segment)
        raise Refused(f"segment {segment.name[1]} of pack {segment.name[0].hex()} is damaged or missing")

    def in_phases(self) -> list[tuple[int, dict[str, Any]]]:
        """Numbers and streams, in the order in which to restore them."""
        return sorted(enumerate(self.streams), key=lambda one: one[1]["phase"])

    def read(self, number: int) -> Iterator[bytes]:
        """The bytes of a stream. Each block is pinned by the head; only the end says whether they are all."""
        stream, hasher, size = self.streams[number], blake3(), 0
        with refusing(f"stream {stream['name']}"):
            for segment, start, length in self.pieces(number):
                piece = self.segment(segment)[start : start + length]
                need(len(piece) == length, "a recipe refers to bytes behind the end of a segment")
                hasher.update(piece)
                size += length
                yield piece
            need(size == stream["size"] and hasher.digest() == pin(stream["digest"]), "the stream is damaged")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repository", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--key-file", type=Path)
    parser.add_argument("--passphrase-file", type=Path)
    options = parser.parse_args()
    key = options.key_file.read_bytes() if options.key_file else None
    passphrase = options.passphrase_file.read_text("utf-8").rstrip("\n") if options.passphrase_file else None
    try:
        repository = Repository(Folder(options.repository), key_file=key, passphrase=passphrase)
        restored: list[dict[str, Any]] = []
        for head in repository.snapshots():
            snapshot = repository.open(head.id)
            folder = options.output / head.id.hex()
            folder.mkdir(parents=True)
            for number, stream in snapshot.in_phases():
                path = folder / f"{number:03}-{quote(stream['name'], safe='')}"
                with path.open("wb") as file:
                    file.writelines(snapshot.read(number))
                restored.append({"snapshot": head.id.hex(), "stream": stream["name"], "file": path.name})
    except Refused as error:
        print(f"refused: {error}", file=sys.stderr)
        return 1
    for warning in repository.warnings:
        print(warning, file=sys.stderr)
    print(json.dumps(restored))
    return 0


if __name__ == "__main__":
    sys.exit(main())
