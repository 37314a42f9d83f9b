"""The settings of a SQLite source, and the URLs that stand for them."""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote_to_bytes, urlsplit

from pydantic import AfterValidator, Field

from penstock.api import PluginSettings, UsageError, WarningSettings

__all__ = ["CheckName", "SqliteSettings", "settings_from_url"]

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")

#: The names of all checks before a dump; `checks.py` has what they look for.
CheckName = Literal["leaves-files", "writers-wait", "damaged", "unreadable-table", "unchecked"]


def _database_file(path: Path) -> Path:
    if not path.name or str(path) == ":memory:" or "\0" in str(path):
        raise ValueError("must be the path of a database file")
    return path


class Warnings(WarningSettings):
    """Checks that say nothing."""

    ignore: tuple[CheckName, ...] = ()


class SqliteSettings(PluginSettings):
    """One database file.

    - `path`: the file, relative to the working directory unless absolute.
    - `busy_timeout`: how many seconds to wait for a lock that another process holds.
    - `stall_timeout`: how many seconds, on top of that, a dump may give no byte.
    - `row_counts`: `auto` counts rows and measures sizes of as many tables as two seconds allow, `off` of none.
    - `integrity_check`: have SQLite check the database before each dump, which reads all of it once more: `quick`
      leaves out that indexes match their tables, `full` does not; what they find fails the dump. `auto` is quick for as
      long as five seconds, and warns.
    - `immutable`: nobody writes to the database, as on a read-only mount of a snapshot: it is read without locks.
    - `copy_to`: a folder for a private copy of the database, made at the start of each dump. Writers of a database in
      rollback-journal mode are then held up for the length of the copy, not of the dump. Needs room for all of it.
    - `warnings`: `{ ignore = [...] }` names checks before a dump that say nothing.
    """

    path: Annotated[Path, AfterValidator(_database_file)]
    busy_timeout: float = Field(default=30.0, ge=0, le=86_400)
    stall_timeout: float = Field(default=300.0, gt=0, le=86_400)
    row_counts: Literal["auto", "off"] = "auto"
    integrity_check: Literal["auto", "off", "quick", "full"] = "auto"
    immutable: bool = False
    copy_to: Path | None = None
    warnings: Warnings = Warnings()


def settings_from_url(url: str) -> dict[str, Any]:
    """`sqlite:///abs/path.db` or `sqlite:relative/path.db`, percent-encoded where needed (RFC 3986, like `file:` URLs).

    `sqlite:////abs/path.db`, as some libraries write it, names the same file as with three slashes. Raises `UsageError`
    for a host, a query or a fragment (a `?` or `#` in a file name is written `%3F` or `%23`), and for no file name.
    """
    rest = url.split(":", 1)[1] if ":" in url else ""
    parts = urlsplit("sqlite:" + rest)
    if parts.netloc:  # it may hold a password: it is not repeated
        raise UsageError(
            "a SQLite URL has no host", hint="Write an absolute path with three slashes: sqlite:///srv/app.db."
        )
    if "?" in rest or "#" in rest:
        raise UsageError(
            f"sqlite:{parts.path}: a SQLite URL has no query and no fragment",
            hint="Write a ? or # in a file name as %3F or %23.",
        )
    if _BAD_ESCAPE.search(parts.path):
        raise UsageError(
            f"sqlite:{parts.path}: a % is not followed by two hexadecimal digits",
            hint="Write a % in a file name as %25.",
        )
    path = os.fsdecode(unquote_to_bytes(parts.path))
    if path.startswith("//"):
        path = "/" + path.lstrip("/")
    if not path or path.endswith("/") or path == ":memory:" or "\0" in path:
        raise UsageError(f"{url!r} names no database file", hint="Write it like sqlite:///srv/app.db.")
    return {"path": path}
