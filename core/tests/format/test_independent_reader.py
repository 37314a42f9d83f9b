"""docs/format.md suffices to restore: a program written from the page alone reads what Penstock wrote."""

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from core.tests.format import independent_reader
from core.tests.format.golden import make_golden
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

READER = Path(independent_reader.__file__)
V1 = Path(__file__).parent / "golden" / "v1"
EXPECTED: dict[str, dict[str, Any]] = json.loads((V1 / "expected.json").read_text("utf-8"))


def read(repository: Path, output: Path, *options: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", READER, repository, output, *options]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=300, check=False)


def restored(done: subprocess.CompletedProcess[str], output: Path) -> dict[str, dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = {}
    for row in json.loads(done.stdout):
        data = (output / row["snapshot"] / row["file"]).read_bytes()
        stream = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        found.setdefault(row["snapshot"], {})[row["stream"]] = stream
    return found


def passphrase_file(folder: Path, passphrase: str) -> Path:
    path = folder / "passphrase"
    path.write_text(passphrase + "\n", "utf-8")
    return path


def test_the_independent_reader_imports_nothing_of_penstock() -> None:
    modules = set()
    for node in ast.walk(ast.parse(READER.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add((node.module or "").partition(".")[0])

    assert modules - set(sys.stdlib_module_names) == {"blake3", "cryptography", "zstandard"}
    assert "importlib" not in modules


@pytest.mark.parametrize("passphrase", [make_golden.PASSPHRASE, make_golden.CHEAP_PASSPHRASE])
def test_it_restores_the_golden_repository_by_passphrase(tmp_path: Path, passphrase: str) -> None:
    done = read(V1 / "repository", tmp_path / "out", "--passphrase-file", passphrase_file(tmp_path, passphrase))

    assert restored(done, tmp_path / "out") == EXPECTED


def test_it_restores_the_golden_repository_by_key_file(tmp_path: Path) -> None:
    done = read(V1 / "repository", tmp_path / "out", "--key-file", V1 / "owner.key")

    assert restored(done, tmp_path / "out") == EXPECTED


def test_it_restores_what_todays_code_writes(tmp_path: Path) -> None:
    make_golden.make(tmp_path / "fresh")
    fresh = tmp_path / "fresh"

    done = read(fresh / "repository", tmp_path / "out", "--key-file", fresh / "owner.key")
    expected = json.loads((fresh / "expected.json").read_text("utf-8"))
    assert restored(done, tmp_path / "out") == expected
    assert list(expected.values()) == list(EXPECTED.values())


def test_it_finds_segments_that_were_moved_to_another_pack(tmp_path: Path) -> None:
    # Penstock does not move segments yet, but version 1 promises that readers follow them.
    repository = tmp_path / "repository"
    shutil.copytree(V1 / "repository", repository)
    move_segments(repository)

    done = read(repository, tmp_path / "out", "--key-file", V1 / "owner.key")
    assert restored(done, tmp_path / "out") == EXPECTED


def move_segments(repository: Path) -> None:
    """Move all segments of all packs to one new pack, as the page specifies; index objects are left out."""
    opened = independent_reader.Repository(repository, V1 / "owner.key", "")
    new = bytes(range(16))
    origins, sessions, rows, lengths, ids, data = [new.hex()], [], [], b"", b"", b""
    for path in [path for path in (repository / "packs").rglob("*") if path.is_file()]:
        pack = path.read_bytes()
        for (origin, ordinal), place in opened.directory(bytes.fromhex(path.name)).items():
            _, session, offset, sealed, own_lengths, own_ids = place
            origins.append(origin.hex())
            sessions.append(session.hex())
            sizes = [8 + len(data), sealed, sum(own_lengths), len(own_ids)]
            rows.append([len(origins) - 1, ordinal, len(sessions) - 1, *sizes])
            lengths += b"".join(length.to_bytes(2, "little") for length in own_lengths)
            ids += b"".join(own_ids)
            data += pack[offset : offset + sealed]
        path.unlink()
    shutil.rmtree(repository / "index")
    content = {"digest": independent_reader.digest(data), "origins": origins, "segments": rows, "sessions": sessions}
    header = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    plain = b"\0" + len(header).to_bytes(4, "little") + header + lengths + ids
    nonce = os.urandom(12)
    bound = b"penstock/1 directory\0" + opened.id + new
    sealed = nonce + AESGCM(opened.index_key).encrypt(nonce, plain, bound)
    target = repository / "packs" / new.hex()[:2] / new.hex()
    target.parent.mkdir(parents=True)
    target.write_bytes(b"PSPACK\1\0" + data + sealed + len(sealed).to_bytes(4, "little") + b"PEND")


OBJECTS = sorted(path.relative_to(V1 / "repository") for path in (V1 / "repository").rglob("*") if path.is_file())


@pytest.mark.parametrize("damaged", OBJECTS, ids=lambda path: path.parts[0])
def test_it_refuses_a_changed_bit_in_any_object(tmp_path: Path, damaged: Path) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(V1 / "repository", repository)
    data = bytearray((repository / damaged).read_bytes())
    data[len(data) // 2] ^= 1
    (repository / damaged).write_bytes(data)
    if damaged.parts[0] == "slots":  # which a key file does not need
        passphrases = (make_golden.PASSPHRASE, make_golden.CHEAP_PASSPHRASE)
        results = [
            read(repository, tmp_path / str(number), "--passphrase-file", passphrase_file(tmp_path, passphrase))
            for number, passphrase in enumerate(passphrases)
        ]
        assert any(done.returncode == 1 for done in results)
        return

    done = read(repository, tmp_path / "out", "--key-file", V1 / "owner.key")
    assert done.returncode == 1
    assert done.stderr.startswith("refused: ")


def test_it_refuses_a_wrong_passphrase(tmp_path: Path) -> None:
    done = read(V1 / "repository", tmp_path / "out", "--passphrase-file", passphrase_file(tmp_path, "wrong"))

    assert done.returncode == 1
    assert "opens no slot" in done.stderr


def test_it_refuses_a_writers_key(tmp_path: Path) -> None:
    done = read(V1 / "repository", tmp_path / "out", "--key-file", V1 / "writer.key")

    assert done.returncode == 1
