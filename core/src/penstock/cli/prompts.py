"""Asking for passphrases on a terminal."""

import getpass
import sys
from collections.abc import Callable

from penstock.api.errors import UsageError
from penstock.api.secrets import Secret

__all__ = ["TerminalPrompts", "can_ask"]

_TRIES = 3


def can_ask() -> bool:
    """Whether a person is there to be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


class TerminalPrompts:
    """Asks on the terminal; a `penstock.workspace.Prompts`."""

    def passphrase(self, repository: str, *, optional: bool) -> Secret | None:
        """The passphrase of a repository, or None if nothing was entered."""
        return _ask(f"Passphrase of {repository}{' (empty: do without)' if optional else ''}: ")

    def new_passphrase(self, purpose: str) -> Secret:
        """A new passphrase, entered twice, or made up if none is entered. Raises `UsageError` if the two differ."""
        from penstock.workspace.passphrases import made_up

        first = _ask(f"New passphrase {purpose} (empty: make one up): ")
        if first is None:
            first = made_up()
            _say(f"\n    {first.reveal()}\n\nWrite it down now: it is shown once, and kept nowhere.")
            again = _ask("The passphrase that you wrote down: ")
        else:
            self._judge(first)
            again = _ask("The same again: ")
        if again is None or first.reveal() != again.reveal():
            raise UsageError("the two passphrases differ", hint="Try again: nothing was changed.")
        return first

    def _judge(self, passphrase: Secret) -> None:
        from penstock.workspace.passphrases import WEAK, strength

        power = strength(passphrase)
        if power < WEAK:
            _say(
                f"That one takes about 10^{power:.0f} guesses: too few for what opens every backup. Interrupt with "
                "Ctrl-C, and leave the passphrase empty to have a better one made up."
            )
        else:
            _say(f"That one takes about 10^{power:.0f} guesses or more.")

    def tried(self, repository: str, works: Callable[[Secret], bool]) -> bool:
        """Ask for the passphrase of a new repository once more, three times at most; whether it opened it."""
        for _ in range(_TRIES):
            answer = _ask(f"Once more, to try it on {repository} (empty: not now): ")
            if answer is None:
                return False
            if works(answer):
                return True
            _say("That one does not open it.")
        return False


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - part of the conversation


def _ask(prompt: str) -> Secret | None:
    try:
        answer = getpass.getpass(prompt, stream=sys.stderr)
    except EOFError:
        return None
    return Secret(answer) if answer else None
