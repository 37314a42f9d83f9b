"""Passphrases for new repositories: made up, or judged."""

from penstock.api.secrets import Secret
from penstock.format.words import word_list

__all__ = ["WEAK", "made_up", "strength"]

#: Powers of ten of guesses. A guess costs an attacker some 0.1 s of one processor and 64 MiB: ten to the twelfth of
#: them are 3,000 years of it, or a month of a hundred thousand.
WEAK = 12.0
#: Of a list of 7,776: 77 bits.
_WORDS = 6
#: What the estimate looks at; it takes time that grows with the square.
_LOOKED_AT = 72


def made_up() -> Secret:
    """Six random words of the EFF's long list, easy to write down and to type."""
    from xkcdpass import xkcd_password

    return Secret(xkcd_password.generate_xkcdpassword(list(word_list()), numwords=_WORDS, delimiter="-"))


def strength(passphrase: Secret) -> float:
    """How many guesses it takes, as a power of ten: zxcvbn's estimate for its first 72 characters."""
    from zxcvbn import zxcvbn

    return float(zxcvbn(passphrase.reveal()[:_LOOKED_AT])["guesses_log10"])
