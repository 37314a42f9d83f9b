"""Tags: what people call snapshots by, so that they are found and kept."""

import re

from penstock.api.errors import UsageError

__all__ = ["MAX_TAGS", "checked_tag"]

#: Of one backup: a head must stay small.
MAX_TAGS = 20
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:+-]{0,63}")


def checked_tag(tag: str) -> str:
    """The tag; raises `UsageError` unless it can be written on a command line and into a table as it is."""
    if _TAG.fullmatch(tag) is None:
        raise UsageError(
            f"not a tag: {tag!r}",
            hint="A tag has up to 64 letters, digits and _.:+-, and begins with a letter or digit.",
        )
    return tag
