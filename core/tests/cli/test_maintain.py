"""penstock maintain, as a timer runs it."""

from datetime import timedelta
from pathlib import Path

import pytest
from core.tests.cli.running import Penstock, passes
from core.tests.cli.test_prune import OPS, OWNER, shop

__all__ = ["shop"]

pytestmark = pytest.mark.slow


def test_one_line_does_what_is_due(shop: Penstock) -> None:
    passes(shop.folder / "repository", timedelta(days=1))
    first = shop.json("maintain", *OPS)
    assert first["check"]["finding_count"] == 0
    assert (first["check"]["checked"]["in_part"], first["check"]["checked"]["opened"]) == (True, False)
    assert (first["forget"]["forgotten"], first["forget"]["kept"], first["forget"]["applied"]) == (1, 1, True)
    doomed = first["prune"]["domains"]["main"]["doomed_size"]
    assert doomed > 0
    passes(shop.folder / "repository", timedelta(days=1))
    shown = shop("maintain", *OPS).stdout
    assert "whose turn it was" in shown
    assert "Forgotten: 0 snapshots; kept: 1." in shown
    assert "Deleted" in shown
    shop("check", "--read-data", *OPS)
    shop("restore", "latest", "--to", "sqlite:back.db", *OWNER)


def test_nothing_is_let_go_of_while_anything_is_damaged(shop: Penstock) -> None:
    packs = sorted((shop.folder / "repository").glob("d/*/packs/*/*"))
    data = bytearray(packs[0].read_bytes())
    data[-30] ^= 1
    packs[0].write_bytes(data)
    failed = shop.json("maintain", *OPS, code=16)
    assert failed["error"]["type"] == "CheckFailed"
    assert "nothing was forgotten or deleted" in failed["error"]["message"]
    assert (failed["forget"], failed["prune"]) == (None, None)
    assert len(shop.json("snapshots", *OPS)["snapshots"]) == 2


def test_a_pack_is_read_when_it_is_its_turn(shop: Penstock) -> None:
    settings = shop.folder / "penstock.toml"
    settings.write_text(settings.read_text() + '[defaults]\ncheck_within = "1d"\n')
    for pack in (shop.folder / "repository").glob("d/*/packs/*/*"):
        data = bytearray(pack.read_bytes())
        data[20] ^= 1
        pack.write_bytes(data)
    assert shop.json("maintain", *OPS, code=16)["check"]["finding_count"] > 0


def test_without_a_policy_nothing_is_forgotten(shop: Penstock) -> None:
    settings = shop.folder / "penstock.toml"
    settings.write_text(
        "".join(line + "\n" for line in settings.read_text().split("\n") if not line.startswith("keep"))
    )
    done = shop.json("maintain", *OPS)
    assert done["forget"] is None
    assert done["prune"]["domains"]["main"]["snapshots"] == 2
    assert "Nothing is forgotten: no keep" in shop("maintain", *OPS).stdout


def test_what_is_refused(shop: Penstock, tmp_path: Path) -> None:
    assert shop.json("maintain", code=23)["error"]["type"] == "RoleForbids"
    assert shop.json("maintain", "--grace", "soon", *OPS, code=2)["error"]["type"] == "UsageError"
    assert shop.json("check", "--read-data", "--read-within", "3d", *OPS, code=2)["error"]["type"] == "UsageError"
    settings = shop.folder / "penstock.toml"
    settings.write_text(settings.read_text() + '[defaults]\ncheck_within = "sometimes"\n')
    assert shop.json("maintain", *OPS, code=3)["error"]["type"] == "SettingsError"


def test_a_check_of_a_part_alone(shop: Penstock) -> None:
    done = shop.json("check", "--read-within", "1d", *OPS)["checked"]
    assert (done["read_data"], done["in_part"]) == (True, True)
    assert done["read"] > shop.json("check", "--read-within", "30d", *OPS)["checked"]["read"], "read a moment ago"


def test_a_strangers_file_is_told_every_day_and_stops_nothing(shop: Penstock) -> None:
    stray = shop.folder / "repository" / "inventory.csv"
    stray.write_text("not ours")
    deleted = []
    for _ in range(2):
        passes(shop.folder / "repository", timedelta(days=1))
        document = shop.json("maintain", *OPS, code=16)
        assert "nothing was forgotten" not in document["error"]["message"]
        assert "delete the rest yourself" in document["error"]["hint"]
        assert any(line.startswith("inventory.csv: ") for line in document["error"]["details"])
        assert (document["check"]["finding_count"], document["check"]["harmless"]) == (1, 1)
        deleted.append(document["prune"]["domains"]["main"]["deleted"])
    assert deleted[-1] > 1
    assert stray.exists()
    stray.unlink()
    assert shop.json("maintain", *OPS)["check"]["finding_count"] == 0


def test_what_is_lost_for_good_is_given_up_and_it_goes_on(shop: Penstock) -> None:
    first = shop.json("snapshots", *OPS)["snapshots"][0]["id"]
    shop("hold", first[:8], "--reason", "the auditors", *OPS)
    (head,) = (shop.folder / "repository").glob(f"d/*/snapshots/{first}")
    (mark,) = (shop.folder / "repository").glob("d/*/marks/*")
    for path in (head, mark):
        data = bytearray(path.read_bytes())
        data[60] ^= 1
        path.write_bytes(data)
    assert shop.json("maintain", *OPS, code=16)["prune"] is None
    planned = shop("forget", "--unreadable", first, mark.name, *OPS).stdout
    assert f"{first} in main: " in planned
    assert f"d/{mark.parts[-3]}/marks/{mark.name}: " in planned
    assert "it follows snapshot 1 of its writer, which is gone" in planned
    assert "Nothing is forgotten yet" in planned
    assert mark.exists()
    document = shop.json("forget", "--unreadable", first, mark.name, "--apply", *OPS)
    assert (len(document["unreadable"]), len(document["gone"]), document["applied"]) == (2, 1, True)
    assert not mark.exists()
    assert shop.json("maintain", *OPS)["check"]["finding_count"] == 0
    assert shop("forget", "--gone", *OPS).stdout == "No head is gone that others name.\n"
    domain = mark.parts[-3]
    gone = ("ab" * 16, f"d/{domain}/parts/{'cd' * 16}")
    assert "Nothing is given up yet" in shop("forget", "--gone", *gone, *OPS).stdout
    document = shop.json("forget", "--gone", *gone, "--apply", *OPS)
    assert [one["id"] for one in document["gone"]] == ["ab" * 16, "cd" * 16]
    shop("forget", "--gone", f"d/{domain}/marks", *OPS, code=2)
    for wrong in (("--gone", "--unreadable", first), ("--gone", "--backup", "shop"), ("--unreadable",)):
        shop("forget", *wrong, *OPS, code=2)
