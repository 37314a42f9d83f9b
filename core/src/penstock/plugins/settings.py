"""Validates plain values against a plugin's settings model, with errors that an operator can act on.

Errors never quote a value: a misplaced one may be a password.
"""

import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from penstock.api import Plugin, PluginSettings, SettingsError
from penstock.api.former import FORMER_NAME

__all__ = ["validated"]

_LONG_ENOUGH_TO_MEAN_ITSELF = 8


def validated(kind: str, plugin: type[Plugin], values: Mapping[str, Any]) -> PluginSettings:
    """`values` as the settings of `plugin`. Raises `SettingsError`, which names each wrong key and what is allowed."""
    try:
        return plugin.Settings.model_validate(dict(values))
    except ValidationError as error:
        problems = list(dict.fromkeys(_problem(plugin.Settings, one, values) for one in error.errors()))
    # Not chained: pydantic's own error quotes the values.
    message = f"the settings of the {kind} plugin {plugin.name!r} are not valid"
    hint = f"Use only these settings: {_overview(plugin.Settings)}."
    if len(problems) == 1:
        raise SettingsError(f"{message}: {problems[0]}", hint=hint)
    raise SettingsError(message, hint=hint, details=tuple(problems))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the settings an error is; `exact` unless it is inside one branch of a `union`."""

    path: tuple[str, ...]
    siblings: tuple[str, ...]
    description: str
    union: bool
    exact: bool


def _problem(model: type[BaseModel], error: ErrorDetails, values: Mapping[str, Any]) -> str:
    place = _locate(model, error["loc"])
    key = ".".join(place.path)
    if not place.exact:
        return f"{key}: not valid" + (f"; allowed is {place.description}" if place.description else "")
    if error["type"] == "missing":
        return f"{key} is missing" + (f" ({place.description})" if place.description else "")
    if error["type"] == "extra_forbidden":
        close = get_close_matches(place.path[-1], place.siblings, n=1)
        return f"{key} is not a setting" + (f"; did you mean {close[0]}?" if close else "")
    if error["type"] == FORMER_NAME:
        return f"{key}: {error['msg']}" if key else error["msg"]  # of the plugin's own names: it quotes no value
    by_plugin = error["type"] in {"value_error", "assertion_error"}
    reason = error["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if any(_repeats(reason, text, by_plugin=by_plugin) for text in _texts(values)):
        reason = "not a valid value"
    if place.description and not place.union:
        reason += f" ({place.description})"
    return f"{key}: {reason}" if key else reason


def _locate(model: type[BaseModel], location: tuple[int | str, ...]) -> _Place:
    path: list[str] = []
    fields: Mapping[str, FieldInfo] | None = model.model_fields
    siblings: tuple[str, ...] = ()
    description, union = "", False
    for step in location:
        path.append(str(step))
        field = fields.get(str(step)) if fields is not None else None
        siblings = tuple(fields) if fields is not None else ()
        fields, description = None, ""
        if field is not None:
            branches = list(_branches(field.annotation))
            description = field.description or next((text for _, text in branches if text), "")
            union = len(branches) > 1
            if union:
                break
            only = branches[0][0] if branches else None
            if isinstance(only, type) and issubclass(only, BaseModel):
                fields = only.model_fields
    return _Place(tuple(path), siblings, description, union, exact=len(path) == len(location))


def _branches(annotation: object, description: str = "") -> Iterator[tuple[object, str]]:
    """The types in a union, without None, each with its description from the annotation."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *metadata = get_args(annotation)
        texts = [one.description for one in metadata if isinstance(one, FieldInfo) and one.description]
        yield from _branches(inner, texts[0] if texts else description)
    elif origin is Union or origin is types.UnionType:
        for one in get_args(annotation):
            yield from _branches(one, description)
    elif annotation is not type(None):
        yield annotation, description


def _overview(model: type[BaseModel]) -> str:
    names = [f"{name} (required)" if field.is_required() else name for name, field in model.model_fields.items()]
    return ", ".join(names) or "none at all"


def _texts(values: object) -> Iterator[str]:
    if isinstance(values, str):
        yield values
    elif isinstance(values, Mapping):
        for one in values.values():
            yield from _texts(one)
    elif isinstance(values, list | tuple | set | frozenset):
        for one in values:
            yield from _texts(one)


def _repeats(reason: str, text: str, *, by_plugin: bool) -> bool:
    """Whether `reason` quotes `text`. A short text may occur in pydantic's own sentences by chance."""
    if len(text) >= _LONG_ENOUGH_TO_MEAN_ITSELF:
        return text in reason
    return by_plugin and bool(text) and re.search(rf"(?<![\w/.-]){re.escape(text)}(?![/.-]*\w)", reason) is not None
