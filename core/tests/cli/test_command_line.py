"""The command line itself: its help, its speed, how it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from core.tests.cli.running import Penstock

HEAVY = ("pydantic", "cryptography", "rich", "pluggy", "zstandard", "blake3", "sqlite3", "penstock.api")
COMMANDS = (
    "init", "backup", "snapshots", "show", "diff", "stats", "inspect", "restore", "cat", "check", "verify", "tag",
    "hold", "forget", "undelete", "prune", "maintain", "copy", "replicate", "repair", "key", "policy", "config",
    "plugins", "demo",
)  # fmt: skip


def guarded(penstock: Penstock, body: str, **environ: str) -> "subprocess.Popen[str]":
    """A process in which `body` is a command's work."""
    program = (
        "import os, signal, sys, time\n"
        "from penstock.api import *\n"
        "from penstock.cli.guard import Guard\n"
        "from penstock.cli.output.console import Output\n"
        "stop = StopToken()\n"
        f"def work():\n    {body}\n"
        "sys.exit(Guard(Output(json='--json' in sys.argv), stop, hint='Try again.').run(work))\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env={**penstock.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_help_names_every_command(penstock: Penstock) -> None:
    text = penstock("--help").stdout
    assert all(f"\n  {command} " in text for command in COMMANDS)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(penstock: Penstock, command: str) -> None:
    assert "Usage: penstock " + command in penstock(command, "--help").stdout


def test_help_loads_nothing_heavy(penstock: Penstock) -> None:
    program = (
        "import sys\nfrom penstock.cli.app import run\ncode = run(['--help'])\n"
        f"print('loaded:', [name for name in {HEAVY!r} if name in sys.modules])\nsys.exit(code)"
    )
    # Coverage loads modules of its own.
    environ = {name: value for name, value in penstock.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("loaded: []\n")


def test_the_version_is_printed(penstock: Penstock) -> None:
    from penstock import __version__

    assert penstock("--version").stdout == f"penstock {__version__}\n"


@pytest.mark.slow
def test_wrong_arguments_are_one_error_and_a_hint(penstock: Penstock) -> None:
    done = penstock("snapshots", "--bogus", code=2)
    assert done.stderr == (
        "penstock: error: no such option: --bogus\nhint: Run penstock snapshots --help to see what it takes.\n"
    )
    assert penstock("nonsense", code=2).stdout == ""
    assert "Usage:" in penstock("key", code=2).stderr


def test_wrong_arguments_with_json_are_a_document(penstock: Penstock) -> None:
    assert penstock.json("snapshots", "--bogus", code=2)["error"]["type"] == "UsageError"


@pytest.mark.slow
def test_a_password_in_a_url_is_refused_and_not_repeated(penstock: Penstock) -> None:
    for url in ("sqlite://user:SEKRET@host/x", "postgres://user:SEKRET@host/x"):
        done = penstock("inspect", url, code=2)
        assert "SEKRET" not in done.stdout + done.stderr
        done = penstock("backup", url, url, "--repo", "file:///nowhere", code=2)
        assert "SEKRET" not in done.stdout + done.stderr
        done = penstock("inspect", "sqlite:x", url, code=2)
        assert "SEKRET" not in done.stdout + done.stderr


@pytest.mark.slow
def test_what_a_url_may_hold_is_not_repeated_by_errors_about_arguments(penstock: Penstock) -> None:
    for url in ("postgres://app:pa/SEKRET@db/shop", "azure://acct/c?sas_token=SEKRET", "s3://a:'SEKRET)@b"):
        for arguments in ((url,), ("snapshots", url), ("snapshots", "--repo", "x", url), ("key", "add", url)):
            done = penstock(*arguments, code=2)
            assert "SEKRET" not in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_behind_stdout_is_an_error_of_ours(penstock: Penstock) -> None:
    for command in ("plugins", "plugins --json", "config init"):
        shell = ["sh", "-c", f'"$0" -m penstock {command} >/dev/full', sys.executable]
        done = subprocess.run(shell, env=penstock.environ, cwd=penstock.folder, capture_output=True, text=True)
        assert (done.returncode, "Traceback" in done.stderr) == (1, False)
        assert "cannot write to standard output: No space left on device" in done.stderr


@pytest.mark.slow
def test_closed_standard_streams_are_no_reason_to_fail(penstock: Penstock) -> None:
    def run(command: str) -> "subprocess.CompletedProcess[str]":
        shell = ["sh", "-c", f'"$0" -m penstock {command}', sys.executable]
        return subprocess.run(shell, env=penstock.environ, cwd=penstock.folder, capture_output=True, text=True)

    assert run("--version >&-").returncode == 0
    assert run("plugins --json <&- 2>&-").stdout.startswith("{")
    assert run("snapshots <&- >&- 2>&-").returncode == 2
    done = run("backup nothing >&-")
    assert (done.returncode, "Traceback" in done.stderr) == (3, False)


@pytest.mark.slow
def test_an_unexpected_error_shows_its_kind_and_nothing_of_its_text(penstock: Penstock) -> None:
    child = guarded(penstock, "raise ValueError('hunter' + str(1 + 1))")
    out, err = child.communicate(timeout=300)
    assert child.returncode == 1
    assert "unexpected ValueError in <string>, line 7" in err
    assert "issue tracker" in err
    assert "hunter2" not in out + err
    assert "Traceback" not in err


@pytest.mark.slow
def test_the_debugging_switch_shows_frames_and_no_values(penstock: Penstock) -> None:
    child = guarded(penstock, "secret = 'hunter' + str(1 + 1); raise ValueError(secret)", PENSTOCK_DEBUG="1")
    out, err = child.communicate(timeout=300)
    assert child.returncode == 1
    assert "guard.py" in err
    assert "hunter2" not in out + err


@pytest.mark.slow
def test_what_is_logged_is_a_warning(penstock: Penstock) -> None:
    child = guarded(penstock, "import logging; logging.getLogger('penstock.plugins').warning('a plugin %s', 'failed')")
    _, err = child.communicate(timeout=300)
    assert (child.returncode, err) == (0, "penstock: warning: a plugin failed\n")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_it_with_130(penstock: Penstock, number: signal.Signals) -> None:
    child = guarded(penstock, "print('ready', flush=True); time.sleep(600)")
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(number)
    _, err = child.communicate(timeout=300)
    assert child.returncode == 130
    assert "penstock: error: interrupted by " in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_an_interruption_tells_what_the_work_leaves(penstock: Penstock) -> None:
    signalled = "os.kill(os.getpid(), signal.SIGTERM); time.sleep(600)"
    interrupt = f"try: {signalled}\n    except KeyboardInterrupt as error: error.add_note('shop still exists'); raise"
    failure = f"try: {signalled}\n    except KeyboardInterrupt: raise RestoreFailed('it broke off', hint='Drop shop.')"
    interrupted = f"try: {signalled}\n    except KeyboardInterrupt: raise Interrupted('it', details=('shop exists',))"
    for body, lines in (
        (interrupt, ["  shop still exists"]),
        (failure, ["  it broke off", "  Drop shop."]),
        (interrupted, ["  shop exists"]),
    ):
        process = guarded(penstock, body)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130
        assert said.splitlines() == ["penstock: error: interrupted by SIGTERM", *lines, "hint: Try again."]


@pytest.mark.slow
def test_a_second_signal_does_not_cut_the_clean_up_short(penstock: Penstock, tmp_path: Path) -> None:
    sent = tmp_path / "the second signal is sent"
    body = (
        "try:\n        print('ready', flush=True)\n        time.sleep(600)\n    finally:\n"
        "        print('cleaning', flush=True)\n"
        f"        while not os.path.exists({str(sent)!r}): time.sleep(0.01)\n"
        "        print('clean', flush=True)"
    )
    child = guarded(penstock, body)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGINT)
    assert child.stdout.readline() == "cleaning\n"
    child.send_signal(signal.SIGINT)
    sent.touch()
    out, _ = child.communicate(timeout=300)
    assert (out, child.returncode) == ("clean\n", 130)


@pytest.mark.slow
def test_an_interrupted_command_leaves_no_child_and_no_folder(penstock: Penstock, tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "penstock", "demo", "--rows", "3000000", "--json"],
        env=penstock.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    limit = time.monotonic() + 300
    while not list(tmp_path.glob("penstock-demo-*/shop.db")) and time.monotonic() < limit:
        time.sleep(0.05)
    child.terminate()
    out, _ = child.communicate(timeout=300)
    assert child.returncode == 130
    assert json.loads(out)["error"]["type"] == "Interrupted"
    assert list(tmp_path.glob("penstock-demo-*")) == []
    with pytest.raises(ProcessLookupError):
        os.killpg(child.pid, 0)


def test_python_m_penstock_is_the_command(penstock: Penstock) -> None:
    script = Path(sys.executable).with_name("penstock")
    if not script.exists():
        pytest.skip("the console script is not installed here")
    done = subprocess.run([script, "--version"], env=penstock.environ, capture_output=True, text=True, check=True)
    assert done.stdout == penstock("--version").stdout
