"""Paths in a settings file are relative to that file, in plugins' settings too."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from penstock.api.secrets import SecretFile

__all__ = ["anchored"]


def anchored(values: Mapping[str, Any], model: type[BaseModel], folder: Path) -> dict[str, Any]:
    """`values` for `model`, with each relative path below `folder`, and `~` as the home of this user.

    The model's annotations tell what is a path; values that do not fit them are left for the model to refuse.
    """
    result = dict(values)
    for name, field in model.model_fields.items():
        key = field.alias or name
        if key in result:
            result[key] = _anchored(result[key], tuple(_types(field.annotation)), folder)
    return result


def _anchored(value: Any, types: tuple[Any, ...], folder: Path) -> Any:
    if isinstance(value, str) and Path in types and value:
        return str(_absolute(value, folder))
    if isinstance(value, Mapping):
        if SecretFile in types and isinstance(value.get("file"), str) and value["file"]:
            return {**value, "file": str(_absolute(value["file"], folder))}
        models = [one for one in types if isinstance(one, type) and issubclass(one, BaseModel)]
        if len(models) == 1:
            return anchored(value, models[0], folder)
    if isinstance(value, list):
        return [_anchored(one, types, folder) for one in value]
    return value


def _absolute(text: str, folder: Path) -> Path:
    path = Path(text)
    with suppress(RuntimeError):  # no such home; then it is a name like any other
        path = path.expanduser()
    return folder / path


def _types(annotation: Any) -> Iterator[Any]:
    """The annotation and all types that it is made of."""
    yield annotation
    for one in get_args(annotation):
        yield from _types(one)
