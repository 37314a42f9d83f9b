"""Settings from a sink's URL, which must hold no secret: everyone on the host can read a command line."""

from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from penstock.api.errors import UsageError
from penstock.api.former import name_now
from penstock.api.plugin import PluginSettings

__all__ = ["settings_of_query", "split_url"]


def split_url(url: str, *, scheme: str, names: str, example: str, hint: str) -> SplitResult:
    """The parts of a sink's URL, whose authority names a bucket or an account alone.

    `names` says what the URL names ("a bucket"), `example` shows one, `hint` says where credentials belong instead.
    Raises `UsageError`, which does not repeat the URL: it may hold a secret.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise UsageError(f"the {scheme}: URL cannot be parsed", hint=f"Write it like {example}.") from None
    if "@" in parts.netloc or ":" in parts.netloc:
        raise UsageError(f"a {scheme}: URL names {names} alone: no credentials, and no port", hint=hint)
    if not parts.netloc or parts.fragment:
        raise UsageError(f"a {scheme}: URL names {names}", hint=f"Write it like {example}.")
    return parts


def settings_of_query(
    parts: SplitResult,
    settings: dict[str, Any],
    *,
    model: type[PluginSettings],
    credentials: tuple[str, ...],
    hint: str,
) -> dict[str, Any]:
    """`settings`, which the rest of a URL gave, and those of its query: any of `model` but these and `credentials`.

    Raises `UsageError` for an unknown or repeated parameter, and for credentials, with `hint`.
    """
    own = settings.keys() | {"prefix"}
    found = dict(settings)
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        renamed = name_now(model.former, [name])
        if name in credentials or (renamed and renamed[1] in credentials):
            raise UsageError("the URL holds credentials, which everyone on this host could read", hint=hint)
        if renamed:
            raise UsageError(f"the URL has an unknown parameter: {renamed[0]}", hint=f"Use {renamed[1]} instead.")
        if name in own or name not in model.model_fields:
            allowed = ", ".join(sorted(model.model_fields.keys() - own - {*credentials}))
            raise UsageError("the URL has an unknown parameter", hint=f"Use any of: {allowed}.")
        if name in found:
            raise UsageError(f"the URL sets {name} twice")
        found[name] = value
    return found
