"""The commands as an operator runs them: real processes, a real database, a real repository."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from core.tests.cli.running import PASSPHRASE, Penstock, database, rows_of

pytestmark = pytest.mark.slow

OWNER = ("--passphrase-file", "passphrase")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_init_says_what_to_keep_where_and_keeps_keys_private(penstock: Penstock, tmp_path: Path) -> None:
    done = penstock("init", "file://" + str(tmp_path / "r"), "--owner-key", "owner.key", PENSTOCK_PASSPHRASE=PASSPHRASE)
    assert "The passphrase opens everything." in done.stdout
    assert "Owner's key: owner.key" in done.stdout
    keys = tmp_path / "config/penstock/keys"
    (writer,) = keys.iterdir()
    assert str(writer) in done.stdout
    assert (mode(keys), mode(writer), mode(tmp_path / "owner.key")) == (0o700, 0o600, 0o600)
    assert json.loads(writer.read_bytes())["role"] == "writer"
    assert json.loads((tmp_path / "owner.key").read_bytes())["role"] == "owner"


def test_init_without_a_way_back_in_is_refused(penstock: Penstock, tmp_path: Path) -> None:
    done = penstock("init", "file://" + str(tmp_path / "r"), code=20)
    assert "--passphrase-file FILE" in done.stderr
    assert not (tmp_path / "r").exists()


def test_init_with_an_owner_key_alone_needs_no_passphrase(penstock: Penstock, tmp_path: Path) -> None:
    repo = "file://" + str(tmp_path / "r")
    document = penstock.json("init", repo, "--owner-key", "owner.key", "--no-writer-key")
    assert document["passphrase"] is False
    assert document["writer_key"] is None
    assert penstock.json("snapshots", "--repo", repo, "--key", "owner.key") == {"snapshots": []}


def test_init_overwrites_no_key_and_makes_nothing_then(penstock: Penstock, tmp_path: Path) -> None:
    (tmp_path / "owner.key").write_text("precious", encoding="utf-8")
    penstock("init", "file://" + str(tmp_path / "r"), "--owner-key", "owner.key", code=2)
    assert (tmp_path / "owner.key").read_text(encoding="utf-8") == "precious"
    assert not (tmp_path / "r").exists()


def test_init_twice_is_refused(shop: Penstock) -> None:
    assert shop.json("init", *OWNER, code=11)["error"]["type"] == "RepositoryExists"


def test_backup_tells_what_it_did_on_stdout_alone(shop: Penstock) -> None:
    done = shop("backup", "shop")
    assert done.stdout.startswith("shop: snapshot ")
    assert done.stdout.count("\n") == 2
    assert done.stdout.splitlines()[1].startswith("  checkpoint: ")
    assert "backup shop: completed" in done.stderr
    assert shop("backup", "shop", "--quiet").stderr == ""


def test_requests_are_counted_and_limits_are_taken(shop: Penstock) -> None:
    limits = ("--limit-upload", "1 GiB", "--limit-download", "1GiB")
    (made,) = shop.json("backup", "shop", *limits)["backups"]
    assert set(made["sink"]["put"]) == {"requests", "errors", "bytes", "seconds"}
    assert made["sink"]["put"]["bytes"] >= made["stored"] > 0
    restored = shop.json("restore", "latest:shop", "--to", "sqlite:limited.db", *limits, *OWNER)
    assert restored["sink"]["get"]["bytes"] > 0
    assert shop.json("check", *limits)["sink"]["list"]["errors"] == 0
    assert "--limit-upload must be a size" in shop("backup", "shop", "--limit-upload", "fast", code=2).stderr


@pytest.mark.slow
def test_backup_of_a_url_is_named_after_it_or_as_asked(shop: Penstock) -> None:
    repo = ("--repo", "main")
    assert shop.json("backup", "sqlite:shop.db", *repo)["backups"][0]["name"] == "shop"
    assert shop.json("backup", "sqlite:shop.db", *repo, "--name", "other")["backups"][0]["name"] == "other"
    listed = shop.json("snapshots", "--backup", "other")["snapshots"]
    assert [one["backup"] for one in listed] == ["other"]


def test_one_failing_backup_does_not_stop_the_others(shop: Penstock) -> None:
    document = shop.json("backup", "sqlite:none.db", "shop", code=50)
    failed, made = document["backups"]
    assert failed["error"]["type"] == "SourceUnreachable"
    assert failed["snapshot"] is None
    assert made["error"] is None
    assert document["error"]["type"] == "PartialFailure"
    assert document["error"]["details"][0].startswith("none: ")


def test_a_single_failing_backup_has_its_own_exit_code(shop: Penstock) -> None:
    assert shop.json("backup", "sqlite:none.db", code=41)["error"]["type"] == "SourceUnreachable"


def test_when_all_backups_fail_for_one_reason_it_is_that_error(shop: Penstock) -> None:
    error = shop.json("backup", *(f"sqlite:none{number}.db" for number in range(5)), code=41)["error"]
    assert error["type"] == "SourceUnreachable"
    assert error["message"] == "all 5 backups failed"
    assert [line.partition(":")[0] for line in error["details"] if not line.startswith(" ")] == [
        f"none{number}" for number in range(5)
    ]


def test_when_all_backups_fail_for_different_reasons_it_is_a_partial_failure(shop: Penstock) -> None:
    document = shop.json("backup", "sqlite:none.db", "nosuch", code=50)
    assert document["error"]["type"] == "PartialFailure"
    assert [one["error"]["exit_code"] for one in document["backups"]] == [41, 3]


@pytest.mark.slow
def test_a_named_backup_goes_where_the_settings_say_unless_the_command_line_says_otherwise(
    shop: Penstock, tmp_path: Path
) -> None:
    elsewhere = "file://" + str(tmp_path / "elsewhere")
    there = shop.json("init", elsewhere, *OWNER)["repository"]
    main = shop.json("backup", "shop", PENSTOCK_REPOSITORY=elsewhere)["backups"][0]["repository"]
    assert main != there
    assert shop.json("backup", "shop", "--repo", elsewhere)["backups"][0]["repository"] == there
    assert shop.json("backup", "sqlite:shop.db", PENSTOCK_REPOSITORY=elsewhere)["backups"][0]["repository"] == there
    assert len(shop.json("snapshots", PENSTOCK_REPOSITORY=elsewhere)["snapshots"]) == 2


def test_backup_all_takes_those_of_the_settings(shop: Penstock) -> None:
    assert [one["name"] for one in shop.json("backup", "--all")["backups"]] == ["shop"]
    assert [one["name"] for one in shop.json("backup", "shop", "shop")["backups"]] == ["shop"], "once, if named twice"
    shop("backup", "--all", "shop", code=2)
    shop("backup", code=2)


def test_snapshots_are_listed_with_sizes_in_bytes(shop: Penstock) -> None:
    listed = shop.json("snapshots")["snapshots"]
    assert set(listed[0]) == {
        "id", "backup", "domain", "signer", "source", "started", "finished", "from_the_future", "host", "program",
        "parent", "streams", "size", "stored",
    }  # fmt: skip
    assert listed[0]["size"] == (shop.folder / "shop.db").stat().st_size
    assert listed[0]["id"][:8] in shop("snapshots").stdout


def test_show_gives_the_owner_streams_and_inventory(shop: Penstock) -> None:
    content = shop.json("show", "latest", *OWNER)["content"]
    assert [stream["name"] for stream in content["streams"]] == ["shop.db"]
    (orders,) = [item for item in content["inspection"]["inventory"] if item["name"] == "orders"]
    assert orders["rows"] == 2000
    text = shop("show", "latest", *OWNER).stdout
    assert f"{(shop.folder / 'shop.db').stat().st_size:,}" in text
    assert "2,000" in text


def test_show_gives_a_writer_the_catalogue_and_the_reason(shop: Penstock) -> None:
    document = shop.json("show", "latest:shop")
    assert document["content"] is None
    assert document["backup"] == "shop"
    assert "this is a writer key" in shop("show", "latest").stdout


def test_inspect_needs_no_repository(shop: Penstock) -> None:
    document = shop.json("inspect", "shop")
    assert document["engine"] == "SQLite"
    assert document["inventory"][0]["name"] == "orders"
    (stream,) = document["streams"]
    assert (stream["name"], stream["size_estimate"]) == ("shop.db", document["size_estimate"])
    text = shop("inspect", "sqlite:shop.db").stdout
    assert "orders" in text
    assert "shop.db  " in text
    assert "dump:    one read transaction" in text


def test_restore_gives_the_same_rows(shop: Penstock) -> None:
    document = shop.json("restore", "latest:shop", "--to", "sqlite:restored.db", *OWNER)
    assert document["streams"] == ["shop.db"]
    assert rows_of(shop.folder / "restored.db") == rows_of(shop.folder / "shop.db")
    again = shop("restore", "latest:shop", "--to", "sqlite:restored.db", *OWNER, code=47)
    assert "hint:" in again.stderr
    shop("restore", "latest:shop", "--to", "sqlite:restored.db", "--clean", *OWNER)


@pytest.mark.slow
def test_restore_refuses_what_makes_no_sense(shop: Penstock) -> None:
    shop("restore", "latest", *OWNER, code=2)
    shop("restore", "latest", "--to", "sqlite:x.db", "--to-backup", "shop", *OWNER, code=2)
    shop("restore", "latest", "--to", "sqlite:x.db", "-o", "owners", *OWNER, code=2)
    shop("restore", "latest", "--to", "sqlite:x.db", "-o", "nosuch=1", *OWNER, code=2)
    shop("restore", "latest", "--to", "sqlite:x.db", "--stream", "nosuch", *OWNER, code=15)
    assert (
        "is a snapshot of sqlite" in shop("restore", "latest", "--to", "postgres://localhost/x", *OWNER, code=2).stderr
    )
    assert not (shop.folder / "x.db").exists()


def test_cat_writes_the_stream_and_nothing_else(shop: Penstock) -> None:
    environ = {**shop.environ, "PENSTOCK_PASSPHRASE": PASSPHRASE}
    command = [sys.executable, "-m", "penstock", "cat", "latest:shop", "shop.db"]
    done = subprocess.run(command, cwd=shop.folder, env=environ, capture_output=True, timeout=300, check=True)
    assert done.stdout == (shop.folder / "shop.db").read_bytes()


def test_a_reader_that_goes_away_is_no_error(shop: Penstock) -> None:
    database(shop.folder / "large.db", 60_000)
    shop("backup", "sqlite:large.db", "--repo", "main")
    cat = f"{sys.executable} -m penstock cat latest:large large.db --quiet"
    command = f"{cat} | head -c 10 >/dev/null; echo ${{PIPESTATUS[0]}}"
    environ = {**shop.environ, "PENSTOCK_PASSPHRASE": PASSPHRASE}
    done = subprocess.run(
        ["bash", "-c", command], cwd=shop.folder, env=environ, capture_output=True, text=True, timeout=300, check=True
    )
    assert (done.stdout, done.stderr) == ("141\n", "")


@pytest.mark.slow
def test_check_names_a_flipped_bit_and_fails(penstock: Penstock, tmp_path: Path) -> None:
    repo = ("--repo", "file://" + str(tmp_path / "r"))
    database(tmp_path / "a.db")
    penstock("init", *repo, PENSTOCK_PASSPHRASE=PASSPHRASE)
    penstock("backup", "sqlite:a.db", *repo)
    assert penstock.json("check", *repo)["findings"] == []
    assert penstock.json("check", "--read-data", *repo, PENSTOCK_PASSPHRASE=PASSPHRASE)["checked"]["opened"] is True
    (pack,) = (tmp_path / "r").glob("d/*/packs/*/*")
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)
    document = penstock.json("check", "--read-data", *repo, code=16)
    assert [finding["key"] for finding in document["findings"]] == [pack.relative_to(tmp_path / "r").as_posix()]
    assert document["checked"]["opened"] is False
    done = penstock("check", "--read-data", *repo, code=16)
    assert pack.name in done.stdout
    assert "penstock: error: damaged or missing objects: 1" in done.stderr


def test_plugins_are_listed(shop: Penstock) -> None:
    listed = {(one["kind"], one["name"]) for one in shop.json("plugins")["plugins"]}
    assert listed >= {("source", "sqlite"), ("sink", "filesystem")}
    assert "sqlite:" in shop("plugins").stdout


@pytest.mark.slow
def test_config_commands(shop: Penstock) -> None:
    assert shop.json("config", "check") == {
        "file": str(shop.folder / "penstock.toml"),
        "repositories": ["main"],
        "backups": ["shop"],
    }
    shown = shop.json("config", "show")
    assert shown["repositories"][0]["location"] == str(shop.folder / "repository")
    assert shown["backups"][0]["memory"] == 128 * 1024**2
    assert json.loads(shop("config", "schema").stdout)["title"] == "penstock.toml"
    assert "[repositories.main]" in shop("config", "init").stdout
    shop("config", "check", "--config", "nowhere.toml", code=3)


def test_config_check_without_a_file_says_where_it_looked(penstock: Penstock) -> None:
    assert "looked for" in penstock("config", "check", code=3).stderr


def test_config_show_has_what_is_kept_and_how_often_all_is_read(penstock: Penstock, tmp_path: Path) -> None:
    (tmp_path / "penstock.toml").write_text(
        "[repositories]\n"
        'near = { url = "file:///near" }\n'
        'far = { url = "file:///far", check_within = "12w" }\n'
        "[backups]\n"
        'one = { url = "sqlite:one.db", repository = "near" }\n'
        'two = { url = "sqlite:two.db", repository = "far", timezone = "Asia/Tokyo",'
        ' keep = { within = "36h", tags = ["release"], hourly = 0, at_least = 1 }, renew_every = "6w" }\n'
        '[defaults]\ntimezone = "Europe/Berlin"\ncheck_within = "7d"\nkeep = { daily = 14 }\n',
        encoding="utf-8",
    )
    document = penstock.json("config", "show")
    default = {"keep": {"daily": 14, "at_least": 3}, "timezone": "Europe/Berlin"}
    assert {"keep": document["keep"], "timezone": document["timezone"]} == default
    one, two = document["backups"]
    assert {"keep": one["keep"], "timezone": one["timezone"]} == default
    assert two["keep"] == {"within": "1d12h", "tags": ["release"], "at_least": 1}
    assert two["timezone"] == "Asia/Tokyo"
    assert [document["renew_every"], one["renew_every"], two["renew_every"]] == [None, None, "42d"]
    assert document["check_within"] == "7d"
    assert [one["check_within"] for one in document["repositories"]] == ["7d", "84d"]
    shown = penstock("config", "show").stdout
    assert "keep:         daily 14, at_least 3 (Europe/Berlin)" in shown
    assert "within 1d12h, tags release, at_least 1 (Asia/Tokyo)" in shown


def test_config_show_without_rules_keeps_everything(penstock: Penstock) -> None:
    document = penstock.json("config", "show")
    assert (document["keep"], document["timezone"], document["check_within"]) == (None, "UTC", "30d")
    assert "keep:         everything" in penstock("config", "show").stdout


def test_config_show_looks_no_secret_up(penstock: Penstock, tmp_path: Path) -> None:
    (tmp_path / "penstock.toml").write_text(
        f'[repositories.r]\nurl = "file:///r"\npassphrase = {{ command = ["echo", "{PASSPHRASE}"] }}\n',
        encoding="utf-8",
    )
    assert "command echo" in penstock("config", "show").stdout


@pytest.mark.slow
def test_the_demo_proves_what_it_says(penstock: Penstock, tmp_path: Path) -> None:
    document = penstock.json("demo", "--rows", "20000")
    assert document["second_backup"]["stored"] < document["first_backup"]["stored"]
    assert document["restore_second"]["rows"] == 20_100
    assert document["damage"]["refused"] == "DamagedObject"
    text = penstock("demo", "--rows", "20000").stdout
    assert text.count("Proved:") == 5
    assert list(tmp_path.glob("penstock-demo-*")) == []
