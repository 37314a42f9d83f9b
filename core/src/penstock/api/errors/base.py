"""What all errors are."""

from typing import ClassVar

__all__ = [
    "PenstockError",
    "say_more",
]


class PenstockError(Exception):
    """Base of all expected errors; shown to the operator without a traceback.

    `message` says what failed and on which stream or key; `hint` says what to do next; `details` holds further lines,
    such as the last output of a child process. None of them may contain a secret.
    """

    exit_code: ClassVar[int] = 1
    #: Whether the same call may succeed if simply repeated.
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str | None = None, details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details

    def __reduce__(self) -> tuple[object, ...]:
        # Worker processes pass errors on. By default, unpickling calls the class with the message alone, which fails
        # for classes that take more arguments, and brings down the whole pool of workers.
        return _without_init, (type(self), self.args), vars(self)


def _without_init(kind: type[PenstockError], args: tuple[object, ...]) -> PenstockError:
    return kind.__new__(kind, *args)


def say_more(error: BaseException, *lines: str) -> None:
    """Let an error that passes by tell more: in its `details`, or in the notes of one that is not a `PenstockError`.

    For what is left behind, or gone. The notes of an interrupt are shown to the operator, as details are.
    """
    if isinstance(error, PenstockError):
        error.details += lines
        return
    for line in lines:
        error.add_note(line)
