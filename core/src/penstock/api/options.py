"""What an operator may say of a restore, as a model: the words of `RestoreTarget.options`."""

from typing import ClassVar, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from penstock.api.errors import UsageError
from penstock.api.models import RestoreTarget

__all__ = ["RestoreOptions"]


class RestoreOptions(BaseModel):
    """Base of a source's options for a restore: unknown words are refused, values are frozen.

        class Options(RestoreOptions):
            engine = "Ledger"
            owners: Literal["yes", "no"] = "yes"

        Options.of(target).owners

    Every field has a default. What its values are, the error about a wrong one says: those of a `Literal`, or what the
    field has for a description.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    #: What is restored into, for errors.
    engine: ClassVar[str]

    @classmethod
    def of(cls, target: RestoreTarget) -> Self:
        """The options of a target; raises `UsageError` for one that is not there, or that cannot have its value."""
        for name in sorted(target.options.keys() - cls.model_fields.keys()):
            raise UsageError(
                f"a restore into {cls.engine} has no option {name}",
                hint=f"there are: {', '.join(sorted(cls.model_fields))}",
            )
        try:
            return cls.model_validate(dict(target.options))
        except ValidationError as error:
            name = str(error.errors()[0]["loc"][0])
            field = cls.model_fields[name]
            words = field.description or " or ".join(map(str, get_args(field.annotation)))
            raise UsageError(f"the option {name} cannot be {target.options[name]!r}", hint=f"it is {words}") from None
