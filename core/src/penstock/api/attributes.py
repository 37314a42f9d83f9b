"""What a snapshot says of a stream beside its bytes, as a model: read before it becomes SQL or an argument."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from penstock.api.errors import RestoreFailed
from penstock.api.models import StreamSpec

__all__ = ["RecordedName", "RecordedText", "RecordedVersion", "StreamAttributes"]

_VERSION = re.compile(r"(?!.*[0-9]{19})[\x20-\x7e]{1,200}")


def _without_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("it has a NUL in it")
    return value


def _version(value: str) -> str:
    if not _VERSION.fullmatch(value):
        raise ValueError("it is not a version")
    return value


RecordedText = Annotated[str, AfterValidator(_without_nul)]
"""Any text that a program can be given: without NUL. Whoever makes SQL of it quotes it."""

RecordedName = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_without_nul)]
"""The name of a database, a role or the like. Whoever makes SQL of it quotes it."""

RecordedVersion = Annotated[str, AfterValidator(_version)]
"""The version of a server or of a client program: one printable line whose numbers a computer can hold."""


class StreamAttributes(BaseModel):
    """Base of the model of a stream's attributes, for the restore: its snapshot may say anything.

        class Attributes(StreamAttributes):
            database: RecordedName
            collation: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")]
            grants: Json[tuple[tuple[RecordedName, Literal["read", "write"]], ...]] = ()

        Attributes.of(spec).database

    Values are of the very types that the fields have: attributes are texts, and what is in one of `Json` may be
    anything. Attributes without a field are ignored. `plan_restore` reads the attributes of every stream before it does
    anything else.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, defer_build=True)

    @classmethod
    def of(cls, spec: StreamSpec) -> Self:
        """The attributes of a stream; raises `RestoreFailed`, which names an unusable one and does not repeat it."""
        try:
            return cls.model_validate(dict(spec.attributes))
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            reason = first["msg"].removeprefix("Value error, ")
            what = f"an unusable {where}" if where else "what cannot be"
            raise RestoreFailed(
                f"{spec.name} cannot be restored: its snapshot records {what}: {reason}",
                hint="Find out who wrote the snapshot, and with what: Penstock does not record such a thing. "
                "The stream itself can be read with penstock cat.",
            ) from None
