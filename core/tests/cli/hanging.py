"""A sink that hangs where the variable `HANG` says (`method:prefix:how`), as a plugin that child processes find."""

from pathlib import Path

__all__ = ["install_hanging_sink"]

_PLUGIN = '''
import ctypes, os, threading
from pathlib import Path
from penstock.api import hookimpl
from penstock_filesystem import FilesystemSink


def hang(how):
    Path(os.environ["HANGING"]).touch()
    if how == "sleeping":
        threading.Event().wait()
    # A lock that the thread has already: native code that signals do not get out of.
    lock = ctypes.create_string_buffer(64)
    libc = ctypes.CDLL(None)
    libc.pthread_mutex_lock(lock)
    libc.pthread_mutex_lock(lock)


class HangingSink(FilesystemSink):
    """A folder that hangs."""

    name = "hanging"
    schemes = ("hanging",)

    @classmethod
    def settings_from_url(cls, url):
        return {"path": url.partition("//")[2]}

    def put(self, key, data, *, if_absent=False):
        self._hang("put", key)
        super().put(key, data, if_absent=if_absent)

    def get(self, key, *, start=0, length=None):
        self._hang("get", key)
        return super().get(key, start=start, length=length)

    def _hang(self, method, key):
        wanted, prefix, how = os.environ.get("HANG", "::").split(":")
        inside = key.split("/", 2)[2] if key.startswith("d/") else key
        if method == wanted and inside.startswith(prefix):
            if how == "thread":  # which the interpreter waits for at its end
                threading.Thread(target=hang, args=("sleeping",)).start()
                how = "sleeping"
            hang(how)


@hookimpl
def penstock_register_sink():
    return [HangingSink]
'''


def install_hanging_sink(site: Path) -> None:
    """Install it in the folder `site`, which is to be in `PYTHONPATH`."""
    metadata = site / "hanging_sink-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "hanging_sink.py").write_text(_PLUGIN, encoding="utf-8")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: hanging-sink\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text("[penstock.plugins]\nhanging = hanging_sink\n", encoding="utf-8")
