"""A private one-node Ceph with an S3 gateway: a monitor, one storage daemon and the gateway, on loopback only."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.servers.certificate import write_certificate
from tests.servers.postgres import free_port

PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
_START_SECONDS = 240.0
_STARTS = 5
_OBJECT_CLASSES = ("/usr/lib/x86_64-linux-gnu/rados-classes", "/usr/lib/aarch64-linux-gnu/rados-classes")

# One copy of everything, no authentication between the daemons, and none of the warnings that this deserves.
_CONFIGURATION = """\
[global]
fsid = {fsid}
mon_initial_members = a
mon_host = v1:127.0.0.1:{monitor_port}
ms_bind_msgr2 = false
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
public_network = 127.0.0.0/8
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
osd_pool_default_pg_autoscale_mode = off
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
mon_max_pg_per_osd = 1000
mon_data_avail_crit = 1
mon_data_avail_warn = 2
osd_crush_chooseleaf_type = 0
run_dir = {folder}/run
log_file = {folder}/log/$name.log
admin_socket = {folder}/run/$name.$pid.asok
pid_file = {folder}/run/$name.pid
mon_data = {folder}/mon
osd_data = {folder}/osd
mgr_data = {folder}/mgr
keyring = {folder}/keyring
[osd]
osd_class_dir = {classes}
osd_class_load_list = *
osd_class_default_list = *
osd_objectstore = bluestore
osd_memory_target = 1073741824
bluestore_block_size = 10737418240
bluestore_block_create = true
bluestore_fsck_on_mount = false
bluefs_buffered_io = true
[client.rgw]
rgw_frontends = beast endpoint=127.0.0.1:{port} ssl_endpoint=127.0.0.1:{tls_port} \
ssl_certificate={folder}/server.pem tcp_nodelay=1
rgw_data = {folder}/rgw
rgw_enable_usage_log = false
rgw_log_nonexistent_bucket = false
debug_rgw = 0
"""


class Ceph:
    """The daemons and their folder; `start` once, `stop` at the end, whatever happened in between."""

    def __init__(self) -> None:
        # Short, because the path of a Unix socket may have no more than 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="rgw-", dir="/tmp" if Path("/tmp").is_dir() else None))
        self.port = free_port()
        self.tls_port = free_port()
        self.certificate = self.folder / "ca.pem"
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self, access_key: str, secret_key: str) -> None:
        """Make the cluster, start it, and make a user with these keys."""
        monitor_port, fsid = free_port(), str(uuid.uuid4())
        for name in ("mon", "osd", "mgr", "run", "log", "rgw"):
            (self.folder / name).mkdir()
        write_certificate(self.certificate, self.folder / "key.pem")
        (self.folder / "server.pem").write_bytes(self.certificate.read_bytes() + (self.folder / "key.pem").read_bytes())
        (self.folder / "ceph.conf").write_text(
            _CONFIGURATION.format(
                fsid=fsid, monitor_port=monitor_port, folder=self.folder, port=self.port, tls_port=self.tls_port,
                classes=next((one for one in _OBJECT_CLASSES if Path(one).is_dir()), _OBJECT_CLASSES[0]),
            ),
            encoding="utf-8",
        )  # fmt: skip
        keyring, monmap = f"{self.folder}/keyring", f"{self.folder}/monmap"
        self._run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        everything = ("--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *")
        self._run("ceph-authtool", keyring, "--gen-key", "-n", "client.admin", *everything)
        self._run("monmaptool", "--create", "--addv", "a", f"[v1:127.0.0.1:{monitor_port}]", "--fsid", fsid, monmap)
        if os.geteuid() == 0:
            for path in (self.folder, *self.folder.rglob("*")):
                shutil.chown(path, "nobody", "nogroup")
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
        self._daemon(lambda: bool(self._ask("quorum_status")), "ceph-mon", "-i", "a")
        osd = str(uuid.uuid4())
        self._insist("osd", "new", osd)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._daemon(lambda: "1 up" in self._ask("osd", "stat"), "ceph-osd", "-i", "0")
        self._insist("osd", "set-require-min-compat-client", "mimic")
        self._daemon(lambda: _answers(self.port) and _answers(self.tls_port), "radosgw", "-n", "client.rgw")
        self.add_user("penstock", access_key, secret_key)
        self._run("radosgw-admin", "caps", "add", "--uid=penstock", "--caps=user-policy=*")

    def add_user(self, name: str, access_key: str, secret_key: str) -> None:
        """Make a user with these keys, who may do nothing in the buckets of others."""
        self._run(
            "radosgw-admin", "user", "create", f"--uid={name}", f"--display-name={name}",
            f"--access-key={access_key}", f"--secret-key={secret_key}",
        )  # fmt: skip

    @property
    def version(self) -> str:
        """What the gateway's program says of itself: `Ceph 16.2.15`."""
        told = subprocess.run(["radosgw", "--version"], capture_output=True, text=True, check=True).stdout
        return "Ceph " + told.split()[2]

    def stop(self) -> None:
        """End all daemons at once, for nobody will read their data again, and remove the folder."""
        while self._daemons:
            daemon = self._daemons.pop()
            daemon.kill()
            daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _command(self, program: str, *arguments: str, options: tuple[str, ...] = ()) -> list[str]:
        if program in {"ceph-authtool", "monmaptool"}:  # as ourselves: the folder is handed over after them
            return [program, *arguments]
        user = ["setpriv", *options] if options else []
        if os.geteuid() == 0:
            user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *options]
        return [*user, program, "-c", f"{self.folder}/ceph.conf", *arguments]

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            self._command(program, *arguments), cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=_START_SECONDS, env=self._environment(),
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{program} failed:\n{done.stderr.decode(errors='replace')[-2000:]}")

    def _insist(self, *words: str) -> None:
        """Tell the monitor something that may be said twice: on a busy machine it refuses while it finds itself."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self._run("ceph", "--connect-timeout", "5", *words)
                return
            except (RuntimeError, subprocess.TimeoutExpired):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def _ask(self, *words: str) -> str:
        with suppress(subprocess.TimeoutExpired):
            done = subprocess.run(
                self._command("ceph", "--connect-timeout", "2", *words),
                cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, env=self._environment(),
            )  # fmt: skip
            return done.stdout.decode() if done.returncode == 0 else ""
        return ""

    def _daemon(self, ready: Callable[[], bool], program: str, *arguments: str) -> None:
        """Start one daemon and wait until it is ready; again when it gives up.

        On a busy machine a storage daemon asks its monitor something before it knows the cluster's id, is told "wrong
        fsid", and exits.
        """
        deadline = time.monotonic() + _START_SECONDS
        log = self.folder / f"{program}.out"
        for _ in range(_STARTS):
            with log.open("ab") as out:
                # In the foreground and as our child: the kernel stops it when the test session is killed.
                daemon = subprocess.Popen(
                    self._command(program, *arguments, "-f", options=("--pdeathsig=KILL",)),
                    cwd=self.folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                    env=self._environment(),
                )  # fmt: skip
            self._daemons.append(daemon)
            while daemon.poll() is None and time.monotonic() < deadline:
                if ready():
                    return
                time.sleep(0.1)
        raise RuntimeError(f"{program} did not start:\n{log.read_text(errors='replace')[-2000:]}")

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", os.defpath), "CEPH_CONF": f"{self.folder}/ceph.conf", "LC_ALL": "C"}


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
