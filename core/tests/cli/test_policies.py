"""penstock policy: what to paste into the store."""

from pathlib import Path

import pytest
from core.tests.cli.running import PASSPHRASE, Penstock

pytestmark = pytest.mark.slow

OWNER = ("--passphrase-file", "passphrase")


@pytest.fixture
def made(penstock: Penstock, tmp_path: Path) -> Penstock:
    """A repository with the domains main and web, a writer key of each (that of main is this host's), and others."""
    (tmp_path / "passphrase").touch(mode=0o600)
    (tmp_path / "passphrase").write_text(PASSPHRASE)
    penstock.environ["PENSTOCK_REPOSITORY"] = f"file://{tmp_path}/r"
    penstock("init", f"file://{tmp_path}/r", *OWNER)
    penstock("key", "add", "--role", "writer", "--label", "web", "--out", "web.key", *OWNER)
    penstock("key", "add", "--role", "maintainer", "--label", "operations", "--out", "operations.key", *OWNER)
    return penstock


def test_each_text_has_a_title_and_comes_as_it_is(made: Penstock, tmp_path: Path) -> None:
    shown = made("policy", "--role", "writer", "--key", "web.key").stdout
    told = made.json("policy", "--role", "writer", "--key", "web.key")["policies"]
    assert shown == "\n".join(f"# {one['title']}\n{one['text']}\n" for one in told)
    assert str(tmp_path / "r") in told[0]["text"]
    assert [set(one) for one in told] == [{"title", "text"}] * len(told)


@pytest.mark.parametrize("role", ["writer", "maintainer", "owner"])
def test_any_key_prints_for_any_role(made: Penstock, role: str) -> None:
    domain = ("--domain", "web") if role == "writer" else ()
    for key in (("--key", "web.key"), ("--key", "operations.key"), OWNER):
        assert "This role needs:" in made("policy", "--role", role, *domain, *key).stdout


def test_the_domain_is_a_writers_own_or_the_one_that_is_named(made: Penstock) -> None:
    made("policy", "--role", "writer", "--key", "web.key")
    refused = made("policy", "--role", "writer", "--key", "operations.key", code=2)
    assert "which domain" in refused.stderr
    assert "main, web" in refused.stderr
    made("policy", "--role", "writer")
    for label in ("main", "web"):
        made("policy", "--role", "writer", "--domain", label, *OWNER)
    assert "no domain elsewhere" in made("policy", "--role", "writer", "--domain", "elsewhere", *OWNER, code=20).stderr
    assert "all domains" in made("policy", "--role", "owner", "--domain", "web", *OWNER, code=2).stderr
    made("policy", *OWNER, code=2)
