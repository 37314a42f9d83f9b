"""The whole story, of every source and sink: initialise, back up, change, back up again, lose everything, restore."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from blake3 import blake3
from tests.integration.cases import SinkCase, SourceCase, Target
from tests.integration.databases import Content
from tests.integration.matrix import CELLS, NEWEST, pair
from tests.integration.running import Host, settings_of, with_passphrase


@dataclass(frozen=True)
class Words:
    """How command lines name source, repository and target: by URLs, where these say it all, else by the settings."""

    source: SourceCase
    sink: SinkCase

    @property
    def by_name(self) -> bool:
        return bool(self.source.settings or self.sink.settings)

    @property
    def repository(self) -> str:
        return "main" if self.by_name else self.sink.url

    @property
    def at(self) -> tuple[str, ...]:
        return ("--repo", self.repository)

    @property
    def backup(self) -> tuple[str, ...]:
        return ("backup", self.source.name) if self.by_name else ("backup", self.source.url, "--name", self.source.name)

    def tell(self, host: Host) -> None:
        """Let a host know where the database and the repository are."""
        self._tell(host, self.source)

    def tell_target(self, host: Host, target: Target) -> tuple[str, ...]:
        """Let a host know where a target is, and not where the database was; how a restore names it."""
        self._tell(host, target)
        return ("--to-backup", self.source.name) if self.by_name else ("--to", target.url)

    def tell_repository(self, host: Host) -> None:
        """Let a host know where the repository is, and nothing else."""
        if self.by_name:
            (host.folder / "penstock.toml").write_text(settings_of(self.sink), encoding="utf-8")
        host.environ |= self.sink.environ
        host.secrets |= set(self.sink.environ.values())

    def _tell(self, host: Host, place: SourceCase | Target) -> None:
        self.tell_repository(host)
        if self.by_name:
            text = settings_of(self.sink, **{self.source.name: place})
            (host.folder / "penstock.toml").write_text(text, encoding="utf-8")
        host.environ |= place.environ
        host.secrets |= {value for value in place.environ.values() if value}


@pytest.mark.unmeasured
@pytest.mark.parametrize(("source", "sink"), CELLS, indirect=True)
def test_every_snapshot_comes_back_on_a_host_that_knows_nothing_but_the_passphrase(
    source: SourceCase,
    sink: SinkCase,
    host: Host,
    new_host: Callable[[str], Host],
    passphrase_file: Path,
    ran: Callable[..., None],
) -> None:
    words = Words(source, sink)
    words.tell(host)
    made = host.json("init", words.repository, "--passphrase-file", str(passphrase_file))
    assert made["writer_key"] == str(host.key)

    # The host's writer key is all that a backup has.
    snapshots: list[str] = []
    contents: list[Content] = []
    stored: list[int] = []
    for night in (1, 2):
        before = sink.stored()
        contents.append(source.content())
        (backup,) = host.json(*words.backup, *words.at)["backups"]
        snapshots.append(backup["snapshot"])
        stored.append(backup["stored"])
        # What it says is what the repository has grown by, to the byte.
        assert sink.stored() - before == backup["stored"], f"night {night}"
        if night == 1:
            source.change()
    assert stored[1] < stored[0] / 2
    assert contents[0] != contents[1]

    listed = host.json("snapshots", *words.at)["snapshots"]
    assert [one["id"] for one in listed] == snapshots
    assert [one["stored"] for one in listed] == stored
    assert [one["parent"] for one in listed] == [None, snapshots[0]]
    assert {one["backup"] for one in listed} == {source.name}
    ran(FIGURES=f"{listed[0]['size']:,} bytes read, {stored[0]:,} stored, then {stored[1]:,}")

    for snapshot, content in zip(snapshots, contents, strict=True):
        other = new_host(f"new-host-{snapshot[:8]}")
        other.environ |= with_passphrase()
        with source.fresh_target() as target:
            result = other.json("restore", snapshot, *words.tell_target(other, target), *words.at)
            assert result["snapshot"] == snapshot
            assert target.content() == content
        assert other.keys == []
        assert [path.name for path in other.folder.iterdir() if path.is_dir()] != []

    checking = new_host("checking-host")
    checking.environ |= with_passphrase()
    words.tell_repository(checking)
    report = checking.json("check", "--read-data", *words.at)
    assert report["findings"] == []
    assert report["checked"]["opened"]
    assert report["checked"]["snapshots"] == 2
    assert report["checked"]["read"] == sum(sink.packs().values())


@pytest.mark.parametrize(("source", "sink"), [pair(source, "filesystem") for source in NEWEST], indirect=True)
def test_a_snapshot_tells_what_is_in_it_and_gives_it_out_as_it_was_dumped(
    source: SourceCase, sink: SinkCase, host: Host, passphrase_file: Path
) -> None:
    words = Words(source, sink)
    words.tell(host)
    host("init", words.repository, "--passphrase-file", str(passphrase_file))
    (backup,) = host.json(*words.backup, *words.at)["backups"]
    assert backup["snapshot"][:8] in host("snapshots", *words.at).stdout
    assert "No damage found." in host("check", "--read-data", *words.at).stdout
    assert host.json("show", "latest", *words.at)["content"] is None, "a writer key opens no snapshot"

    host.environ |= with_passphrase()
    shown = host.json("show", "latest", *words.at)
    streams = shown["content"]["streams"]
    assert sum(stream["size"] for stream in streams) == shown["size"]
    inventory = {item["name"]: item["rows"] for item in shown["content"]["inspection"]["inventory"] if item["exact"]}
    expected = source.rows()
    assert {name: inventory.get(name) for name in expected} == expected
    text = host("show", "latest", *words.at).stdout
    for stream in streams:
        assert f"{stream['size']:,}" in text
    for rows in expected.values():
        assert f"{rows:,}" in text
    # And they are the bytes that come out.
    for stream in streams:
        out = host.start("cat", "latest", stream["name"], *words.at)
        assert out.process.wait(60) == 0
        assert out.stdout.stat().st_size == stream["size"]
        assert blake3(out.stdout.read_bytes()).hexdigest() == stream["blake3"]
        out.stdout.unlink()
