"""Made the golden repository `v1`: run once, then frozen. Its ids and keys are random, its streams are not.

    python -m core.tests.format.golden.make_golden NEW_FOLDER

Formats that this program can no longer write must still be read: never run it over an existing folder. A new version
of the format gets its own folder beside `v1`.
"""

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from penstock.api import (
    Dump,
    DumpPlan,
    DumpStream,
    Inspection,
    InventoryItem,
    PluginSettings,
    Restore,
    RestorePlan,
    RestoreTarget,
    Source,
    StreamSpec,
)
from penstock.api.secrets import Secret
from penstock.engine import backup
from penstock.format.keys import PassphraseCost
from penstock.repository import Repository
from penstock.repository.notices import distrust
from penstock.repository.repository import FIRST_DOMAIN
from penstock.repository.trust import keyring
from penstock.testing import MemorySink

#: Under Argon2id with the costs of `penstock init`, and with the lowest costs allowed.
PASSPHRASE = "the golden passphrase"
CHEAP_PASSPHRASE = "größte Sorgfalt"
CHEAP = PassphraseCost(iterations=2, memory_kib=19456, lanes=1)


def rows(night: int) -> bytes:
    """Some 100 KB that resemble a dump; each night a few rows change, and some are new."""
    lines = []
    for number in range(1400 + 30 * night):
        changed = night if number % 97 == 0 else 0
        note = hashlib.sha256(f"{number}/{changed}".encode()).hexdigest()[:12]
        lines.append(f"INSERT INTO orders VALUES ({number}, 'open', {number * 37 % 1009}, 'note {note}');\n")
    return "".join(lines).encode()


def streams(night: int) -> list[tuple[StreamSpec, bytes]]:
    """The streams of one night's dump: a large one, one that repeats parts of it, a short one and an empty one."""
    large = rows(night)
    text = f"CREATE ROLE shop; -- night {night}\n".encode()
    attributes = {"table": "orders", "größe": "✓"}
    return [
        (StreamSpec("globals.sql", "sql", phase=0, optional=True), text),
        (StreamSpec("data/public.orders", "sql", phase=1, attributes=attributes), large),
        (StreamSpec("data/öffentlich.leer", "sql", phase=1), b""),
        (StreamSpec("indexes.sql", "sql", phase=2), large[40_000:60_000] * 3 + large[:9_000]),
    ]


class Bytes(DumpStream):
    """Reads from given bytes."""

    def __init__(self, data: bytes) -> None:
        self._rest = memoryview(data)

    def readinto(self, buffer: memoryview, /) -> int:
        part = self._rest[: len(buffer)]
        buffer[: len(part)] = part
        self._rest = self._rest[len(part) :]
        return len(part)

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass


class Night(Source):
    """A source of one night's `streams`."""

    name = "night"
    Settings = PluginSettings

    def __init__(self, night: int) -> None:
        super().__init__(PluginSettings())
        self._streams = {spec.name: (spec, data) for spec, data in streams(night)}

    def inspect(self) -> Inspection:
        inventory = (InventoryItem("table", "public.orders", rows=1400, exact=True),)
        return Inspection("golden", "17.1", "17.2", 150_000, inventory, ("a warning",))

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        specs = tuple(spec for spec, _ in self._streams.values())
        yield Dump(DumpPlan(self.inspect(), specs, "one transaction snapshot"), self.attach)

    def attach(self, spec: StreamSpec) -> DumpStream:
        return Bytes(self._streams[spec.name][1])

    def plan_restore(self, streams: Sequence[StreamSpec], target: RestoreTarget) -> RestorePlan:
        raise NotImplementedError

    def restore(self, plan: RestorePlan) -> AbstractContextManager[Restore]:
        raise NotImplementedError


def make(folder: Path) -> None:
    """Write five nights to `folder`: by a writer that is revoked later, three by one of its domain, by one of another.

    The recipes of the third night go back to the second, and those of the fourth to both.
    """
    expected: dict[str, dict[str, dict[str, int | str]]] = {}
    sink = MemorySink()
    owner = Repository.create(sink, passphrase=Secret(PASSPHRASE))
    owner.add_slot(Secret(CHEAP_PASSPHRASE), "cheap passphrase", CHEAP)
    first = keyring.add_writer(owner, "db1", domain=FIRST_DOMAIN)
    second = keyring.add_writer(owner, "db2", domain=FIRST_DOMAIN, names=("shop", "till-*"))
    third = keyring.add_writer(owner, "db3")
    maintainer = keyring.add_maintainer(owner, "operations")
    with TemporaryDirectory() as caches:
        for night, writer in enumerate((first, second, second, second, third)):
            with patch("socket.gethostname", return_value=f"{writer.label}.example"):
                done = backup(
                    Repository.open(sink, writer),
                    Night(night),
                    name="shop",
                    source_type="night",
                    cache_dir=Path(caches, writer.label),
                    memory=64 * 1024 * 1024,
                    compression="auto",
                    listener=lambda event: None,
                )
            expected[done.snapshot.hex()] = {
                spec.name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
                for spec, data in streams(night)
            }
    keyring.revoke(owner, first.key)
    distrust(Repository.open(sink, maintainer).domains[0], {bytes(range(16)): "an example"})

    for info in sink.list():
        path = folder / "repository" / info.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sink.get(info.key))
    for access, name in (
        (owner.access, "owner"),
        (first, "revoked"),
        (second, "writer"),
        (third, "other"),
        (maintainer, "maintainer"),
    ):
        (folder / f"{name}.key").write_bytes(access.to_key_file())
    (folder / "expected.json").write_text(json.dumps(expected, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    Path(sys.argv[1]).mkdir(parents=True)
    make(Path(sys.argv[1]))
