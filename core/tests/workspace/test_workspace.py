"""The workspace without a command line: no prompt, no environment, nothing printed."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from core.tests.cli.running import database, rows_of
from core.tests.repository.lab import CHEAP, PASSPHRASE

from penstock.api import (
    KeyMissing,
    KeyProblem,
    RestoreTarget,
    RoleForbids,
    Secret,
    SettingsError,
    StopToken,
    UsageError,
    WrongKey,
    WrongPassphrase,
)
from penstock.engine import backup, restore
from penstock.format.trust import Role
from penstock.repository import Repository
from penstock.repository.snapshots import find_snapshot
from penstock.repository.trust.keyring import add_writer, revoke
from penstock.workspace import Credentials, Folders, Need, Overrides, Workspace, key_files

SETTINGS = """
[repositories.main]
type = "filesystem"
path = "repository"
limit_upload = "10MiB"

[backups.shop]
url = "sqlite:shop.db"
memory = "64MiB"

[defaults]
limit_upload = "1MiB"
limit_download = "1GiB"
"""


class Prompts:
    """Somebody who answers, and notes what they were asked."""

    def __init__(self, answer: Secret | None) -> None:
        self.answer = answer
        self.asked: list[tuple[str, bool]] = []

    def passphrase(self, repository: str, *, optional: bool) -> Secret | None:
        self.asked.append((repository, optional))
        return self.answer

    def new_passphrase(self, purpose: str) -> Secret:
        del purpose
        raise AssertionError("nobody needs a new one")

    def tried(self, repository: str, works: Callable[[Secret], bool]) -> bool:
        raise AssertionError("nobody tries one")


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """Those of a user of whom nobody else knows."""
    (tmp_path / "penstock.toml").write_text(SETTINGS, encoding="utf-8")
    return Folders(tmp_path / "config", tmp_path / "cache", (tmp_path / "penstock.toml",))


@pytest.fixture
def made(folders: Folders, tmp_path: Path) -> Repository:
    """The repository of the settings, and this host's writer key in its default place."""
    database(tmp_path / "shop.db")
    with Workspace(folders) as workspace:
        owner = Repository.create(workspace.place().sink, passphrase=PASSPHRASE, cost=CHEAP)
        writer = add_writer(owner, "host", domain="main").to_key_file()
        key_files.new_private_file(workspace.new_key_file(workspace.place(), owner.id), writer)
    return owner


@pytest.mark.slow
@pytest.mark.usefixtures("made")
def test_settings_and_a_passphrase_make_a_backup_and_a_restore(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PENSTOCK_PASSPHRASE", "another one: it must not be read")
    monkeypatch.setenv("PENSTOCK_REPOSITORY", "file:///nowhere")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/nowhere")
    with Workspace(folders, credentials=Credentials(passphrase=PASSPHRASE)) as workspace:
        plan = workspace.plan("shop")
        result = backup(
            workspace.repository(Need.ANY, plan.repository),
            plan.source,
            name=plan.name,
            source_type=type(plan.source).name,
            cache_dir=workspace.cache_to_write(),
            memory=workspace.memory(plan.settings),
            compression=workspace.compression(plan.settings),
            listener=lambda _: None,
        )
        owner = workspace.repository(Need.OWNER)
        restore(
            find_snapshot(owner, result.snapshot.hex()),
            workspace.host.make_source_from_url(f"sqlite:{tmp_path / 'restored.db'}"),
            target=RestoreTarget(),
            streams=None,
            verify_first=True,
            listener=lambda _: None,
        )
        assert workspace.memory(plan.settings) == 64 << 20
        assert workspace.figures()["put"].bytes > 0
    assert rows_of(tmp_path / "restored.db") == rows_of(tmp_path / "shop.db")
    assert (tmp_path / "cache").is_dir()
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("made")
def test_the_owner_is_asked_for_only_where_a_writer_key_does_not_do(folders: Folders) -> None:
    prompts = Prompts(PASSPHRASE)
    with Workspace(folders, prompts=prompts) as workspace:
        assert workspace.repository(Need.ANY).access.role is Role.WRITER
        assert prompts.asked == []
        assert workspace.repository(Need.OWNER).access.role is Role.OWNER
        assert prompts.asked == [("main", False)]
    declining = Prompts(None)
    with Workspace(folders, prompts=declining) as workspace:
        assert workspace.repository(Need.OWNER_OR_ANY).access.role is Role.WRITER
        with pytest.raises(KeyMissing, match="no passphrase was given"):
            workspace.repository(Need.OWNER)
        assert declining.asked == [("main", True), ("main", False)]


@pytest.mark.usefixtures("made")
def test_without_anybody_to_ask_the_owner_is_refused(folders: Folders, tmp_path: Path) -> None:
    with Workspace(folders) as workspace, pytest.raises(RoleForbids):
        workspace.repository(Need.OWNER)
    nobody = Folders(tmp_path / "none", folders.cache, folders.settings)
    with Workspace(nobody) as workspace, pytest.raises(KeyMissing, match="no key and no passphrase for main"):
        workspace.repository(Need.ANY)


def revoke_writer(folders: Folders) -> None:
    """The owner revokes this host's key, which stays where it is."""
    with Workspace(folders, credentials=Credentials(passphrase=PASSPHRASE)) as workspace:
        owner = workspace.repository(Need.OWNER)
        (writer,) = owner.log.active(Role.WRITER)
        revoke(owner, writer.grant.key)


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize("need", [Need.ANY, Need.OWNER_OR_ANY])
def test_a_revoked_key_makes_way_for_the_passphrase(folders: Folders, need: Need) -> None:
    revoke_writer(folders)
    warnings: list[str] = []
    given = Credentials(passphrase=PASSPHRASE)
    with Workspace(folders, credentials=given, warn=warnings.append) as workspace:
        assert workspace.repository(need).access.role is Role.OWNER
    assert ["revoked this key" in one for one in warnings] == ([True] if need is Need.ANY else [])
    with Workspace(folders, environ={"PENSTOCK_PASSPHRASE": PASSPHRASE.reveal()}) as workspace:
        assert workspace.repository(need).access.role is Role.OWNER
    asked = Prompts(PASSPHRASE)
    with Workspace(folders, prompts=asked) as workspace:
        assert workspace.repository(need).access.role is Role.OWNER
    assert asked.asked == [("main", True)]


@pytest.mark.usefixtures("made")
def test_where_nothing_opens_it_each_reason_is_told(folders: Folders, tmp_path: Path) -> None:
    revoke_writer(folders)
    with Workspace(folders) as workspace, pytest.raises(WrongKey, match="revoked this key"):
        workspace.repository(Need.ANY)
    with Workspace(folders, prompts=Prompts(None)) as workspace, pytest.raises(WrongKey, match="revoked this key"):
        workspace.repository(Need.ANY)
    wrong = Credentials(passphrase=Secret("another"))
    with Workspace(folders, credentials=wrong) as workspace, pytest.raises(WrongPassphrase) as caught:
        workspace.repository(Need.ANY)
    assert "revoked this key" in caught.value.details[0]
    (key,) = (tmp_path / "config" / "keys").iterdir()
    named = Credentials(key_file=key, passphrase=PASSPHRASE)
    with Workspace(folders, credentials=named) as workspace, pytest.raises(WrongKey):
        workspace.repository(Need.ANY)


def test_the_environment_is_the_one_that_was_handed_in(made: Repository, folders: Folders, tmp_path: Path) -> None:
    environ = {
        "PENSTOCK_REPOSITORY": f"file://{tmp_path / 'repository'}",
        "PENSTOCK_PASSPHRASE": PASSPHRASE.reveal(),
    }
    bare = Folders(tmp_path / "none", tmp_path / "cache")
    with Workspace(bare, environ=environ) as workspace:
        assert workspace.repository(Need.OWNER).id == made.id
    with Workspace(bare) as workspace, pytest.raises(UsageError, match="which repository"):
        workspace.place()


@pytest.mark.usefixtures("made")
def test_a_key_file_that_everybody_can_read_is_refused(folders: Folders, tmp_path: Path) -> None:
    (key,) = (tmp_path / "config" / "keys").iterdir()
    key.chmod(0o644)
    with Workspace(folders) as workspace, pytest.raises(KeyProblem, match="everybody on this host can read"):
        workspace.repository(Need.ANY)


def test_limits_come_from_the_caller_the_repository_or_the_defaults(folders: Folders) -> None:
    with Workspace(folders) as workspace:
        assert workspace.limits(workspace.settings.repository("main")) == (10 << 20, 1 << 30)
        assert workspace.limits() == (1 << 20, 1 << 30)
    with Workspace(folders, overrides=Overrides(limit_upload=7)) as workspace:
        assert workspace.limits(workspace.settings.repository("main")) == (7, 1 << 30)


def test_one_token_stops_every_source_and_sink(folders: Folders) -> None:
    stop = StopToken()
    with Workspace(folders, stop=stop) as workspace:
        assert workspace.place().sink.stop is stop
        assert workspace.plan("shop").source.stop is stop


def test_a_sink_that_is_being_closed_counts_as_asked(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[frozenset[int]] = []
    with Workspace(folders) as workspace:
        sink = workspace.place().meter.inner
        monkeypatch.setattr(sink, "close", lambda: asked.append(workspace.requesting()))
    assert asked == [{threading.get_ident()}]
    assert workspace.requesting() == frozenset()


def test_no_secret_shows_in_what_is_handed_in(folders: Folders) -> None:
    assert PASSPHRASE.reveal() not in repr(Credentials(passphrase=PASSPHRASE))
    with Workspace(folders, environ={"PENSTOCK_PASSPHRASE": PASSPHRASE.reveal()}) as workspace:
        assert PASSPHRASE.reveal() not in repr(workspace.place()) + repr(vars(workspace)["_unlocker"])


def test_a_repositorys_pack_size_is_its_own_or_the_defaults(folders: Folders, tmp_path: Path) -> None:
    settings = tmp_path / "penstock.toml"
    plain = settings.read_text(encoding="utf-8")
    with Workspace(folders) as workspace:
        assert workspace.pack_size() is None
    settings.write_text(plain.replace("[defaults]", '[defaults]\npack_size = "8MiB"'), encoding="utf-8")
    with Workspace(folders) as workspace:
        assert workspace.pack_size() == workspace.pack_size(f"file://{tmp_path}/x") == 8 << 20
    own = settings.read_text(encoding="utf-8")
    own = own.replace("[repositories.main]", '[repositories.main]\npack_size = "4MiB"')
    settings.write_text(own, encoding="utf-8")
    with Workspace(folders) as workspace:
        assert workspace.pack_size("main") == 4 << 20


@pytest.mark.parametrize("size", ["1MiB", "17MiB"])
def test_a_pack_size_that_no_pack_has_is_refused(folders: Folders, tmp_path: Path, size: str) -> None:
    settings = tmp_path / "penstock.toml"
    plain = settings.read_text(encoding="utf-8")
    settings.write_text(plain.replace("[defaults]", f'[defaults]\npack_size = "{size}"'), encoding="utf-8")
    with Workspace(folders) as workspace, pytest.raises(SettingsError, match="2MiB to 16MiB"):
        workspace.pack_size("main")


def test_what_opens_one_repository_is_not_tried_on_another(folders: Folders, made: Repository, tmp_path: Path) -> None:
    there = f"file://{tmp_path}/away"
    away = Secret("that of the other owner")
    with Workspace(folders) as workspace:
        Repository.create(workspace.place(there).sink, passphrase=away, cost=CHEAP)
    ours = Credentials(passphrase=PASSPHRASE)
    with Workspace(folders, environ={"PENSTOCK_PASSPHRASE": away.reveal()}, credentials=ours) as workspace:
        assert workspace.repository(Need.OWNER).id == made.id
        with pytest.raises(KeyMissing, match="no key and no passphrase") as caught:
            workspace.other_repository(Need.OWNER_OR_ANY, there, Credentials())
        assert "--to-key FILE or --to-passphrase-file FILE, set PENSTOCK_TO_PASSPHRASE" in (caught.value.hint or "")
        other = workspace.other_repository(Need.OWNER_OR_ANY, there, Credentials(passphrase=away))
        assert other.access.role is Role.OWNER
    with Workspace(folders, environ={"PENSTOCK_TO_PASSPHRASE": away.reveal()}, credentials=ours) as workspace:
        assert workspace.other_repository(Need.OWNER_OR_ANY, there, Credentials()).id == other.id
