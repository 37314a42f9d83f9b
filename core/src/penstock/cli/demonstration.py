"""What `penstock demo` does: every step ends in a proof, and a claim that does not hold is an error."""

import secrets
import time
from collections.abc import Mapping
from pathlib import Path

from penstock.api import DamagedObject, PenstockError, RestoreTarget, RoleForbids, Secret
from penstock.cli.output.console import Output
from penstock.cli.output.demo import demo
from penstock.cli.sample import SampleDatabase
from penstock.engine import BackupResult, CheckReport, backup, check, restore
from penstock.plugins import PluginHost
from penstock.repository import Repository, SnapshotEntry
from penstock.repository.repository import FIRST_DOMAIN
from penstock.repository.snapshots import list_snapshots
from penstock.repository.trust.keyring import add_writer

__all__ = ["Demonstration"]

_MEMORY = 128 * 1024 * 1024
_NAME = "shop"


class Demonstration:
    """One demo, in a folder of its own."""

    def __init__(self, host: PluginHost, output: Output, folder: Path, rows: int) -> None:
        self._host = host
        self._output = output
        self._folder = folder
        self._sample = SampleDatabase(folder / "shop.db", rows)
        self._begun = time.monotonic()

    def play(self) -> None:
        """All of it. Raises `PenstockError` at the first claim that does not hold."""
        writer, passphrase = self._init()
        originals = []
        self._say("sample", {"rows": self._sample.create(), "size": self._sample.size})
        results = [self._backup(writer, "first_backup")]
        originals.append(self._sample.copy(self._folder / "first.db"))
        self._say("change", {"rows": self._sample.rows, **self._sample.change_one_percent()})
        results.append(self._backup(writer, "second_backup"))
        originals.append(self._sample.copy(self._folder / "second.db"))
        _claim(results[1].stored < results[0].stored, "the second backup stored less than the first")

        owner = Repository.open(writer.sink, passphrase)
        listed = {entry.id: entry for entry in list_snapshots(owner)}
        _claim(listed.keys() == {result.snapshot for result in results}, "both snapshots are listed")
        entries = [listed[result.snapshot] for result in results]
        self._writer_cannot_read(writer, results[0].snapshot)
        for entry, original in zip(entries, originals, strict=True):
            self._restore(entry, original)
        report = self._check(owner)
        _claim(not report.findings, "the check found no damage")
        self._say("check", {"packs": report.packs, "segments": report.segments, "read": report.read})
        self._damage(owner, entries[0])
        self._say("done", {"seconds": round(time.monotonic() - self._begun, 1)})

    def _say(self, step: str, document: Mapping[str, object]) -> None:
        self._output.result({step: document}, demo)

    def _init(self) -> tuple[Repository, Secret]:
        place = self._folder / "repository"
        passphrase = Secret(secrets.token_urlsafe())
        sink = self._host.make_sink("filesystem", {"path": str(place)})
        owner = Repository.create(sink, passphrase=passphrase)
        access = add_writer(owner, "demo", domain=FIRST_DOMAIN)
        self._say("init", {"repository": owner.id.hex(), "location": sink.location})
        return Repository.open(sink, access), passphrase

    def _backup(self, writer: Repository, step: str) -> BackupResult:
        source = self._host.make_source("sqlite", {"path": str(self._sample.path)})
        with self._output.progress(bars_only=True) as listen:
            result = backup(
                writer,
                source,
                name=_NAME,
                source_type="sqlite",
                cache_dir=self._folder / "cache",
                memory=_MEMORY,
                compression="auto",
                listener=listen,
            )
        document = {
            "snapshot": result.snapshot.hex(),
            "read": result.read,
            "stored": result.stored,
            "seconds": round(result.seconds, 3),
        }
        self._say(step, document)
        return result

    def _writer_cannot_read(self, writer: Repository, snapshot: bytes) -> None:
        (entry,) = (entry for entry in list_snapshots(writer) if entry.id == snapshot)
        try:
            self._restore_to(entry, self._folder / "forbidden.db")
        except RoleForbids:
            self._say("writer_cannot_read", {"refused": "RoleForbids"})
        else:
            raise PenstockError("the demo failed: a writer key could restore")

    def _restore(self, entry: SnapshotEntry, original: Path) -> None:
        target = self._folder / f"restored-{original.name}"
        seconds = self._restore_to(entry, target)
        rows = self._sample.same_rows(original, target)
        _claim(rows is not None, "the restored rows are those of the original")
        same_bytes = original.read_bytes() == target.read_bytes()
        _claim(same_bytes, "the restored file is the original, byte for byte")
        document = {"snapshot": entry.id.hex(), "rows": rows, "size": target.stat().st_size, "seconds": seconds}
        self._say(f"restore_{original.stem}", document)

    def _restore_to(self, entry: SnapshotEntry, target: Path) -> float:
        source = self._host.make_source("sqlite", {"path": str(target)})
        with self._output.progress(bars_only=True) as listen:
            result = restore(
                entry,
                source,
                target=RestoreTarget(),
                streams=None,
                verify_first=True,
                listener=listen,
            )
        return round(result.seconds, 3)

    def _check(self, owner: Repository) -> CheckReport:
        with self._output.progress(bars_only=True) as listen:
            return check(owner, read_data=True, cache_dir=None, listener=listen)

    def _damage(self, owner: Repository, entry: SnapshotEntry) -> None:
        """Flip one bit of one pack; the check must name that pack and no other object, and a restore must refuse."""
        place = Path(owner.sink.location)
        pack = max(place.glob("d/*/packs/*/*"), key=lambda path: path.stat().st_size)
        key = pack.relative_to(place).as_posix()
        bit = secrets.randbelow(pack.stat().st_size * 8)
        _flip(pack, bit)
        findings = self._check(owner).findings
        _claim([finding.key for finding in findings] == [key], "the check named the damaged pack, and only that")
        problem = findings[0].problem
        _flip(pack, bit)
        _claim(not self._check(owner).findings, "the check found no damage after the bit was flipped back")

        middle = pack.stat().st_size * 4
        _flip(pack, middle)
        target = self._folder / "refused.db"
        try:
            self._restore_to(entry, target)
        except DamagedObject:
            _claim(not target.exists(), "a refused restore left its target alone")
        else:
            raise PenstockError("the demo failed: a damaged pack was restored from")
        self._say("damage", {"key": key, "bit": bit, "problem": problem, "refused": "DamagedObject"})


def _claim(holds: bool, claim: str) -> None:
    if not holds:
        raise PenstockError(f"the demo failed: this does not hold: {claim}")


def _flip(path: Path, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes((byte ^ 1 << bit % 8,)))
