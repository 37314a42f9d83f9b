"""Data folders of new servers: made once in a session, and copied for every further server of the same kind.

To make one takes an engine up to five seconds, to copy it a part of one. What is copied has never been run: a server
that starts from it has nothing but itself.
"""

import atexit
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path


class Templates:
    """What was made, by what it was made of; it goes with the process."""

    def __init__(self) -> None:
        self._folders: dict[tuple[object, ...], Path] = {}
        atexit.register(self.close)

    def fill(self, folder: Path, make: Callable[[], None], *key: object) -> None:
        """Let `folder`, which is not there yet, be what `make` makes of it, or made of it for the same key before."""
        if key in self._folders:
            _copy(self._folders[key], folder)
            return
        make()
        kept = Path(tempfile.mkdtemp(prefix="template-")) / "data"
        _copy(folder, kept)
        self._folders[key] = kept

    def close(self) -> None:
        """Remove all of them."""
        while self._folders:
            shutil.rmtree(self._folders.popitem()[1].parent, ignore_errors=True)


def _copy(folder: Path, to: Path) -> None:
    # With owners and modes, which servers are particular about.
    subprocess.run(["cp", "-a", str(folder), str(to)], check=True, stdin=subprocess.DEVNULL)


#: Those of this process.
templates = Templates()
