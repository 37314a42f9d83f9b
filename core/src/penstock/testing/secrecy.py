"""Whether a secret shows in a text, or is kept as one."""

import re
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any, get_args
from urllib.parse import quote

from pydantic import BaseModel, SecretBytes, SecretStr

from penstock.api import PluginSettings, Secret
from penstock.testing.kit import NotApplicable
from penstock.testing.source_lab import SourceLab

__all__ = ["everything_said", "has_any", "kept_as_text", "masked", "settings_that_are_secrets", "shown"]

_NAMES_OF_SECRETS = re.compile(r"(^|_)(password|passwd|pwd|passphrase|secret|token|api_key|access_key)$")
_DEEPEST = 6


def shown(lab: SourceLab, text: str) -> list[str]:
    """Which of the secrets are in the text, as they are or as a URL has them. By number: failures are read by many."""
    return [
        f"secret number {number}" for number, secret in enumerate(_forms(lab)) if any(one in text for one in secret)
    ]


def has_any(secrets: Iterable[str], text: str) -> bool:
    """Whether any of the secrets is in the text, as it is or as a URL has it."""
    return any(one in text for secret in secrets for one in (secret, quote(secret, safe="")))


def masked(lab: SourceLab, text: str) -> str:
    """The text with `***` in the place of each secret."""
    for form in sorted((one for forms in _forms(lab) for one in forms), key=len, reverse=True):
        text = text.replace(form, "***")
    return text


def everything_said(error: BaseException | None) -> str:
    """All text of an error, and of those that it came from."""
    said = []
    while error is not None:
        said += [str(error), repr(error), repr(vars(error))]
        error = error.__cause__ or error.__context__
    return "\n".join(said)


def kept_as_text(lab: SourceLab, kept: object, name: str) -> list[str]:
    """Where in an object and in what it refers to a secret is kept as text that anything can show; `Secret` is fine."""
    return [place for place, text in _texts(kept, name, set(), 0) if shown(lab, text)]


def settings_that_are_secrets(model: type[PluginSettings]) -> list[str]:
    """The settings that are secrets, by their names, and take the secret itself instead of a reference to it."""
    return [
        name
        for name, field in model.model_fields.items()
        if _NAMES_OF_SECRETS.search(name) and _kinds(field.annotation) & {str, bytes, SecretStr, SecretBytes}
    ]


def _forms(lab: SourceLab) -> list[set[str]]:
    secrets = () if isinstance(lab.secrets, NotApplicable) else lab.secrets
    return [{secret, quote(secret, safe="")} for secret in secrets]


def _kinds(annotation: Any) -> set[Any]:
    """The types that an annotation is made of, but for what a model in it is made of."""
    return {annotation}.union(*(_kinds(one) for one in get_args(annotation)))


def _texts(kept: object, name: str, seen: set[int], depth: int) -> Iterator[tuple[str, str]]:
    if id(kept) in seen or depth > _DEEPEST or isinstance(kept, Secret | type | ModuleType):
        return
    seen.add(id(kept))
    match kept:
        case str():
            yield name, kept
        case bytes() | bytearray():
            yield name, kept.decode(errors="replace")
        case SecretStr() | SecretBytes():  # masked when shown, but revealed by pickling, and by whoever asks
            yield from _texts(kept.get_secret_value(), name, seen, depth)
        case Mapping():
            for key, value in list(kept.items()):
                yield from _texts(value, f"{name}[{key!r}]", seen, depth + 1)
        case list() | tuple() | set() | frozenset():
            for value in list(kept):
                yield from _texts(value, f"{name}[…]", seen, depth + 1)
        case BaseModel():
            for key in type(kept).model_fields:
                yield from _texts(getattr(kept, key), f"{name}.{key}", seen, depth + 1)
        case _:
            for key, value in list(getattr(kept, "__dict__", {}).items()):
                yield from _texts(value, f"{name}.{key}", seen, depth + 1)
