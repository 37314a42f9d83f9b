"""End of file is not success: a dump that did not end well is no snapshot, and the operator learns why."""

import shlex
import signal
from pathlib import Path

import pytest
from tests.integration.cases import FilesystemCase, url_of
from tests.integration.conftest import A_CLASS, A_HEADER, Noisy
from tests.integration.running import Host, with_passphrase
from tests.servers.postgres import PostgresServer

pytestmark = [pytest.mark.server, pytest.mark.unmeasured]

REASON = "pg_dump: error: the disk of the sërver caught fire"


def _wrapped(folder: Path, server: PostgresServer, script: str) -> Path:
    """A folder of client programs whose pg_dump is `script`; `"$REAL" "$@"` is the real one."""
    assert server.bin is not None
    folder.mkdir()
    for program in ("pg_dumpall", "pg_restore"):
        (folder / program).symlink_to(server.bin / program)
    wrapper = folder / "pg_dump"
    real = shlex.quote(str(server.bin / "pg_dump"))
    wrapper.write_text(
        f'#!/bin/sh\nREAL={real}\n[ "$1" = --version ] && exec "$REAL" "$@"\n{script}\n', encoding="utf-8"
    )
    wrapper.chmod(0o755)
    return folder


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_a_pg_dump_that_is_killed_half_way_is_no_snapshot(
    number: signal.Signals, noisy: Noisy, repository: FilesystemCase, host: Host, tmp_path: Path
) -> None:
    # It cannot get further than half-way: nobody takes the rest, and the pipe stays open.
    script = f"""
        mkfifo "$0.pipe"
        "$REAL" "$@" >"$0.pipe" & pid=$!
        exec 3<"$0.pipe"
        dd bs=1M count=24 iflag=fullblock <&3 2>/dev/null
        kill -{number.value} $pid
        wait $pid
        code=$?
        [ $code -gt 128 ] && kill -KILL $$
        exit $code"""
    folder = _wrapped(tmp_path / "bin", noisy.server, script)
    done = host("backup", url_of(noisy.server, noisy.name, client_path=folder), code=45)
    assert "pg_dump of noisy" in done.stderr
    assert ("killed by SIGKILL" if number is signal.SIGKILL else "terminated by user") in done.stderr
    _nothing_was_committed(repository, host)


@pytest.mark.parametrize("json", [False, True], ids=["plain", "json"])
def test_a_pg_dump_that_fails_after_its_last_byte_is_no_snapshot(
    json: bool, noisy: Noisy, repository: FilesystemCase, host: Host, tmp_path: Path
) -> None:
    folder = _wrapped(tmp_path / "bin", noisy.server, f'"$REAL" "$@"\necho {shlex.quote(REASON)} >&2\nexit 1')
    url = url_of(noisy.server, noisy.name, client_path=folder)
    if json:
        error = host.json("backup", url, code=45)["error"]
        assert error["type"] == "DumpFailed"
        assert REASON in error["details"]
        assert "exited with 1" in error["message"]
    else:
        done = host("backup", url, code=45)
        assert f"  {REASON}\n" in done.stderr
        assert "exited with 1" in done.stderr
    _nothing_was_committed(repository, host)


def test_a_pg_dump_that_says_much_before_it_fails_is_quoted_with_its_last_lines(
    noisy: Noisy, repository: FilesystemCase, host: Host, tmp_path: Path
) -> None:
    script = (
        f"i=0; while [ $i -lt 20000 ]; do echo chatter $i >&2; i=$((i+1)); done\necho {shlex.quote(REASON)} >&2\nexit 3"
    )
    done = host(
        "backup",
        url_of(noisy.server, noisy.name, client_path=_wrapped(tmp_path / "bin", noisy.server, script)),
        code=45,
    )
    assert REASON in done.stderr
    assert "chatter 19999" in done.stderr
    assert "chatter 10\n" not in done.stderr
    _nothing_was_committed(repository, host)


def test_what_a_failed_dump_uploaded_is_used_by_the_next(
    noisy: Noisy, alike: FilesystemCase, host: Host, tmp_path: Path
) -> None:
    folder = _wrapped(tmp_path / "bin", noisy.server, '"$REAL" "$@"\nexit 1')
    host("backup", url_of(noisy.server, noisy.name, client_path=folder), code=45)
    landed = alike.packs()
    assert landed
    host("backup", noisy.url)
    packs = alike.packs()
    assert landed.items() <= packs.items()
    assert sum(packs.values()) <= noisy.packs + A_HEADER + A_CLASS


def _nothing_was_committed(repository: FilesystemCase, host: Host) -> None:
    assert repository.keys("snapshots/") == []
    assert host.json("snapshots")["snapshots"] == []
    assert host.json("check", "--read-data", environ=with_passphrase())["findings"] == []
