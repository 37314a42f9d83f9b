"""What `penstock policy` says of a folder."""

import stat
from pathlib import Path

from penstock.api import Right, Rights
from penstock_filesystem import FilesystemSettings, FilesystemSink


def test_it_says_who_may_have_the_folder_and_what_that_is_worth() -> None:
    sink = FilesystemSink(FilesystemSettings(path=Path("/srv/my backups")))
    folder, limits = sink.policy([Rights("", frozenset({Right.LIST, Right.CREATE}))])
    assert "install -d -m 0700 -o penstock '/srv/my backups'" in folder.text
    assert "needs: list, create." in limits.text
    assert "can delete the whole repository" in limits.text


def test_it_is_true_that_the_owner_of_a_folder_can_delete_what_is_in_it(tmp_path: Path) -> None:
    sink = FilesystemSink(FilesystemSettings(path=tmp_path / "r"))
    sink.put("a/b", b"x")
    (tmp_path / "r" / "a").chmod(stat.S_IRUSR | stat.S_IXUSR)
    (tmp_path / "r" / "a").chmod(stat.S_IRWXU)
    (tmp_path / "r" / "a" / "b").unlink()
    assert list(sink.list()) == []
