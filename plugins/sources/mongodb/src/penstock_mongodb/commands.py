"""Commands as the operator may repeat them, and what the server said about one that it refused."""

import json
from collections.abc import Mapping
from typing import Any

from bson import json_util
from pymongo.errors import OperationFailure

from penstock_mongodb.speech import spoken

__all__ = ["reason_of", "repeated", "text_of"]

_EJSON = json_util.JSONOptions(json_mode=json_util.JSONMode.CANONICAL)


def text_of(value: Mapping[str, Any]) -> str:
    """As the shell reads it."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError:  # a date, a decimal, whatever JSON does not know
        return f"EJSON.deserialize({json_util.dumps(value, json_options=_EJSON)})"


def repeated(database: str, command: Mapping[str, Any]) -> str:
    """The statement that gives a command again, in the shell's language."""
    return f"db.getSiblingDB({json.dumps(database)}).runCommand({text_of(command)})"


def reason_of(refused: OperationFailure) -> str:
    """Why the server refused a command, without a document of anybody's."""
    told = refused.details.get("errmsg") if refused.details else None
    return spoken(str(told or refused)).rpartition(" :: caused by :: ")[2]
