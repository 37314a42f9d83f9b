"""A bank whose writers keep its books balanced, and the way through a dump and a restore."""

import multiprocessing
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from penstock.api import Dump, RestoreTarget, StreamSpec
from penstock.testing.dumping import restore_one
from penstock_sqlite.settings import SqliteSettings
from penstock_sqlite.source import SqliteSource

ACCOUNTS = 400
BALANCE = 1000

Dumper = Callable[..., tuple[bytes, StreamSpec]]


def source(path: Path, **settings: object) -> SqliteSource:
    return SqliteSource(SqliteSettings.model_validate({"path": path, **settings}))


def read_all(held: Dump, on_block: Callable[[], None] = lambda: None) -> bytes:
    stream = held.open(held.plan.streams[0])
    image = bytearray()
    buffer = memoryview(bytearray(1 << 16))
    while count := stream.readinto(buffer):
        image += buffer[:count]
        on_block()
    stream.close()
    return bytes(image)


def dumped(path: Path, **settings: object) -> tuple[bytes, StreamSpec]:
    origin = source(path, **settings)
    with origin.dump() as held:
        return read_all(held), held.plan.streams[0]


def restored(image: bytes, spec: StreamSpec, path: Path, **target: object) -> Path:
    destination = source(path)
    how = RestoreTarget(**target)  # type: ignore[arg-type]
    destination.plan_restore([spec], how)
    restore_one(destination, spec, (memoryview(image)[at : at + 70_000] for at in range(0, len(image), 70_000)), how)
    return path


def query(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        return connection.execute(sql).fetchall()


def script(path: Path, sql: str) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(sql)
    return path


def make_bank(path: Path, mode: str, page_size: int = 4096, padding: int = 300) -> Path:
    script(
        path,
        f"""
        PRAGMA page_size={page_size}; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode={mode};
        CREATE TABLE account(id INTEGER PRIMARY KEY, balance INTEGER NOT NULL, note TEXT);
        CREATE INDEX by_balance ON account(balance, id);
        CREATE TABLE tally(number INTEGER NOT NULL);
        CREATE TABLE journal(id INTEGER PRIMARY KEY, number INTEGER NOT NULL, data BLOB);
        INSERT INTO tally VALUES (0);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ACCOUNTS})
        INSERT INTO account SELECT i, {BALANCE}, hex(randomblob({padding})) FROM n;
        """,
    )
    return path


def assert_bank_is_sound(path: Path) -> int:
    """The invariants that each transaction of `write_forever` keeps; returns the number of its transactions."""
    assert query(path, "PRAGMA integrity_check") == [("ok",)]
    assert query(path, "SELECT count(*), sum(balance) FROM account") == [(ACCOUNTS, ACCOUNTS * BALANCE)]
    ((number,),) = query(path, "SELECT number FROM tally")
    ((last,),) = query(path, "SELECT coalesce(max(number), 0) FROM journal")
    assert number == last
    assert isinstance(number, int)
    return number


def write_forever(path: str, seed: int, checkpoint: int, stop: object) -> None:
    """Moves money about, grows and shrinks the database, and checkpoints often; each transaction keeps the sum."""
    import random

    random.seed(seed)
    with closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as connection:
        connection.executescript(
            f"PRAGMA synchronous=OFF; PRAGMA wal_autocheckpoint={checkpoint}; PRAGMA cache_size=20"
        )
        while not stop.is_set():  # type: ignore[attr-defined]
            connection.execute("BEGIN IMMEDIATE")
            for _ in range(random.randint(1, 20)):
                giver, taker = random.sample(range(1, ACCOUNTS + 1), 2)
                amount = random.randint(1, 50)
                note = "x" * random.randint(0, 900)
                connection.execute("UPDATE account SET balance=balance-?, note=? WHERE id=?", (amount, note, giver))
                connection.execute("UPDATE account SET balance=balance+? WHERE id=?", (amount, taker))
            connection.execute("UPDATE tally SET number=number+1")
            connection.execute(
                "INSERT INTO journal(number, data) SELECT number, randomblob(?) FROM tally",
                (random.choice([10, 5_000, 100_000]),),
            )
            if random.random() < 0.1:
                connection.execute("DELETE FROM journal WHERE number < (SELECT number - 5 FROM tally)")
                connection.execute("PRAGMA incremental_vacuum").fetchall()
            connection.execute("ROLLBACK" if random.random() < 0.1 else "COMMIT")
            if random.random() < 0.05:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


@contextmanager
def writers(path: Path, count: int = 2, checkpoint: int = 30) -> Iterator[None]:
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    processes = [
        context.Process(target=write_forever, args=(str(path), seed, checkpoint, stop)) for seed in range(count)
    ]
    for process in processes:
        process.start()
    try:
        while query(path, "SELECT number FROM tally") == [(0,)]:
            pass
        yield
    finally:
        stop.set()
        for process in processes:
            process.join(30)
    assert [process.exitcode for process in processes] == [0] * count
