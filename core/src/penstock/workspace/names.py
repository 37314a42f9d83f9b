"""What a text on the command line or in a request names: a URL, or something in the settings."""

import re
from urllib.parse import unquote

__all__ = ["is_url", "name_of"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def is_url(text: str) -> bool:
    """Whether `text` begins with a URL scheme; names in the settings have no colon."""
    return _URL.match(text) is not None


def name_of(url: str) -> str:
    """The name of a backup that was not named: the last part of its URL's path, without its ending, or the scheme."""
    scheme, _, rest = url.partition(":")
    path = unquote(re.split(r"[?#]", rest.removeprefix("//"), maxsplit=1)[0])
    path = path.rpartition("@")[2]  # a misplaced password must not become a name
    last = path.rstrip("/").rpartition("/")[2] if "/" in path or not rest.startswith("//") else ""
    stem = re.sub(r"\.[A-Za-z0-9]{1,8}$", "", last)
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-.") or scheme.lower()
