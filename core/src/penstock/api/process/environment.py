"""What a child is given beside its arguments: its environment, and files with secrets."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from penstock.api.secrets import Secret

__all__ = ["env_for_child", "private_file", "search_path"]

# Where programs, the user's own configuration, libraries, certificates and Kerberos tickets are found. Neither
# LANG and its kin, which would translate messages, nor anything of PENSTOCK_*, nor what an engine's client would
# silently obey (PGHOST, MYSQL_HOST): that comes from the settings alone.
_INHERITED = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "KRB5CCNAME",
    "KRB5_CONFIG",
    "KRB5_CLIENT_KTNAME",
)


def search_path() -> list[str]:
    """The folders of PATH. Relative ones are left out: what lies in the working directory is not a program of ours."""
    return [folder for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if Path(folder).is_absolute()]


def env_for_child(extra: Mapping[str, str | Secret] | None = None, *, inherit: Iterable[str] = ()) -> dict[str, str]:
    """The environment of a child: the little of ours that programs need, LC_ALL=C for stable messages, and `extra`.

    `inherit` names further variables to pass on where they are set. The values of secrets are in the result: give it
    straight to the child, and the same secrets as its `secrets`.
    """
    env = {name: os.environ[name] for name in (*_INHERITED, *inherit) if name in os.environ}
    env["PATH"] = os.pathsep.join(search_path())
    env["LC_ALL"] = "C"
    for name, value in (extra or {}).items():
        env[name] = value.reveal() if isinstance(value, Secret) else value
    return env


@contextmanager
def private_file(content: Secret | bytes, *, name: str = "secret") -> Iterator[Path]:
    """A file called `name` with `content`, for the length of the `with` block, that only this user can read.

    It has mode 0600 in a new folder of mode 0700, which is removed on every way out of the block. Only a process that
    is killed outright leaves it behind: let TMPDIR be in memory where that matters.
    """
    data = content.reveal().encode() if isinstance(content, Secret) else content
    with TemporaryDirectory(prefix="penstock-") as folder:
        path = Path(folder) / name
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
        yield path
