"""Restores every snapshot of a Penstock repository in a folder. Written from docs/format.md alone.

It imports nothing from Penstock: it proves that the page, the objects and the key are enough. It checks everything that
the page lets a reader check, and stops at the first error.

    python independent_reader.py REPOSITORY OUTPUT (--key-file FILE | --passphrase-file FILE)

Streams go to OUTPUT/<snapshot id>/<number>-<percent-encoded name>; a list of them goes to stdout as JSON.
"""

import argparse
import json
import struct
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, BinaryIO
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

MIB = 1 << 20
OWNER = bytes(16)


class Refused(Exception):
    """The repository violates docs/format.md."""


def need(condition: bool, what: str) -> None:
    if not condition:
        raise Refused(what)


# --- 2. Building blocks


def refuse_number(digits: str) -> int:
    raise Refused(f"the number {digits} is not an integer")


def from_json(data: bytes) -> Any:
    value = json.loads(data, parse_float=refuse_number)
    spelling = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    need(spelling.encode() == data, "the JSON is not canonical")
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


def unzigzag(value: int) -> int:
    return value >> 1 if value % 2 == 0 else -(value >> 1) - 1


def take_varint(data: bytes) -> tuple[int, bytes]:
    end = next((place for place, byte in enumerate(data) if byte < 0x80), len(data)) + 1
    return next(varints(data[:end])), data[end:]


def payload(data: bytes, limit: int) -> bytes:
    need(len(data) > 0 and data[0] in {0, 1}, "unknown codec")
    if data[0] == 1:
        size = zstandard.get_frame_parameters(data[1:]).content_size
        need(0 < size <= limit, "a payload states no content size, or a forbidden one")
        plain = zstandard.ZstdDecompressor().decompress(data[1:], allow_extra_data=False)
        need(len(plain) == size, "a payload's content size is wrong")
        return plain
    need(len(data) - 1 <= limit, "a payload is above the limit")
    return data[1:]


def record(data: bytes) -> tuple[Any, bytes]:
    need(len(data) >= 4, "a record is truncated")
    (length,) = struct.unpack_from("<I", data)
    need(4 + length <= len(data), "a record is truncated")
    header = from_json(data[4 : 4 + length])
    need(isinstance(header, dict), "a record's header is not an object")
    return header, data[4 + length :]


def digest(data: bytes) -> str:
    return blake3(data).hexdigest()


class Repository:
    """One repository, opened with the owner's keys."""

    def __init__(self, folder: Path, key_file: Path | None, passphrase: str) -> None:
        self.folder = folder
        # Not verified yet: the keys to verify it come first.
        head = from_json((folder / "penstock.json").read_bytes().split(b"\n")[0])
        need(head["format"] == 1, "a newer format")
        self.id = bytes.fromhex(head["repository"])
        slot, keys = (None, from_json(key_file.read_bytes().rstrip(b"\n"))) if key_file else self.open_slot(passphrase)
        seed, mlkem, x25519 = (
            Ed25519PrivateKey.from_private_bytes(bytes.fromhex(keys["ed25519"])),
            MLKEM768PrivateKey.from_seed_bytes(bytes.fromhex(keys["recipient"]["mlkem768"])),
            X25519PrivateKey.from_private_bytes(bytes.fromhex(keys["recipient"]["x25519"])),
        )
        owner = {
            "ed25519": seed.public_key().public_bytes_raw().hex(),
            "mlkem768": mlkem.public_key().public_bytes_raw().hex(),
            "x25519": x25519.public_key().public_bytes_raw().hex(),
        }
        need(
            keys.get("owner", owner) == owner == head["owner"],
            "the public keys are not those of this repository's owner",
        )
        need(keys.get("repository", self.id.hex()) == self.id.hex(), "the key file belongs to another repository")
        self.recipient = hpke.MLKEM768X25519PrivateKey(mlkem, x25519)
        self.writers = {OWNER: seed.public_key()}
        secret = bytes.fromhex(keys["index_secret"])
        self.index_key = self.derive(secret, b"penstock/1 index key")
        self.chunk_id_key = self.derive(secret, b"penstock/1 chunk id key")
        proof = self.derive(secret, b"penstock/1 index secret proof", 16)
        need(proof.hex() == head["index_proof"], "the index secret is damaged")
        self.document("penstock.json", OWNER)
        self.read_log(slot)
        self.directories: dict[bytes, dict[tuple[bytes, int], Any]] = {}

    def derive(self, secret: bytes, info: bytes, length: int = 32) -> bytes:
        return HKDF(hashes.SHA256(), length, self.id, info).derive(secret)

    def unseal(self, key: bytes, sealed: bytes, what: str, *names: bytes) -> bytes:
        bound = b"penstock/1 " + what.encode() + b"\0" + self.id + b"".join(names)
        return AESGCM(key).decrypt(sealed[:12], sealed[12:], bound)

    def document(self, key: str, writer: bytes) -> Any:
        content, signature, end = (self.folder / key).read_bytes().split(b"\n")
        need(end == b"" and from_json(signature).keys() == {"signature"}, f"{key} is not a document")
        signed = b"penstock/1 document\0" + key.encode() + b"\0" + content
        self.writers[writer].verify(bytes.fromhex(from_json(signature)["signature"]), signed)
        return from_json(content)

    def names(self, folder: str) -> list[str]:
        return sorted(path.name for path in (self.folder / folder).rglob("*") if path.is_file())

    # --- 3 and 4. Keys and documents

    def open_slot(self, passphrase: str) -> tuple[str, Any]:
        for name in self.names("slots"):
            slot = from_json((self.folder / "slots" / name).read_bytes().split(b"\n")[0])
            kdf = slot["kdf"]
            need(slot["slot"] == name and kdf["name"] == "argon2id", "an unknown kind of slot")
            key = Argon2id(
                salt=bytes.fromhex(kdf["salt"]), length=32, iterations=kdf["iterations"],
                lanes=kdf["lanes"], memory_cost=kdf["memory_kib"],
            ).derive(unicodedata.normalize("NFC", passphrase).encode())  # fmt: skip
            try:
                plain = self.unseal(key, bytes.fromhex(slot["sealed"]), "slot", bytes.fromhex(name))
            except InvalidTag:
                continue
            need(plain[0] == 0, "a slot's codec is not 0")
            return name, from_json(plain[1:])
        raise Refused("the passphrase opens no slot")

    def read_log(self, slot: str | None) -> None:
        previous = (self.folder / "penstock.json").read_bytes()
        granted: dict[str, Any] = {}
        self.revoked: dict[bytes, dict[str, str]] = {}
        self.log = self.names("grants")
        for number, name in enumerate(self.log, 1):
            entry = self.document(f"grants/{name}", OWNER)
            need(name == f"{number:08}" and entry["number"] == number, "the log has a gap")
            need(entry["previous"] == digest(previous), "the log's chain is broken")
            previous = (self.folder / "grants" / name).read_bytes()
            key = bytes.fromhex(entry["key"])
            if entry["action"] == "grant":
                need(entry["key"] not in granted and key not in self.revoked, "granted twice")
                granted[entry["key"]] = entry
                if entry["role"] == "writer":
                    self.writers[key] = Ed25519PublicKey.from_public_bytes(bytes.fromhex(entry["ed25519"]))
            else:
                need(entry["action"] == "revoke" and granted.pop(entry["key"], None), "revoked without a grant")
                self.revoked[key] = entry["snapshots"]
        if slot is not None:
            self.document(f"slots/{slot}", OWNER)
            need(slot in granted and granted[slot]["role"] == "slot", "the slot is not granted")

    @cache  # noqa: B019 (one repository a process)
    def data_key(self, session: bytes) -> bytes:
        key = f"sessions/{session.hex()}"
        writer = bytes.fromhex(from_json((self.folder / key).read_bytes().split(b"\n")[0])["writer"])
        document = self.document(key, writer)
        need(document["session"] == session.hex(), "a session under the wrong key")
        need(document["grants"] <= len(self.log), "the log was truncated")
        suite = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
        wrapped = bytes.fromhex(document["data_key"][OWNER.hex()])
        info = b"penstock/1 data key\0" + self.id + session + OWNER
        return suite.decrypt(wrapped, self.recipient, info)

    # --- 5. Packs

    def directory(self, pack: bytes) -> dict[tuple[bytes, int], Any]:
        if pack in self.directories:
            return self.directories[pack]
        data = (self.folder / "packs" / pack.hex()[:2] / pack.hex()).read_bytes()
        need(data[:8] == b"PSPACK\1\0" and data[-4:] == b"PEND", "not a pack")
        end = len(data) - 8 - struct.unpack("<I", data[-8:-4])[0]
        need(end >= 8, "a pack's directory is longer than the pack")
        header, body = record(payload(self.unseal(self.index_key, data[end:-8], "directory", pack), 8 * MIB))
        need(header["origins"][0] == pack.hex(), "a directory of another pack")
        need(header["digest"] == digest(data[8:end]), "a pack's segments are damaged")
        total = sum(entry[6] for entry in header["segments"])
        need(len(body) == 18 * total, "a directory's body has the wrong length")
        lengths = struct.unpack_from(f"<{total}H", body)
        ids = [body[place : place + 16] for place in range(2 * total, len(body), 16)]
        place, first, found = 8, 0, {}
        for origin, ordinal, session, offset, sealed, plain, chunks in header["segments"]:
            own = slice(first, first + chunks)
            need(offset == place and sum(lengths[own]) == plain, "a segment is misplaced or has the wrong length")
            name = (bytes.fromhex(header["origins"][origin]), ordinal)
            found[name] = (pack, bytes.fromhex(header["sessions"][session]), offset, sealed, lengths[own], ids[own])
            place, first = place + sealed, first + chunks
        need(place == end, "a pack's segments do not reach its directory")
        self.directories[pack] = found
        return found

    @lru_cache(maxsize=16)  # noqa: B019 (one repository a process)
    def chunks(self, origin: bytes, ordinal: int) -> tuple[bytes, list[bytes]]:
        """The session of a segment, and its chunks."""
        packs = [bytes.fromhex(name) for name in self.names("packs")]
        if origin in packs:  # else a later version may have moved its segments
            packs = [origin]
        places = (self.directory(pack).get((origin, ordinal)) for pack in packs)
        place = next((place for place in places if place), None)
        if place is None:
            raise Refused(f"segment {ordinal} of pack {origin.hex()} is missing")
        pack, session, offset, sealed, lengths, ids = place
        with (self.folder / "packs" / pack.hex()[:2] / pack.hex()).open("rb") as file:
            file.seek(offset)
            bound = (origin, struct.pack("<I", ordinal))
            plain = payload(self.unseal(self.data_key(session), file.read(sealed), "segment", *bound), 8 * MIB)
        need(len(plain) == sum(lengths), "a segment's length is wrong")
        found, start = [], 0
        for length, name in zip(lengths, ids, strict=True):
            chunk = plain[start : start + length]
            need(blake3(chunk, key=self.chunk_id_key).digest(16) == name, "a chunk does not match its id")
            found.append(chunk)
            start += length
        return session, found

    # --- 6. Index objects: not needed for a restore, so only compared with the packs

    def check_index(self) -> None:
        for name in self.names("index"):
            sealed = (self.folder / "index" / name).read_bytes()
            plain = self.unseal(self.index_key, sealed, "index", bytes.fromhex(name))
            need(plain[0] == 0, "an index object's codec is not 0")
            header, body = record(plain[1:])
            for pack, size, offset, length, chunks, hooks, sessions in header["packs"]:
                found = self.directory(bytes.fromhex(pack)).values()
                ids = [chunk for entry in found for chunk in entry[5]]
                file = self.folder / "packs" / pack[:2] / pack
                need(size == file.stat().st_size and offset + length + 8 == size, "an index object's places are wrong")
                need(set(sessions) == {entry[1].hex() for entry in found}, "an index object's sessions are wrong")
                mine, body = body[: 16 * hooks], body[16 * hooks :]
                need(
                    mine == b"".join(chunk for chunk in ids if chunk[15] & 63 == 0), "an index object's hooks are wrong"
                )
                need(chunks == len(ids), "an index object's count of chunks is wrong")
            need(body == b"", "an index object is too long")

    # --- 7 and 8. Snapshots

    def restore(self, name: str, output: Path) -> Iterator[dict[str, Any]]:
        data = (self.folder / "snapshots" / name).read_bytes()
        magic, session, writer, first, second = struct.unpack_from("<8s16s16sII", data)
        need(magic == b"PSSNAP\1\0" and len(data) == 48 + first + second + 64, "not a snapshot")
        signed = b"penstock/1 snapshot\0" + self.id + bytes.fromhex(name) + data[:-64]
        self.writers[writer].verify(data[-64:], signed)
        need(writer not in self.revoked or self.revoked[writer].get(name) == digest(data), "signed by a revoked writer")
        data_key = self.data_key(session)
        sealed, limit = data[48 : 48 + first], 1024 * MIB
        plain = self.unseal(self.index_key, sealed, "catalogue", bytes.fromhex(name))
        catalogue, runs = record(payload(plain, limit))
        sealed = data[48 + first : -64]
        manifest, recipes = record(payload(self.unseal(data_key, sealed, "manifest", bytes.fromhex(name)), limit))
        table = list(segment_table(runs))
        streams = manifest["streams"]
        need(len(streams) == catalogue["streams"], "the catalogue's number of streams is wrong")
        need(sum(stream["size"] for stream in streams) == catalogue["size"], "the catalogue's size is wrong")
        for number, stream in sorted(enumerate(streams), key=lambda item: item[1]["phase"]):
            start = sum(other["recipe"] for other in streams[:number])
            path = output / f"{number:03}-{quote(stream['name'], safe='')}"
            hasher, size = blake3(), 0
            with path.open("wb") as file:
                for segment, chunk, count in extents(recipes[start : start + stream["recipe"]]):
                    origin, ordinal = table[segment]
                    used, chunks = self.chunks(origin, ordinal)
                    need(used.hex() in catalogue["sessions"], "a session missing from the catalogue")
                    need(chunk + count <= len(chunks), "a recipe refers to missing chunks")
                    size += write(file, hasher, chunks[chunk : chunk + count])
            need(size == stream["size"] and hasher.hexdigest() == stream["digest"], f"{stream['name']} is damaged")
            yield {"snapshot": name, "stream": stream["name"], "file": path.name, "size": size}
        need(sum(stream["recipe"] for stream in streams) == len(recipes), "a manifest is too long")


def segment_table(data: bytes) -> Iterator[tuple[bytes, int]]:
    while data:
        pack, (length, data) = data[:16], take_varint(data[16:])
        need(len(pack) == 16 and length <= len(data), "a segment table is truncated")
        ordinal = 0
        for difference in varints(data[:length]):
            ordinal += unzigzag(difference)
            yield pack, ordinal
        data = data[length:]


def extents(recipe: bytes) -> Iterator[tuple[int, int, int]]:
    while recipe:
        (length,) = struct.unpack_from("<I", recipe)
        need(4 + length <= len(recipe), "a recipe is truncated")
        block, recipe = payload(recipe[4 : 4 + length], 64 * MIB), recipe[4 + length :]
        columns = []
        for _ in range(3):
            size, block = take_varint(block)
            columns.append(list(varints(block[:size])))
            block = block[size:]
        need(block == b"", "a recipe's block is too long")
        need(len(columns[0]) <= 32768, "a recipe's block has too many extents")
        segment, after = 0, dict[int, int]()
        for difference, start, count in zip(*columns, strict=True):
            segment += unzigzag(difference)
            first = after.get(segment, 0) + unzigzag(start)
            need(segment >= 0 and first >= 0 and count > 0, "a recipe points outside")
            after[segment] = first + count
            yield segment, first, count


def write(file: BinaryIO, hasher: blake3, chunks: list[bytes]) -> int:
    data = b"".join(chunks)
    hasher.update(data)
    return file.write(data)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repository", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--key-file", type=Path)
    parser.add_argument("--passphrase-file", type=Path)
    options = parser.parse_args()
    passphrase = options.passphrase_file.read_text().rstrip("\n") if options.passphrase_file else ""
    try:
        repository = Repository(options.repository, options.key_file, passphrase)
        repository.check_index()
        restored: list[dict[str, Any]] = []
        for name in repository.names("snapshots"):
            (options.output / name).mkdir(parents=True)
            restored += repository.restore(name, options.output / name)
    except (Refused, InvalidSignature, InvalidTag, ValueError, LookupError, OSError, struct.error) as error:
        print(f"refused: {error!r}", file=sys.stderr)
        return 1
    print(json.dumps(restored))
    return 0


if __name__ == "__main__":
    sys.exit(main())
