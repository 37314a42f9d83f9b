"""A backup or a restore that is killed outright, at any moment, harms nothing; and the next run goes on from there."""

import random
import signal
import time
from collections.abc import Callable

import pytest
from tests.integration import databases
from tests.integration.cases import FilesystemCase, url_of
from tests.integration.conftest import A_CLASS, A_HEADER, Noisy
from tests.integration.running import Host, Running, with_passphrase
from tests.soak import long, times

pytestmark = [pytest.mark.server, pytest.mark.unmeasured]


def _packs(repository: FilesystemCase) -> dict[str, int]:
    return repository.packs()


def _dump_is_over(host: Host, repository: FilesystemCase) -> bool:
    return bool(_packs(repository)) and not host.running("pg_dump")


def _beginning(host: Host, repository: FilesystemCase) -> bool:
    time.sleep(0.1)
    return True


#: When to kill: each is true for the first time at its own moment of a backup.
MOMENTS: dict[str, Callable[[Host, FilesystemCase], bool]] = {
    "it has begun": _beginning,
    "its session is written": lambda host, repository: bool(repository.keys("sessions/")),
    "pg_dump runs": lambda host, repository: bool(host.running("pg_dump")),
    "a pack is under way": lambda host, repository: (
        bool(repository.keys(".unfinished~/")) and bool(host.running("pg_dump"))
    ),
    "a pack has landed": lambda host, repository: len(_packs(repository)) >= 1,
    "two packs have landed": lambda host, repository: len(_packs(repository)) >= 2,
    "pg_dump has ended": _dump_is_over,
    "the index is written": lambda host, repository: bool(repository.keys("index/")),
}
#: So little is left to be done then that a busy machine may let it be done.
LATE = ("two packs have landed", "pg_dump has ended", "the index is written")
#: So that whoever waits for a moment in the midst of it meets it, however busy the machine is.
SLOWLY = ("--limit-upload", "4MiB")
#: The check has read all of the others' bytes.
RESTORED = ("a pack is under way", "two packs have landed", "the index is written")


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_backup_leaves_nothing_but_what_the_next_run_uses(
    moment: str,
    noisy: Noisy,
    alike: FilesystemCase,
    host: Host,
    new_host: Callable[[str], Host],
    ran: Callable[..., None],
) -> None:
    run = host.start("backup", noisy.url, "--name", "noisy", *(SLOWLY if moment == "a pack has landed" else ()))
    assert run.wait_until(lambda: MOMENTS[moment](host, alike)), run.stderr.read_text()
    run.kill()
    code = run.end().code
    host.wait_for_silence()

    committed = len(alike.keys("snapshots/"))
    if moment in LATE:  # the snapshot, or even the end, may have been faster than the kill
        assert (code, committed) in {(-signal.SIGKILL, 0), (-signal.SIGKILL, 1), (0, 1)}
    else:
        assert (code, committed) == (-signal.SIGKILL, 0)
    assert len(host.json("snapshots")["snapshots"]) == committed
    assert host.json("check")["findings"] == []

    landed = sum(_packs(alike).values())
    (backup,) = host.json("backup", noisy.url, "--name", "noisy")["backups"]
    again = sum(_packs(alike).values()) - landed
    ran(FIGURES=f"{landed:,} bytes had landed, the rerun stored {again:,}")
    # Nothing that had landed is stored a second time.
    assert landed + again <= noisy.packs + A_HEADER + A_CLASS
    assert backup["stored"] >= again

    assert len(host.json("snapshots")["snapshots"]) == committed + 1
    assert host.json("check", "--read-data", environ=with_passphrase())["findings"] == []
    if moment not in RESTORED:
        return
    with noisy.server.database("back again") as name:
        environ = with_passphrase() | {"PGPASSWORD": noisy.server.password}
        host("restore", "latest", "--to", url_of(noisy.server, name), environ=environ)
        assert databases.content_of(noisy.server, name, named=False) == noisy.content


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=long(60)) for seed in range(3)])
def test_a_host_that_crashes_again_and_again_loses_nothing(
    seed: int, noisy: Noisy, alike: FilesystemCase, host: Host, ran: Callable[..., None]
) -> None:
    """Backups are killed at times that nobody chose, with what they started; some get through before."""
    chance = random.Random(seed)
    committed = killed = 0
    for _ in range(times(12)):
        run = host.start("backup", noisy.url, "--name", "noisy")
        time.sleep(chance.uniform(0, 2.5))
        run.kill()
        killed += run.end().code == -signal.SIGKILL
        host.wait_for_silence()
        before, committed = committed, len(alike.keys("snapshots/"))
        assert before <= committed <= before + 1
        assert len(host.json("snapshots")["snapshots"]) == committed
        assert host.json("check")["findings"] == []
    assert killed > 0
    host("backup", noisy.url, "--name", "noisy")
    packs = sum(_packs(alike).values())
    ran(FIGURES=f"{killed} kills, {committed} snapshots before them, {packs:,} bytes of packs")
    # A run that is killed has stored no more than what it had landed, which every later one uses.
    assert packs <= noisy.packs + times(12) * A_HEADER + A_CLASS
    assert host.json("check", "--read-data", environ=with_passphrase())["findings"] == []
    with noisy.server.database("back after all") as name:
        environ = with_passphrase() | {"PGPASSWORD": noisy.server.password}
        host("restore", "latest", "--to", url_of(noisy.server, name), environ=environ)
        assert databases.content_of(noisy.server, name, named=False) == noisy.content


def _in_the_target(run: Running, host: Host, noisy: Noisy, name: str) -> bool:
    """Whether pg_restore has got as far as the data."""
    query = "SELECT count(*) FROM pg_stat_progress_copy WHERE command = 'COPY FROM' AND bytes_processed > 10000000"
    return bool(host.running("pg_restore")) and noisy.server.query(query) != [(0,)]


@pytest.mark.parametrize(
    ("number", "exists"),
    [(signal.SIGKILL, True), (signal.SIGKILL, False), (signal.SIGTERM, True), (signal.SIGINT, False)],
    ids=["SIGKILL-into-an-empty-one", "SIGKILL-into-a-new-one", "SIGTERM-into-an-empty-one", "SIGINT-into-a-new-one"],
)
def test_an_interrupted_restore_leaves_the_target_empty(
    number: signal.Signals, exists: bool, noisy: Noisy, noisy_backup: Host
) -> None:
    name = "half way"
    noisy.server.drop(name)
    if exists:
        databases.prepare_database(noisy.server, name)
    slowly = ("--limit-download", "12MiB")
    target = url_of(noisy.server, name)
    run = noisy_backup.start("restore", "latest", "--to", target, *slowly, environ=with_passphrase())
    assert run.wait_until(lambda: _in_the_target(run, noisy_backup, noisy, name)), run.stderr.read_text()
    run.send(number)
    done = run.end()
    if number is signal.SIGKILL:
        assert done.code == -number
        noisy_backup.wait_for_silence()
    else:
        noisy_backup.judge(("restore",), done, 130)
        assert "interrupted by" in done.stderr
    _wait_for_backends(noisy, name)
    tables = databases.tables_of(noisy.server, name)
    assert tables == [] if exists or number is signal.SIGKILL else tables is None
    if number is signal.SIGKILL:
        # And it can be done again.
        noisy_backup("restore", "latest", "--to", target, environ=with_passphrase())
        assert databases.content_of(noisy.server, name, named=False) == noisy.content
    noisy.server.drop(name)


def _wait_for_backends(noisy: Noisy, database: str) -> None:
    """The server notices a client's death when it next talks to it."""
    query = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'"
    deadline = time.monotonic() + 60
    while noisy.server.query(query) != [(0,)] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert noisy.server.query(query) == [(0,)]


@pytest.mark.parametrize(
    ("moment", "number", "json"),
    [
        ("its session is written", signal.SIGINT, False),
        ("pg_dump runs", signal.SIGTERM, False),
        ("pg_dump runs", signal.SIGINT, True),
        ("a pack has landed", signal.SIGINT, False),
        ("a pack has landed", signal.SIGTERM, True),
    ],
)
def test_an_interrupted_backup_ends_in_good_order(
    moment: str, number: signal.Signals, json: bool, noisy: Noisy, repository: FilesystemCase, host: Host
) -> None:
    run = host.start("backup", noisy.url, *SLOWLY, *(["--json"] if json else []))
    assert run.wait_until(lambda: MOMENTS[moment](host, repository)), run.stderr.read_text()
    run.send(number)
    done = run.end()  # in time, or it raises
    host.judge(("backup",), done, 130)
    name = "Ctrl-C" if number is signal.SIGINT else "SIGTERM"
    assert f"interrupted by {name}" in (done.stdout if json else done.stderr)
    assert repository.keys("snapshots/") == []
    assert repository.keys(".unfinished~/") == []
    assert host.json("check")["findings"] == []
