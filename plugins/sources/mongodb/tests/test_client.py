from pathlib import Path

import pytest
from tests.servers.streams import read_all

from penstock.api import ChildOutput, ClientMissing, DumpFailed
from penstock_mongodb.archive import Archive
from penstock_mongodb.client import find_client, newest_server, version_of

END = b"\x02db\x00\x01\x00\x00\x00\x00\x02collection\x00\x06\x00\x00\x00oplog\x00\x08EOF\x00\x01\x12CRC\x00"
WHOLE = b"\x6d\xe2\x99\x81" + b"x" * 9000 + END + b"\n2345678\x00\xff\xff\xff\xff"


def program(folder: Path, text: str) -> None:
    (folder / "mongodump").write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    (folder / "mongodump").chmod(0o755)


def test_the_client_of_the_settings_is_found_with_its_version(tmp_path: Path) -> None:
    program(tmp_path, "echo 'mongodump version: 100.9.4'; echo 'Go version: go1.21'")
    client = find_client("mongodump", tmp_path)
    assert (client.program, client.version) == (str(tmp_path / "mongodump"), "100.9.4")


@pytest.mark.parametrize("text", ["exit 1", "echo something else"])
def test_a_client_that_does_not_work_is_missing_and_said(tmp_path: Path, text: str) -> None:
    program(tmp_path, text)
    with pytest.raises(ClientMissing) as caught:
        find_client("mongodump", tmp_path)
    assert "mongodump" in caught.value.details[0]


def test_the_newest_server_of_a_client_is_known() -> None:
    assert newest_server("100.7.0") == (6, 3)
    assert newest_server("100.9.4") == (7, 0)
    assert newest_server("100.99.0") >= (8, 0)
    assert newest_server("4.2.0") == (4, 2)
    assert version_of("rubbish") == (0, 0)


def archive(data: bytes, folder: Path, *, oplog: bool) -> Archive:
    (folder / "data").write_bytes(data)
    return Archive(ChildOutput(["cat", str(folder / "data")], name="cat"), "x.archive", oplog=oplog)


@pytest.mark.parametrize("oplog", [True, False])
def test_an_archive_with_both_ends_is_whole(tmp_path: Path, oplog: bool) -> None:
    assert read_all(archive(WHOLE, tmp_path, oplog=oplog)) == WHOLE


def test_the_end_is_found_however_it_arrives(tmp_path: Path) -> None:
    stream = archive(WHOLE, tmp_path, oplog=True)
    while stream.readinto(memoryview(bytearray(3))):
        pass
    stream.close()


@pytest.mark.parametrize(
    "data",
    [b"", WHOLE[1:], *(WHOLE[:-count] for count in (1, 4, 5, 20, 60)), WHOLE + b"\x00",
     WHOLE.replace(b"oplog", b"other")],
)  # fmt: skip
def test_an_archive_without_its_ends_is_a_failed_dump(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DumpFailed, match=r"x\.archive does not begin and end"):
        read_all(archive(data, tmp_path, oplog=True))


def test_what_mongodump_says_gives_a_hint() -> None:
    script = "echo 'Failed: oplog overflow: mongodump was unable to capture' >&2; exit 1"
    stream = Archive(ChildOutput(["sh", "-c", script], name="mongodump"), "x.archive", oplog=True)
    with pytest.raises(DumpFailed) as caught:
        read_all(stream)
    assert "replSetResizeOplog" in (caught.value.hint or "")
    stream.close()


def test_an_aborted_archive_is_no_dump() -> None:
    stream = Archive(ChildOutput(["sleep", "60"], name="sleep"), "x.archive", oplog=False)
    stream.abort()
    with pytest.raises(DumpFailed):
        stream.close()
