"""penstock diff, as an operator runs it."""

import sqlite3
from contextlib import closing

import pytest
from core.tests.cli.running import PASSPHRASE, Penstock

pytestmark = pytest.mark.slow

OWNER = ("--passphrase-file", "passphrase")


@pytest.fixture(scope="module")
def two(shop: Penstock) -> Penstock:
    """A second snapshot of the shop: more orders, and another table."""
    with closing(sqlite3.connect(shop.folder / "shop.db")) as connection, connection:
        connection.executemany("INSERT INTO orders (note) VALUES (?)", [(f"late {row}",) for row in range(500)])
        connection.execute("CREATE TABLE people (id INTEGER PRIMARY KEY)")
    shop("backup", "shop")
    return shop


def ids(penstock: Penstock) -> list[str]:
    return [one["id"] for one in penstock.json("snapshots")["snapshots"]]


def test_the_latest_is_compared_with_the_one_before(two: Penstock) -> None:
    first, second = ids(two)
    document = two.json("diff", *OWNER)
    assert set(document) == {"before", "after", "notes", "items", "streams", "alike", "summary", "sink"}
    assert (document["before"]["id"], document["after"]["id"]) == (first, second)
    assert document["notes"] == []
    orders, people = document["items"]
    assert (orders["kind"], orders["name"], orders["change"]) == ("table", "orders", "changed")
    assert (orders["before"]["rows"], orders["after"]["rows"]) == (2000, 2500)
    assert (people["name"], people["change"], people["before"]) == ("people", "appeared", None)
    (stream,) = document["streams"]
    assert set(stream) == {"name", "change", "size_before", "size_after", "new", "gone"}
    assert 0 < stream["new"] < stream["size_after"] == (two.folder / "shop.db").stat().st_size
    assert stream["new"] - stream["gone"] == stream["size_after"] - stream["size_before"]
    assert document["summary"] == {
        "snapshot": first,
        "items": {"table": {"changed": 1, "appeared": 1, "gone": 0}},
        "streams": {"changed": 1, "appeared": 0, "gone": 0},
        "new": stream["new"],
        "gone": stream["gone"],
    }
    for arguments in ((second[:8],), ("latest:shop",), ("--backup", "shop"), (first, second), (first[:9], "latest")):
        again = two.json("diff", *arguments, *OWNER)
        assert {**again, "sink": None} == {**document, "sink": None}
    assert "get" in document["sink"]


def test_it_is_shown_as_tables_and_a_sentence(two: Penstock) -> None:
    first, second = ids(two)
    lines = two("diff", *OWNER, "--quiet").stdout.splitlines()
    assert lines[0].startswith(f"from: {first[:8]}  main/shop, ")
    assert lines[1].startswith(f"to:   {second[:8]}  main/shop, ")
    assert ["table", "orders", "changed", "2,000", "2,500"] in [line.split()[:5] for line in lines]
    document = two.json("diff", *OWNER)
    (stream,) = document["streams"]
    figures = [f"{stream[name]:,}" for name in ("size_before", "size_after", "new", "gone")]
    assert ["shop.db", "changed", *figures] in [line.split() for line in lines]
    assert lines[-2].startswith("1 table changed, 1 appeared, 0 gone, ")
    alike = document["alike"]["items"]
    assert lines[-1] == f"With the same figures: {alike} objects. With the same bytes: 0 streams."


def test_two_in_the_wrong_order_are_compared_all_the_same(two: Penstock) -> None:
    first, second = ids(two)
    document = two.json("diff", second, first, *OWNER)
    assert document["notes"] == ["The second snapshot is older than the first: what is told as new is what went since."]
    assert [one["change"] for one in document["items"]] == ["changed", "gone"]
    assert document["notes"][0] in two("diff", second, first, *OWNER, COLUMNS="200").stdout
    same = two.json("diff", first, first, *OWNER)
    assert (same["items"], same["streams"]) == ([], [])
    assert same["alike"]["streams"] == 1


def test_what_cannot_be_compared_is_refused(two: Penstock) -> None:
    first, _ = ids(two)
    error = two.json("diff", first, *OWNER, code=15)["error"]
    assert error["message"] == f"no snapshot of shop is older than {first[:8]}"
    assert two.json("diff", "--backup", "attic", *OWNER, code=15)["error"]["type"] == "SnapshotNotFound"
    (two.folder / "blog.toml").write_text(
        (two.folder / "penstock.toml").read_text(encoding="utf-8").replace("backups.shop", "backups.blog"),
        encoding="utf-8",
    )
    two("backup", "blog", "--config", "blog.toml")
    error = two.json("diff", first, "latest:blog", "--backup", "shop", *OWNER, code=15)["error"]
    assert error["message"] == "latest:blog is a snapshot of blog, not of shop"
    assert two.json("diff", first, "latest:blog", *OWNER)["notes"] == ["They are of two backups: shop and blog."]


def test_a_key_that_opens_no_backup_is_told_whose_does(two: Penstock) -> None:
    assert two.json("diff", code=23)["error"]["type"] == "RoleForbids"
    assert two.json("diff", "--backup", "shop", PENSTOCK_PASSPHRASE=PASSPHRASE)["summary"]["new"] > 0


def test_show_has_a_line_of_it(two: Penstock) -> None:
    first, second = ids(two)[:2]
    document = two.json("show", second, *OWNER)
    assert document["since"] == two.json("diff", first, second, *OWNER)["summary"]
    assert document["since_unknown"] is None
    line = f"Since the one before, {first[:8]}: 1 table changed, 1 appeared, 0 gone, "
    assert line in two("show", second, *OWNER, COLUMNS="200").stdout
    assert "Since the one before" not in two("show", first, *OWNER).stdout
    assert "Since the one before" not in two("show", second).stdout
    two("forget", first, "--apply", *OWNER)
    text = two("show", second, *OWNER, COLUMNS="200").stdout
    assert "Since the one before: unknown, " in text
    two("undelete", first, *OWNER)
