"""Guesses at a row: whoever can hash a chunk can test them, and a maintainer's key with the bucket must not suffice."""

import hashlib
import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from blake3 import blake3
from core.tests.repository.forging import copied, put_notice
from core.tests.repository.lab import KIB, Lab
from core.tests.repository.test_roles import material

from penstock.format.chunker import Chunker, ChunkerParameters
from penstock.format.encoding import new_id
from penstock.format.notice import Notice
from penstock.format.sealing import message
from penstock.repository import Access
from penstock.repository.domain import Domain
from penstock.repository.read.content import each_row, sessions_of
from penstock.repository.read.ends import TAIL, read_end
from penstock.repository.snapshots import list_snapshots
from penstock.repository.trust.keyring import add_maintainer, add_writer, revoke

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow

#: Rows of which all but one number is known.
ROWS = b"".join(b"%05d;customer %05d;PIN %04d\n" % (row, row * 7919 % 99991, row * 31 % 9973) for row in range(6000))
#: What an identifier of a chunk takes, and any longer digest of it begins with.
ID = 12
LENGTH = 4


@dataclass(frozen=True)
class Scene:
    """A repository with one backup, and a key of each kind."""

    lab: Lab
    access: dict[str, Access]
    #: What somebody may know of the database: its stream, the segments, and the chunks, as they were cut.
    pieces: tuple[bytes, ...]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    lab = Lab(tmp_path_factory.mktemp("cache"))
    access = {
        "writer": add_writer(lab.repository, "prod-db", domain="main"),
        "maintainer": add_maintainer(lab.repository, "operations"),
        "writer of another domain": add_writer(lab.repository, "web"),
        "revoked maintainer": add_maintainer(lab.repository, "lost laptop"),
    }
    lab.backup({"d": ROWS}, by=lab.open(access["writer"]))
    lab.backup({"d": ROWS + b"one more\n"}, by=lab.open(access["writer"]))
    put_notice(lab.domain, Notice("", {new_id(): "why"}), access["writer"])
    revoke(lab.repository, access["revoked maintainer"].key)
    keys = lab.domain.keys
    lengths = Chunker(lab.domain.made.chunker, keys.chunker_seed).cut(memoryview(ROWS), last=True)
    pieces = [ROWS, ROWS + b"one more\n"]
    start = 0
    for length in lengths:
        pieces.append(ROWS[start : start + length])
        start += length
    assert len(pieces) > 20
    return Scene(lab, access, tuple(pieces))


def visible(lab: Lab, access: Access) -> Iterator[bytes]:
    """Every byte of the bucket, and all that the key opens of it."""
    owner = lab.open()
    for info in lab.sink.list():
        yield lab.sink.get(info.key)
    for domain in owner.domains:
        keys = access.domain(domain.id)
        if keys is None:
            continue
        # The owner's view of the log, and this key's secrets: a revoked key still has those.
        view = Domain(lab.sink, access, owner.log, domain.made, keys)
        for entry in list_snapshots(owner):
            if entry.domain.id == domain.id:
                yield repr(entry.head).encode()
                yield b"".join(row.pack + row.pin for row in each_row(entry))
                yield b"".join(session + digest for session, digest in sessions_of(entry).items())
        for info in lab.sink.list(view.at.packs):
            end = read_end(view, bytes.fromhex(info.key[-32:]), info.size, TAIL)
            yield b"".join(place.digest for place in end.places.places)
            if view.knows_chunks:
                yield end.chunks().names


def hashed(piece: bytes, secrets: Iterable[bytes], context: bytes) -> Iterator[bytes]:
    """What somebody with these secrets might try: digests, keyed or not, with and without a context."""
    for text in (piece, context + piece, piece + context):
        yield blake3(text).digest()
        yield hashlib.sha256(text).digest()
    for secret in secrets:
        yield blake3(piece, key=secret).digest()
        yield hmac.digest(secret, piece, "sha256")


def confirmed(scene: Scene, access: Access) -> set[bytes]:
    """The pieces of which something in the bucket can be computed: a guess at them could be tested."""
    lab = scene.lab
    windows = {data[at : at + ID] for data in visible(lab, access) for at in range(len(data) - ID + 1)}
    secrets = material(access, [domain.id for domain in lab.open().domains])
    return {
        piece
        for piece in scene.pieces
        if any(found[:ID] in windows for found in hashed(piece, secrets, message("chunk", lab.domain.scope)))
    }


def test_a_writer_of_the_domain_can_test_guesses(scene: Scene) -> None:
    """It must, to find what is stored already; and what this test does not find for others, it would find."""
    assert len(confirmed(scene, scene.access["writer"])) > 20


@pytest.mark.parametrize("who", ["maintainer", "revoked maintainer", "writer of another domain"])
def test_nothing_in_the_bucket_can_be_computed_from_a_guess_by_anybody_else(scene: Scene, who: str) -> None:
    assert confirmed(scene, scene.access[who]) == set()


@pytest.mark.parametrize("who", ["maintainer", "revoked maintainer", "writer of another domain"])
def test_where_chunks_are_cut_is_known_to_nobody_else(scene: Scene, who: str) -> None:
    """Without the seed, a guess at a dump says nothing about the lengths of its chunks."""
    domain = scene.lab.domain
    true = Chunker(domain.made.chunker, domain.keys.chunker_seed).cut(memoryview(ROWS), last=True)
    domains = [one.id for one in scene.lab.open().domains]
    seeds = {int.from_bytes(secret[:8], "little") >> 1 | 1 for secret in material(scene.access[who], domains)}
    assert domain.keys.chunker_seed not in seeds
    parameters: ChunkerParameters = domain.made.chunker
    others = [Chunker(parameters, seed).cut(memoryview(ROWS), last=True) for seed in sorted(seeds)[:50]]
    assert true not in others


def test_the_same_rows_have_nothing_in_common_in_two_domains(scene: Scene, tmp_path: Path) -> None:
    """Neither ids nor cuts nor sizes that are the same: a writer of one domain cannot look for its rows in another."""
    lab = copied(scene.lab, tmp_path / "cache")
    other = lab.open(scene.access["writer of another domain"])
    before = {data[at : at + ID] for data in map(lab.sink.get, lab.keys()) for at in range(len(data) - ID + 1)}
    known = lab.keys()
    lab.backup({"d": ROWS}, by=other, cache=tmp_path / "another")
    after = [lab.sink.get(key) for key in lab.keys() - known if "/packs/" in key]
    assert len(after) == 1
    shared = {data[at : at + ID] for data in after for at in range(len(data) - ID + 1)} & before
    # Zeroes, with a byte or a length at one end, are in every pack; no identifier has that many.
    assert [one for one in shared if one.count(0) < ID - LENGTH] == []
    assert len(ROWS) > 32 * KIB


def test_a_proof_in_the_log_confirms_no_secret_of_another_branch(scene: Scene) -> None:
    """Proofs are public: whoever guessed a domain's secret could see that it is right, and 32 random bytes are not."""
    made = scene.lab.domain.made
    for who, access in scene.access.items():
        if who == "writer":
            continue
        secrets = material(access, [domain.id for domain in scene.lab.open().domains])
        assert made.domain_proof not in {secret[:16] for secret in secrets}
