"""Asking for passphrases on a terminal."""

import getpass
import sys

from penstock.api.errors import UsageError
from penstock.api.secrets import Secret

__all__ = ["TerminalPrompts", "can_ask"]


def can_ask() -> bool:
    """Whether a person is there to be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


class TerminalPrompts:
    """Asks on the terminal; a `penstock.workspace.Prompts`."""

    def passphrase(self, repository: str, *, optional: bool) -> Secret | None:
        """The passphrase of a repository, or None if nothing was entered."""
        return _ask(f"Passphrase of {repository}{' (empty: do without)' if optional else ''}: ")

    def new_passphrase(self, purpose: str) -> Secret:
        """A new passphrase, entered twice. Raises `UsageError` if it is empty, or the two differ."""
        first = _ask(f"New passphrase {purpose}: ")
        if first is None:
            raise UsageError("a passphrase cannot be empty")
        again = _ask("The same again: ")
        if again is None or first.reveal() != again.reveal():
            raise UsageError("the two passphrases differ", hint="Try again: nothing was changed.")
        return first


def _ask(prompt: str) -> Secret | None:
    try:
        answer = getpass.getpass(prompt, stream=sys.stderr)
    except EOFError:
        return None
    return Secret(answer) if answer else None
