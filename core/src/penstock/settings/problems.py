"""Problems of a settings file, each with its key path and what is allowed; values are never repeated."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from penstock.api import PolicyKeepsNothing, SettingsError
from penstock.settings.keeping import KEEPS_NOTHING
from penstock.settings.models import BackupSettings, Document, PluginTable, RepositorySettings

__all__ = ["Problem", "did_you_mean", "key_path", "raise_for", "shape_problems"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_TABLES: Mapping[str, type[PluginTable]] = {"repositories": RepositorySettings, "backups": BackupSettings}
_REFERENCE = (
    "must say where to find the secret, not the secret itself, since others may read this file: "
    '{ env = "NAME" }, { file = "PATH" }, { command = ["PROGRAM", "ARGUMENT"] }'
)


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem: where, as a TOML key path ("" for the whole file), and what, without the value.

    `kind` is the error that it is by itself.
    """

    where: str
    what: str
    kind: type[SettingsError] = SettingsError

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


def key_path(parts: Sequence[str | int]) -> str:
    """`backups.shop.url`, quoted as TOML does where needed."""
    return ".".join(
        str(part) if _BARE.fullmatch(str(part)) else '"' + _printable(str(part)).replace('"', '\\"') + '"'
        for part in parts
    )


def did_you_mean(word: str, words: Sequence[str]) -> str:
    """`; did you mean X?` or nothing."""
    close = get_close_matches(word, words, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def raise_for(path: Path, problems: Sequence[Problem]) -> None:
    """Raise one `SettingsError` that lists all `problems`, if there are any; of their kind, if they have one."""
    kinds = {problem.kind for problem in problems}
    kind = kinds.pop() if len(kinds) == 1 else SettingsError
    if len(problems) == 1:
        raise kind(f"{path}: {problems[0]}")
    if problems:
        raise kind(f"{path}: {len(problems)} settings are not valid", details=tuple(map(str, problems)))


def shape_problems(error: ValidationError) -> list[Problem]:
    """The problems of a `Document`, each once, in the order of the file."""
    return list(dict.fromkeys(_problem(details) for details in error.errors(include_url=False)))


def _problem(error: ErrorDetails) -> Problem:
    location = error["loc"]
    if len(location) >= 3 and location[0] == "repositories" and location[2] == "passphrase":
        return Problem(key_path(location[:3]), _REFERENCE)
    if location[-1:] == ("[key]",):
        return Problem(key_path(location[:-1]), "a name consists of at most 100 letters, digits, '-', '_' and '.'")
    where = key_path(location)
    match error["type"]:
        case "extra_forbidden":
            allowed = list(_table_of(location).model_fields)
            what = "unknown key" + did_you_mean(str(location[-1]), allowed) + f" (allowed: {', '.join(allowed)})"
        case "model_type" | "dict_type" | "model_attributes_type":
            what = f"must be a table: [{where}]"
        case _ if error["type"] == KEEPS_NOTHING:
            return Problem(where, error["msg"], PolicyKeepsNothing)
        case "value_error":
            what = str(error["ctx"]["error"])
            if what.startswith("needs either url or type") and isinstance(error["input"], Mapping):
                what += _meant(location, error["input"])
        case "string_type":
            what = "must be text in quotes"
        case "path_type":
            what = "must be the path of a file, in quotes"
        case _:
            what = error["msg"][:1].lower() + error["msg"][1:]
    return Problem(where, what)


def _table_of(location: tuple[int | str, ...]) -> type[BaseModel]:
    """The model of the table that the key at `location` is in, however deep."""
    table: Any = Document
    for part in location[:-1]:
        # Of a mapping, such as that of all backups, every key has the same model.
        inner = get_args(table)[1] if get_origin(table) is dict else table.model_fields[part].annotation
        table = next(
            one for one in (inner, *get_args(inner)) if get_origin(one) is dict or hasattr(one, "model_fields")
        )
    found: type[BaseModel] = table
    return found


def _meant(location: tuple[int | str, ...], given: Mapping[str, Any]) -> str:
    table = _TABLES[str(location[0])]
    for key in given:
        if key not in table.model_fields and (meant := did_you_mean(key, ("url", "type"))):
            return f": {key_path((key,))} is neither{meant}"
    return ""


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
