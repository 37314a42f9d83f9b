"""A command ends within seconds of a signal, whatever a sink does, and says what it leaves."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from core.tests.cli.hanging import install_hanging_sink
from core.tests.cli.loom import install_loom
from core.tests.cli.running import PASSPHRASE, Penstock, database

pytestmark = pytest.mark.slow

#: Five seconds are promised; a busy machine gets more.
_SECONDS = 20.0
BACKUP = ("backup", "sqlite:shop.db")
RESTORE = ("restore", "latest", "--to", "sqlite:restored.db")
CHECK = ("check", "--read-data")
UPLOADED = "the next run uses what was uploaded"
TARGET = "Look at the target"
READ_ONLY = "it changes nothing"


@pytest.fixture(scope="module")
def penstock(tmp_path_factory: pytest.TempPathFactory) -> Penstock:
    """A repository with one snapshot, in a sink that hangs when it is told to."""
    folder = tmp_path_factory.mktemp("hanging")
    install_hanging_sink(folder / "site")
    install_loom(folder / "site")
    database(folder / "shop.db")
    penstock = Penstock(
        folder,
        {
            "PYTHONPATH": str(folder / "site"),
            "PENSTOCK_REPOSITORY": f"hanging://{folder / 'repository'}",
            "PENSTOCK_PASSPHRASE": PASSPHRASE,
            "HANGING": str(folder / "hanging"),
        },
    )
    penstock("init")
    penstock(*BACKUP)
    return penstock


def interrupted(penstock: Penstock, arguments: tuple[str, ...], hang: str, number: signal.Signals) -> tuple[float, str]:
    """Send the signal once it hangs; how many seconds it then took, and all that it wrote."""
    marker = Path(penstock.environ["HANGING"])
    marker.unlink(missing_ok=True)
    child = subprocess.Popen(
        [sys.executable, "-m", "penstock", *arguments],
        cwd=penstock.folder,
        env={**penstock.environ, "HANG": hang},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        limit = time.monotonic() + 100
        while not marker.exists() and child.poll() is None and time.monotonic() < limit:
            time.sleep(0.05)
        assert marker.exists(), child.communicate(timeout=10) if child.poll() is not None else "it did not hang"
        begun = time.monotonic()
        child.send_signal(number)
        said = "".join(child.communicate(timeout=60))
        seconds = time.monotonic() - begun
    finally:
        child.kill()
    assert child.returncode == 130, said
    assert "Traceback" not in said
    with pytest.raises(ProcessLookupError):
        os.killpg(child.pid, 0)
    return seconds, said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("arguments", "hang", "hint"),
    [
        (BACKUP, "put:packs/:sleeping", UPLOADED),
        (RESTORE, "get:packs/:sleeping", TARGET),
        (CHECK, "get:packs/:sleeping", READ_ONLY),
    ],
    ids=["backup", "restore", "check"],
)
def test_a_signal_ends_it_while_a_request_hangs(
    penstock: Penstock, arguments: tuple[str, ...], hang: str, hint: str, number: signal.Signals
) -> None:
    if arguments == BACKUP:
        (penstock.folder / "shop.db").unlink()
        database(penstock.folder / "shop.db", 3000 + number)  # something new, or nothing would be put
    seconds, said = interrupted(penstock, arguments, hang, number)
    assert seconds < _SECONDS
    assert f"interrupted by {'Ctrl-C' if number == signal.SIGINT else 'SIGTERM'}" in said
    assert hint in said


@pytest.mark.parametrize(
    ("arguments", "hang", "hint"),
    [
        (("snapshots",), "get:penstock.json:native", READ_ONLY),  # by the main thread itself
        (BACKUP, "put:snapshots/:native", UPLOADED),  # after the dump, which has had children
        (RESTORE, "get:packs/:native", TARGET),
        (CHECK, "get:packs/:thread", READ_ONLY),
    ],
    ids=["main thread", "commit", "native", "threads at the end"],
)
def test_even_what_cannot_be_interrupted_ends(
    penstock: Penstock, arguments: tuple[str, ...], hang: str, hint: str
) -> None:
    seconds, said = interrupted(penstock, arguments, hang, signal.SIGTERM)
    assert seconds < _SECONDS
    assert said.count("penstock: error: interrupted by SIGTERM") == 1
    assert said.count(hint) == 1


@pytest.mark.parametrize("how", ["sleeping", "native", "thread"])
def test_processes_that_hang_end_too(penstock: Penstock, how: str) -> None:
    size = {"sleeping": 8, "native": 9, "thread": 10}[how] * 2**20  # each time something new
    arguments = ("backup", f"loom:?size={size}&streams=4&compressible=0.1", "--jobs", "2")
    seconds, said = interrupted(penstock, arguments, f"put:packs/:{how}", signal.SIGINT)
    assert seconds < _SECONDS
    assert said.count("penstock: error: interrupted by Ctrl-C") == 1
    assert UPLOADED in said


def test_backups_that_ended_before_an_interruption_are_told(penstock: Penstock) -> None:
    """The third one has something new to put, which hangs."""
    for name in ("one", "two", "three"):
        database(penstock.folder / f"{name}.db", 100)
        penstock("backup", f"sqlite:{name}.db")
    (penstock.folder / "three.db").unlink()
    database(penstock.folder / "three.db", 4000)
    names = ("one", "two", "three", "one", "two")
    seconds, said = interrupted(
        penstock, ("backup", *(f"sqlite:{name}.db" for name in names)), "put:packs/:sleeping", signal.SIGINT
    )
    assert seconds < _SECONDS
    assert [said.count(f"{name}: snapshot ") for name in names[:3]] == [1, 1, 0], said
    assert UPLOADED in said
