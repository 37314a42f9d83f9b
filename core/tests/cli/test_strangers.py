"""What strangers put into a repository stops nobody: every command goes on, in little memory, and `check` names it."""

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from core.tests.cli.running import PASSPHRASE, Penstock, database, rows_of

pytestmark = pytest.mark.slow

#: Address space of a command, in bytes: far less than the largest stranger has.
_ADDRESS_SPACE = 2 << 30
_HUGE = 3 << 30
#: Under a prefix, of each of five sorts: in all far more than the warnings that a run may give.
_EACH = 20


def _strangers(root: Path) -> set[str]:
    """Put 100 objects under every prefix: empty ones, short ones, noise, other kinds of objects, and huge ones."""
    (domain,) = (root / "d").iterdir()
    noise = random.Random(1)
    sound = {
        kind: next(path for path in (domain / kind).rglob("*") if path.is_file()) for kind in ("packs", "snapshots")
    }
    folders = [root / "grants", root / "slots", *(domain / kind for kind in ("sessions", "packs", "index", "parts"))]
    folders += [domain / kind for kind in ("snapshots", "leases", "notices", "tombstones", "deletions", "what")]
    folders += [root / "d" / bytes(16).hex() / "packs", root / "what"]
    placed = set()
    for folder in folders:
        for number in range(5 * _EACH):
            name = noise.randbytes(16).hex()
            place = folder / name[:2] if folder.name == "packs" else folder
            path = place / (f"stranger-{number}" if number % 10 == 9 else name)
            path.parent.mkdir(parents=True, exist_ok=True)
            match number // _EACH:
                case 0:
                    path.write_bytes(b"")
                case 1:
                    path.write_bytes(b"7 bytes")
                case 2:
                    path.write_bytes(noise.randbytes(5000))
                case 3:
                    path.write_bytes(sound["packs" if folder.name != "packs" else "snapshots"].read_bytes())
                case _:
                    path.touch()
                    os.truncate(path, _HUGE)
            placed.add(path.relative_to(root).as_posix())
    return placed


def test_strangers_objects_are_passed_over_and_named(penstock: Penstock, tmp_path: Path) -> None:
    penstock.address_space = _ADDRESS_SPACE
    penstock.environ["MALLOC_ARENA_MAX"] = "2"
    database(tmp_path / "shop.db", rows=200)
    environ: dict[str, Any] = {"PENSTOCK_REPOSITORY": f"file://{tmp_path}/r"}
    owner = {**environ, "PENSTOCK_PASSPHRASE": PASSPHRASE}
    penstock("init", **owner)
    penstock("key", "add", "--role", "writer", "--label", "lost", "--out", "lost.key", **owner)
    penstock("backup", "sqlite:shop.db", **environ)
    placed = _strangers(tmp_path / "r")

    made = penstock.json("backup", "sqlite:shop.db", **environ)["backups"][0]
    assert len(made["warnings"]) < 30
    fresh = {**owner, "XDG_CACHE_HOME": str(tmp_path / "elsewhere"), "XDG_CONFIG_HOME": str(tmp_path / "elsewhere")}
    restored = penstock("restore", "latest", "--to", "sqlite:back.db", **fresh)
    assert len(restored.stderr.splitlines()) < 40
    assert rows_of(tmp_path / "back.db") == rows_of(tmp_path / "shop.db")
    assert len(penstock.json("snapshots", **fresh)["snapshots"]) == 2
    (lost,) = (one["key"] for one in penstock.json("key", "list", **fresh)["keys"] if one["label"] == "lost")
    penstock("key", "revoke", lost, **fresh)
    # A writer looks at its own domain and at what is the owner's.
    (domain,) = (path.name for path in (tmp_path / "r" / "d").iterdir() if path.name != bytes(16).hex())
    of_writer = {key for key in placed if key.startswith((f"d/{domain}/", "grants/", "slots/"))}
    for reading in ([], ["--read-data"]):
        assert _named(penstock, *reading, **environ) == of_writer
        assert _named(penstock, *reading, **fresh) == placed
    # All that was passed over is still in nobody's way.
    penstock("backup", "sqlite:shop.db", **environ)
    penstock("restore", "latest", "--to", "sqlite:again.db", **fresh)
    assert rows_of(tmp_path / "again.db") == rows_of(tmp_path / "shop.db")


def _named(penstock: Penstock, *options: str, **environ: Any) -> set[str]:
    """What a check names: each as it finds it, and some of them in its document."""
    done = penstock("check", *options, "--json", code=16, **environ)
    document = json.loads(done.stdout)
    events = [json.loads(line)["event"] for line in done.stderr.splitlines() if "event" in json.loads(line)]
    named = {event["subject"] for event in events if event["kind"] == "finding"}
    assert document["finding_count"] == len(named)
    assert {finding["key"] for finding in document["findings"]} <= named
    return named
