"""Whether a secret shows in a text."""

from urllib.parse import quote

from penstock.testing.kit import NotApplicable
from penstock.testing.source_lab import SourceLab

__all__ = ["everything_said", "shown"]


def shown(lab: SourceLab, text: str) -> list[str]:
    """Which of the secrets are in the text, as they are or as a URL has them. By number: failures are read by many."""
    secrets = () if isinstance(lab.secrets, NotApplicable) else lab.secrets
    return [f"secret number {n}" for n, one in enumerate(secrets) if one in text or quote(one, safe="") in text]


def everything_said(error: BaseException | None) -> str:
    """All text of an error, and of those that it came from."""
    said = []
    while error is not None:
        said += [str(error), repr(error), repr(vars(error))]
        error = error.__cause__ or error.__context__
    return "\n".join(said)
