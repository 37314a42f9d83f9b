"""Words that are easy to write down and to type: the EFF's long list, as xkcdpass ships it."""

from functools import lru_cache

__all__ = ["word_list"]


@lru_cache(1)
def word_list() -> tuple[str, ...]:
    """The 7,776 words, sorted by code point; checkpoints depend on each being where it is."""
    from xkcdpass import xkcd_password

    file = xkcd_password.locate_wordfile("eff-long")
    return tuple(sorted(xkcd_password.generate_wordlist(file, min_length=1, max_length=99)))
