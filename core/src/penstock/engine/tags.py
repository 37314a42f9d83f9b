"""Tags: what people call snapshots by, so that they are found and kept; and what else is said of them."""

import re

from penstock.api.errors import RepositoryError, UsageError

__all__ = ["MAX_TAGS", "checked_reason", "checked_tag", "outdated"]

#: Of one backup: a head must stay small.
MAX_TAGS = 20
_MAX_REASON = 1000
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:+-]{0,63}")


def checked_tag(tag: str) -> str:
    """The tag; raises `UsageError` unless it can be written on a command line and into a table as it is."""
    if _TAG.fullmatch(tag) is None:
        raise UsageError(
            f"not a tag: {tag!r}",
            hint="A tag has up to 64 letters, digits and _.:+-, and begins with a letter or digit.",
        )
    return tag


def checked_reason(reason: str) -> str:
    """The reason of a hold or of its release, for people; raises `UsageError` unless it is a text of some length."""
    reason = reason.strip()
    if not reason:
        raise UsageError("say why: --reason TEXT")
    if len(reason) > _MAX_REASON:
        raise UsageError(f"the reason has {len(reason):,} characters; {_MAX_REASON:,} are allowed")
    try:
        reason.encode()
    except UnicodeEncodeError:  # arguments that are not text come with surrogates
        raise UsageError("the reason is not UTF-8") from None
    return reason


def outdated(what: str) -> RepositoryError:
    """The error where something was said of a snapshot, and something else still applies.

    What is said applies in the order of its times: of some stores these are whole seconds, and a host that says it has
    a clock of its own.
    """
    return RepositoryError(
        f"{what}: the opposite was said in the same second, or this host's clock is late",
        hint="Run it again; if that does not help, set this host's clock.",
    )
