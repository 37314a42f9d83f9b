import re
from pathlib import Path

import pytest

from penstock.api import PenstockError, PluginNotFound, SettingsError
from penstock.api.secrets import SecretEnv, SecretFile
from penstock.plugins import PluginHost
from penstock.settings import EXAMPLE, Settings, find_settings, load_settings, parse_size
from penstock.settings.sizes import SIZE_PATTERN

GOOD = """
[repositories.main]
url = "file:///srv/backups"
key = "keys/main.key"
passphrase = { file = "pass.txt" }

[repositories.other]
type = "filesystem"
path = "here"

[backups.shop]
url = "sqlite:shop.db"
repository = "main"
memory = "256MiB"
compression = 7

[backups.blog]
type = "sqlite"
path = "/srv/blog.db"
row_counts = "off"
repository = "other"

[defaults]
memory = "1 GiB"
cache = "cache"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "penstock.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, text: str, *, plugins: bool = False) -> str:
    """Everything that the error for this file says."""
    path = write(folder, text)
    with pytest.raises(SettingsError) as caught:  # noqa: PT012 - either of the two
        settings = load_settings(path)
        if plugins:
            settings.check_plugins(PluginHost())
    error = caught.value
    assert error.exit_code == 3
    assert error.__cause__ is None, "pydantic's own error quotes the values"
    return "\n".join((error.message, *error.details, error.hint or ""))


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, GOOD))
    main = settings.repository("main")
    assert main.key == tmp_path / "keys/main.key"
    assert main.passphrase == SecretFile(file=tmp_path / "pass.txt")
    assert settings.defaults.cache == tmp_path / "cache"
    host = PluginHost()
    assert settings.make_sink("other", host).location == str(tmp_path / "here")
    assert settings.make_source("shop", host).location == str(tmp_path / "shop.db")
    assert settings.make_source("blog", host).location == "/srv/blog.db"


def test_values_are_read_in_their_units(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, GOOD))
    assert settings.backup("shop").memory == 256 * 1024**2
    assert settings.backup("shop").compression == 7
    assert settings.defaults.memory == 1024**3


def test_a_url_and_settings_of_its_plugin_go_together(tmp_path: Path) -> None:
    text = '[repositories.r]\nurl = "file:///r"\n[backups.b]\nurl = "sqlite:b.db"\nbusy_timeout = 3\n'
    source = load_settings(write(tmp_path, text)).make_source("b", PluginHost())
    assert source.settings.model_dump()["busy_timeout"] == 3
    again = refusal(tmp_path, text + 'path = "c.db"\n', plugins=True)
    assert "backups.b: path is set twice: the url sets it, too" in again


def test_a_backup_goes_to_the_only_repository_without_naming_it(tmp_path: Path) -> None:
    text = '[repositories.r]\nurl = "file:///r"\n[backups.b]\nurl = "sqlite:b.db"\n'
    assert load_settings(write(tmp_path, text)).repository_of("b") == "r"
    more = refusal(tmp_path, text + '[repositories.s]\nurl = "file:///s"\n')
    assert "backups.b.repository: must name a repository of this file; there are: r, s" in more


def test_all_errors_are_listed_with_their_key_paths(tmp_path: Path) -> None:
    said = refusal(
        tmp_path,
        """
[repositories.main]
urll = "file:///x"
[repositories."my own"]
url = "file:///x"
[backups.shop]
url = "sqlite:shop.db"
memory = "lots"
compression = 44
[defaults]
cahce = "x"
[backup.shop]
x = 1
""",
    )
    assert "penstock.toml: 6 settings are not valid" in said
    for expected in (
        "repositories.main: needs either url or type: urll is neither; did you mean url?",
        'repositories."my own": a name consists of',
        "backups.shop.memory: must be a size, such as 128MiB or 1GiB",
        'backups.shop.compression: must be "auto" or a level from 1 to 19',
        "defaults.cahce: unknown key; did you mean cache? (allowed: memory, compression, cache_size, cache,",
        "backup: unknown key; did you mean backups? (allowed: repositories, backups, defaults)",
    ):
        assert expected in said


@pytest.mark.parametrize(
    "value", ['"hunter2hunter2"', '{ env = "A", file = "hunter2hunter2" }', '{ pass = "hunter2hunter2" }', "42"]
)
def test_a_plaintext_passphrase_is_refused_with_the_way_out(tmp_path: Path, value: str) -> None:
    said = refusal(tmp_path, f'[repositories.r]\nurl = "file:///r"\npassphrase = {value}\n')
    assert "repositories.r.passphrase: must say where to find the secret" in said
    assert '{ env = "NAME" }' in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    "text",
    [
        '[repositories.r]\nurl = "file:///r"\nkey = ["SEKRET"]',
        '[repositories.r]\nurl = ["SEKRET"]',
        "repositories = 'SEKRET'",
        '[repositories]\nr = "SEKRET"',
        '[defaults]\nmemory = "SEKRET"\ncompression = "SEKRET"\ncache = 3',
        '[repositories.r]\nurl = "file:///r"\n[backups.b]\nurl = "sqlite:b.db"\nrepository = "SEKRET"',
        '[repositories.r]\nurl = "SEKRET"',
        '[repositories.r]\ntype = "filesystem"\npath = "/x"\npassword = "SEKRET"',
        '[repositories.r]\nurl = "file://user:SEKRET@host/x"',
        '[repositories.r]\nurl = "file:///r"\n[backups.b]\nurl = "sqlite:b.db"\nrow_counts = "SEKRET"',
        '[repositories.r\nurl = "SEKRET"',
        'SEKRET = "a',
    ],
)
def test_values_are_never_echoed(tmp_path: Path, text: str) -> None:
    said = refusal(tmp_path, text, plugins=True)
    assert "SEKRET" not in said.replace("SEKRET:", "")


def test_a_syntax_error_names_its_line(tmp_path: Path) -> None:
    said = refusal(tmp_path, "[repositories.main]\nurl = file:///x\n")
    assert "penstock.toml is not valid TOML" in said
    assert "line 2" in said


def test_a_file_that_is_not_text_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "penstock.toml"
    path.write_bytes(b"[defaults]\ncache = '\xff'\n")
    with pytest.raises(SettingsError, match="line 2: not UTF-8"):
        load_settings(path)


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot read the settings in .*nowhere.toml"):
        find_settings(tmp_path / "nowhere.toml")


def test_plugins_judge_their_part_and_all_of_it_is_listed(tmp_path: Path) -> None:
    said = refusal(
        tmp_path,
        """
[repositories.main]
type = "filesytem"
path = "x"
[repositories.second]
type = "filesystem"
pth = "x"
[backups.shop]
type = "sqlite"
path = "shop.db"
repository = "main"
row_countz = "off"
""",
        plugins=True,
    )
    assert "repositories.main: no plugin provides the sink 'filesytem'" in said
    assert "Try filesystem instead." in said
    assert "repositories.second: path is missing" in said
    assert "did you mean path?" in said
    assert "backups.shop" in said
    assert "did you mean row_counts?" in said


def test_an_unknown_name_gets_a_suggestion(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, GOOD))
    with pytest.raises(SettingsError, match=r"no \[backups.shoop\]; there are: shop, blog; did you mean shop\?"):
        settings.backup("shoop")
    with pytest.raises(SettingsError, match="no settings file was found"):
        Settings().repository("main")


def test_a_plugin_that_is_missing_keeps_its_own_error(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, '[repositories.r]\ntype = "tape"\n'))
    with pytest.raises(PluginNotFound, match=r"penstock.toml: repositories.r: no plugin provides") as caught:
        settings.make_sink("r", PluginHost())
    assert isinstance(caught.value, PenstockError)


def test_a_place_in_a_folder_that_may_not_be_searched_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path) -> bool:  # the tests may run as root, who may search everything
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", denied)
    assert find_settings(None, [tmp_path / "penstock.toml"]).path is None


def test_the_places_are_tried_in_order(tmp_path: Path) -> None:
    places = [tmp_path / folder / "penstock.toml" for folder in ("here", "home", "etc")]
    assert find_settings(None, places).path is None
    for place in reversed(places):
        place.parent.mkdir()
        write(place.parent, "")
        assert find_settings(None, places).path == place
    assert find_settings(places[2], places).path == places[2]


def test_what_a_size_may_be_is_what_the_schema_says() -> None:
    for text in ("128MiB", "1.5 GiB", "4096", "2T", "1kb"):
        assert re.search(SIZE_PATTERN, text)
        parse_size(text)


def test_a_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = load_settings(write(tmp_path, '[repositories.r]\ntype = "filesystem"\npath = "~/x"\n'))
    assert settings.make_sink("r", PluginHost()).location == str(tmp_path / "x")


def test_a_reference_to_a_secret_is_not_resolved_by_reading(tmp_path: Path) -> None:
    settings = load_settings(
        write(tmp_path, '[repositories.r]\nurl = "file:///r"\npassphrase = { env = "NO_SUCH_VARIABLE" }\n')
    )
    assert settings.repository("r").passphrase == SecretEnv(env="NO_SUCH_VARIABLE")


def test_the_example_is_valid_also_with_its_comments_taken_away(tmp_path: Path) -> None:
    bare = "\n".join(line.removeprefix("# ") if " = " in line else line for line in EXAMPLE.splitlines())
    assert bare != EXAMPLE
    for text in (EXAMPLE, bare):
        load_settings(write(tmp_path, text)).check_plugins(PluginHost())


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("128MiB", 1 << 27),
        ("1.5 GiB", 3 << 29),
        ("512MB", 512 * 10**6),
        ("4096", 4096),
        ("1kb", 1000),
        ("2t", 2 * 10**12),
        (" 10 mib ", 10 << 20),
    ],
)
def test_sizes_are_parsed(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        *("", "MiB", "-1", "1 TB2", "0", "0.1", "1e9", "9" * 40, "9" * 400, "½ GiB", "٣MiB"),
        *("8 Mbit", "1MiB!", ".5GiB", "1 \n2"),
    ],
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_size(text)


@pytest.mark.parametrize(("value", "size"), [('"500MiB"', 500 << 20), ("4096", 4096), ("0", 0)])
def test_what_a_host_remembers_has_a_size_or_none(tmp_path: Path, value: str, size: int) -> None:
    settings = load_settings(write(tmp_path, GOOD.replace("compression = 7", f"cache_size = {value}")))
    assert (settings.backups["shop"].cache_size, settings.backups["blog"].cache_size) == (size, None)
    assert settings.defaults.cache_size is None


@pytest.mark.parametrize("value", ["-1", "true", "false", '"0"', '"much"', "1.5"])
def test_what_a_host_remembers_has_no_other_size(tmp_path: Path, value: str) -> None:
    with pytest.raises(SettingsError, match="cache_size"):
        load_settings(write(tmp_path, f"[defaults]\ncache_size = {value}\n"))
