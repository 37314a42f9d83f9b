"""The options that an operator may give a restore, as a model: the words of `RestoreTarget.options`."""

from typing import ClassVar, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from penstock.api.errors import UsageError
from penstock.api.former import name_now
from penstock.api.models import RestoreTarget

__all__ = ["RestoreOptions"]


class RestoreOptions(BaseModel):
    """Base of a source's options for a restore: unknown words are refused, values are frozen.

        class Options(RestoreOptions):
            engine = "Ledger"
            owners: Literal["yes", "no"] = "yes"

        Options.of(target).owners

    Every field has a default. A source without options has a model without fields. The error about a wrong value says
    which ones are right: those of a `Literal`, or the description of the field.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    #: What is restored into, for errors.
    engine: ClassVar[str]
    #: Names that these options do not have, such as former ones, each with the option to use: they are refused.
    former: ClassVar[dict[str, str]] = {}

    @classmethod
    def of(cls, target: RestoreTarget) -> Self:
        """The options of a target; raises `UsageError` for an unknown one, and for a value that one cannot have."""
        if found := name_now(cls.former, target.options):
            raise UsageError(
                f"unknown option {found[0]} for a restore into {cls.engine}", hint=f"Use {found[1]} instead."
            )
        for name in sorted(target.options.keys() - cls.model_fields.keys()):
            known = ", ".join(sorted(cls.model_fields))
            raise UsageError(
                f"unknown option {name} for a restore into {cls.engine}",
                hint=f"Use one of: {known}." if known else "Leave it out: such a restore has no options.",
            )
        try:
            return cls.model_validate(dict(target.options))
        except ValidationError as error:
            name = str(error.errors()[0]["loc"][0])
            field = cls.model_fields[name]
            words = field.description or " or ".join(map(str, get_args(field.annotation)))
            raise UsageError(
                f"the option {name} cannot be {target.options[name]!r}", hint=f"Set it to {words}."
            ) from None
