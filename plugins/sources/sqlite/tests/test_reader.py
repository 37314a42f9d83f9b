"""The parts of the reader process, run here, where damage can be put between them."""

import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plugins.sources.sqlite.tests.bank import make_bank, query, script
from tests.soak import examples

from penstock_sqlite import wal
from penstock_sqlite.inventory import inventory
from penstock_sqlite.reader import serve
from penstock_sqlite.view import View, ViewError


@contextmanager
def logged(bank: Path) -> Iterator[sqlite3.Connection]:
    """A connection that has just written to the log, with checkpoints switched off."""
    with closing(sqlite3.connect(bank, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("UPDATE account SET note=hex(randomblob(400))")
        yield connection


def image_of(view: View) -> bytes:
    return b"".join(bytes(block) for block in view.blocks())


def serve_all(request: dict[str, object], command: bytes = b"stream\n") -> tuple[int, bytes]:
    commands, tell = os.pipe()
    hear, output = os.pipe()
    answers: list[bytes] = []

    def listen() -> None:
        while data := os.read(hear, 1 << 16):
            answers.append(data)

    listener = threading.Thread(target=listen)
    listener.start()
    os.write(tell, json.dumps(request).encode() + b"\n" + command)
    os.close(tell)
    status = serve(commands, output)
    os.close(output)
    listener.join()
    for descriptor in (commands, hear):
        os.close(descriptor)
    return status, b"".join(answers)


def request_for(bank: Path, **changes: object) -> dict[str, object]:
    return {
        "path": str(bank),
        "busy_timeout": 0,
        "row_counts": "auto",
        "integrity_check": "full",
        "copy_to": None,
        **changes,
    }


@pytest.mark.parametrize("copied", [False, True])
def test_the_reader_answers_and_sends_the_image(tmp_path: Path, mode: str, copied: bool) -> None:
    bank = make_bank(tmp_path / "bank.db", mode)
    status, sent = serve_all(request_for(bank, copy_to=str(tmp_path) if copied else None))
    line, _, image = sent.partition(b"\n")
    assert status == 0
    assert json.loads(line)["view"]["size"] == len(image)
    assert image == bank.read_bytes()


def test_the_reader_ends_without_an_image_when_none_is_asked_for(tmp_path: Path) -> None:
    bank = make_bank(tmp_path / "bank.db", "wal")
    status, sent = serve_all(request_for(bank), command=b"")
    assert status == 0
    assert sent.count(b"\n") == 1


def test_the_reader_says_what_is_wrong(tmp_path: Path) -> None:
    status, sent = serve_all(request_for(tmp_path / "none.db"))
    assert status == 1
    assert json.loads(sent)["error"]["kind"] == "unreachable"


def test_a_log_that_is_replaced_during_the_dump_fails_it(tmp_path: Path) -> None:
    bank = make_bank(tmp_path / "bank.db", "wal")
    with logged(bank), View(str(bank), 0) as view:
        with Path(f"{bank}-wal").open("r+b") as log:
            log.seek(16)
            log.write(b"new salt")
        with pytest.raises(ViewError, match="started anew"):
            image_of(view)


def test_a_log_that_is_cut_off_during_the_dump_fails_it(tmp_path: Path) -> None:
    bank = make_bank(tmp_path / "bank.db", "wal")
    with logged(bank), View(str(bank), 0) as view:
        os.truncate(f"{bank}-wal", 10_000)
        with pytest.raises(ViewError, match="lost page"):
            image_of(view)


@pytest.mark.parametrize(("offset", "what"), [(8, "another time"), (0, "another time"), (None, "ends before")])
def test_a_log_that_is_not_what_its_index_says_is_refused(tmp_path: Path, offset: int | None, what: str) -> None:
    bank = make_bank(tmp_path / "bank.db", "wal")
    with logged(bank):
        shm = os.open(f"{bank}-shm", os.O_RDONLY)
        header = wal.read_header(shm)
        os.close(shm)
        assert header is not None
        data = bytearray(Path(f"{bank}-wal").read_bytes())
        second = wal.LOG_HEADER + wal.FRAME_HEADER + header.page_size
        if offset is None:
            del data[second:]
        else:
            data[second + offset : second + offset + 4] = bytes(4)
        copy = tmp_path / "log"
        copy.write_bytes(data)
        with copy.open("rb") as log, pytest.raises(wal.WalMismatch, match=what):
            wal.Overlay(log.fileno(), header)


@pytest.mark.slow
@settings(max_examples=examples(50), deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=300))
def test_the_overlay_has_the_last_version_of_each_page(
    tmp_path_factory: pytest.TempPathFactory, pages: list[int]
) -> None:
    size, salts = 512, b"saltsalt"
    log = bytearray(b"\0" * 16 + salts + b"\0" * 8)
    for number, page in enumerate(pages):
        log += wal._FRAME.pack(page, 0, salts, number, 7) + bytes(size)
    header = wal.WalHeader(wal.INDEX_VERSION, 1, size, len(pages), 50, (len(pages) - 1, 7), salts)
    path = tmp_path_factory.mktemp("log") / "log"
    path.write_bytes(log)
    latest = {page: number for number, page in enumerate(pages) if page <= 50}
    with path.open("rb") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(wal, "_SORT_RUN", 16)
        found = list(wal.Overlay(file.fileno(), header).pages())
    frame = wal.FRAME_HEADER + size
    assert found == [
        (page, wal.LOG_HEADER + number * frame + wal.FRAME_HEADER) for page, number in sorted(latest.items())
    ]


def test_a_header_that_is_being_written_is_not_believed(tmp_path: Path) -> None:
    bank = make_bank(tmp_path / "bank.db", "wal")
    with logged(bank):
        data = Path(f"{bank}-shm").read_bytes()[:136]
    copy = tmp_path / "index"
    for broken in (b"", bytes(136), data[:48] + data[:47] + b"?" + data[96:], data[:9] + b"?" + data[10:48] * 1 + b""):
        copy.write_bytes(broken)
        with copy.open("rb") as file:
            assert wal.read_header(file.fileno()) is None
    torn = bytearray(data)
    torn[16] ^= 1
    torn[64] ^= 1  # both copies alike, but the checksum does not fit
    copy.write_bytes(torn)
    with copy.open("rb") as file:
        assert wal.read_header(file.fileno()) is None


def test_counting_stops_when_its_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = script(
        tmp_path / "rows.db",
        "CREATE TABLE t(a); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
        " INSERT INTO t SELECT i FROM n; CREATE VIEW v AS SELECT 1",
    )
    monkeypatch.setattr("penstock_sqlite.inventory.BUDGET", -1.0)
    with View(str(bank), 0) as view:
        monkeypatch.setattr("penstock_sqlite.inventory._STEPS_BETWEEN_CALLS", 1)
        items, warnings = inventory(view, count=True, on_wait=lambda: None)
    assert [(item.kind, item.name, item.rows) for item in items] == [("table", "t", None), ("view", "v", None)]
    assert not warnings


@contextmanager
def as_somebody_else() -> Iterator[None]:
    """Without the rights of root, where the tests have them."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_files_that_may_not_be_read_or_shared_are_a_matter_of_rights() -> None:
    with TemporaryDirectory() as name:
        bank = make_bank(Path(name) / "bank.db", "wal")
        Path(name).chmod(0o555)
        with as_somebody_else(), pytest.raises(ViewError, match="cannot open") as no_folder:
            View(str(bank), 0)
        Path(name).chmod(0o755)
        with logged(bank):
            Path(f"{bank}-shm").chmod(0)
            with as_somebody_else(), pytest.raises(ViewError, match=r"cannot read .*-shm") as no_index:
                View(str(bank), 0)
        bank.chmod(0)
        with as_somebody_else(), pytest.raises(ViewError, match="cannot read") as no_file:
            View(str(bank), 0)
    assert {caught.value.kind for caught in (no_folder, no_index, no_file)} == {"denied"}
    assert all(caught.value.hint for caught in (no_folder, no_index, no_file))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may look into, unlike that of `tmp_path`."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_log_that_may_only_be_read_is_read_as_sqlite_reads_it(open_folder: Path, checkpointed: bool) -> None:
    bank = make_bank(open_folder / "bank.db", "wal")
    (open_folder / "copy").mkdir()
    copy = open_folder / "copy" / "bank.db"
    with logged(bank) as writer:
        if checkpointed:
            writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        else:
            writer.execute("UPDATE account SET note='newest'")
        for suffix in ("", "-wal", "-shm"):
            Path(f"{copy}{suffix}").write_bytes(Path(f"{bank}{suffix}").read_bytes())
        expected = writer.execute("SELECT * FROM account").fetchall()
    if not checkpointed:  # the beginning of a transaction that nobody will ever commit
        with Path(f"{copy}-wal").open("ab") as log:
            log.write(os.urandom(5000))
    Path(f"{copy}-shm").write_bytes(os.urandom(32768))  # left over from another time
    for path in (*copy.parent.iterdir(), copy.parent):
        path.chmod(0o555)
    with as_somebody_else(), View(str(copy), 0) as view:
        image = image_of(view)
        assert view.connection.execute("SELECT * FROM account").fetchall() == expected
    copy.parent.chmod(0o755)
    new = open_folder / "new.db"
    new.write_bytes(image)
    assert query(new, "SELECT * FROM account") == expected
    assert query(new, "PRAGMA integrity_check") == [("ok",)]


_WRITER = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1], isolation_level=None) as connection:
    for line in sys.stdin:
        print(connection.execute(line).fetchall(), flush=True)
"""


def test_a_log_in_use_that_may_only_be_read_is_held_as_any_other(open_folder: Path) -> None:
    bank = make_bank(open_folder / "bank.db", "wal")
    with subprocess.Popen(
        [sys.executable, "-uc", _WRITER, str(bank)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None

        def tell(statement: str) -> str:
            assert writer.stdin is not None
            assert writer.stdout is not None
            writer.stdin.write(statement + "\n")
            writer.stdin.flush()
            return writer.stdout.readline()

        tell("PRAGMA wal_autocheckpoint=0")
        tell("UPDATE account SET note='before'")
        for path in open_folder.iterdir():
            path.chmod(0o444)
        with as_somebody_else(), View(str(bank), 5) as view:
            assert wal.in_use(view._shm)
            tell("UPDATE account SET note='after'")
            tell("PRAGMA wal_checkpoint(PASSIVE)")
            tell("DELETE FROM account")
            image = image_of(view)
        writer.stdin.close()
    new = open_folder / "new.db"
    new.write_bytes(image)
    assert query(new, "SELECT DISTINCT note FROM account") == [("before",)]
    assert query(new, "PRAGMA integrity_check") == [("ok",)]


def test_a_write_to_what_nobody_should_write_to_is_noticed(tmp_path: Path) -> None:
    bank = make_bank(tmp_path / "bank.db", "wal")
    with View(str(bank), 0, immutable=True) as view:
        blocks = view.blocks()
        next(blocks)
        with closing(sqlite3.connect(bank)) as writer:
            writer.execute("UPDATE account SET note='late'")
            writer.commit()
        with pytest.raises(ViewError, match="was written to") as caught:
            list(blocks)
    assert caught.value.kind == "unreachable"


@pytest.mark.slow
@settings(max_examples=examples(30), deadline=None)
@given(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=9))
def test_a_damaged_log_gives_a_state_that_it_held_once(
    tmp_path_factory: pytest.TempPathFactory, place: int, junk: bytes
) -> None:
    folder = tmp_path_factory.mktemp("log")
    bank = make_bank(folder / "bank.db", "wal", padding=50)
    with closing(sqlite3.connect(bank, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint=0")
        for number in range(3):
            connection.execute("UPDATE tally SET number=?", (number,))
        for suffix in ("", "-wal"):
            (folder / f"copy.db{suffix}").write_bytes(Path(f"{bank}{suffix}").read_bytes())
    data = bytearray((folder / "copy.db-wal").read_bytes())
    at = place % len(data)
    data[at : at + len(junk)] = junk[: len(data) - at]
    (folder / "copy.db-wal").write_bytes(data)
    with (folder / "copy.db-wal").open("rb") as log:
        found = wal.recover(log.fileno())
    with closing(sqlite3.connect(folder / "copy.db")) as connection:  # recovers it, too
        connection.execute("SELECT * FROM tally").fetchall()
        busy, frames, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    assert busy == 0
    assert max(frames, 0) == (found.frames if found else 0)


@pytest.mark.parametrize("moment", [1, 2, 3, 4])
def test_a_commit_between_two_looks_at_the_index_does_not_mislead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """Looks are taken in turn before and after the transaction begins; the commit comes just before one of them."""
    bank = make_bank(tmp_path / "bank.db", "wal")
    looks = 0

    def look(shm: int) -> wal.WalHeader | None:
        nonlocal looks
        looks += 1
        if looks == moment:
            writer.execute("UPDATE account SET note='late'")
        return read_header(shm)

    read_header = wal.read_header
    monkeypatch.setattr(wal, "read_header", look)
    with logged(bank) as writer, View(str(bank), 5) as view:
        image = image_of(view)
        seen = view.connection.execute("SELECT * FROM account").fetchall()
    assert looks == (4 if moment == 2 else 2)
    new = tmp_path / "new.db"
    new.write_bytes(image)
    assert query(new, "SELECT * FROM account") == seen
