"""penstock stats, as an operator runs it."""

import stat
from pathlib import Path
from xml.etree import ElementTree

import pytest
from core.tests.cli.running import Penstock

from penstock.api import PenstockError
from penstock.cli.new_files import write_whole


@pytest.mark.slow
def test_a_writers_key_shows_what_its_domain_stores(shop: Penstock) -> None:
    document = shop.json("stats")
    assert set(document) == {
        *("backups", "nights", "snapshots", "size", "plain", "sealed", "deduplication", "compression"),
        *("objects", "stored", "domains", "sink"),
    }
    (backup,) = document["backups"]
    assert (backup["backup"], backup["domain"], backup["snapshots"]) == ("shop", "main", 1)
    files = [path for path in (shop.folder / "repository").rglob("*") if path.is_file()]
    assert document["stored"] == {"count": len(files), "size": sum(path.stat().st_size for path in files)}
    assert document["sink"]["get"]["requests"] > 0
    assert set(document["domains"]["main"]) == {"dead", "dead_in_packs", "unreadable", "lacking"}
    text = shop("stats", "--quiet").stdout
    assert "Deduplication 1.0 : 1" in text
    assert "A prune would free 0 objects, 0 B." in text
    (row,) = (line for line in text.splitlines() if line.startswith("shop"))
    assert row.split()[:3] == ["shop", "main", "1"]


@pytest.mark.slow
def test_growth_is_drawn_into_a_file_as_any_other(shop: Penstock) -> None:
    path = shop.folder / "growth.svg"
    path.write_text("old", encoding="utf-8")
    shop("stats", "--svg", "growth.svg", "--backup", "shop", "--domain", "main")
    root = ElementTree.parse(path).getroot()
    assert [one.text for one in root if one.tag.endswith("title")] == ["Growth of shop in main"]
    assert [one.name for one in shop.folder.iterdir() if "growth" in one.name] == ["growth.svg"]
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((shop.folder / "penstock.toml").stat().st_mode)


@pytest.mark.slow
def test_what_is_not_there_is_refused(shop: Penstock) -> None:
    assert shop.json("stats", "--backup", "attic", code=15)["error"]["type"] == "SnapshotNotFound"
    assert shop.json("stats", "--domain", "attic", code=20)["error"]["type"] == "KeyMissing"
    for place, why in (("nowhere/growth.svg", "there is no folder nowhere"), ("repository", "it is a folder")):
        assert shop.json("stats", "--svg", place, code=2)["error"]["message"] == f"cannot write {place}: {why}"


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "growth.svg"
    write_whole(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(PenstockError, match="No space left"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
