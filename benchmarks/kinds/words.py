"""Texts made up of words, some of them much more often than others: they compress as texts do."""

import random
from hashlib import md5

__all__ = ["Chance"]

_LETTERS = bytes.maketrans(b"0123456789", b"aeioustrnl")
_WORDS = tuple(
    md5(b"word%d" % number, usedforsecurity=False).hexdigest().encode().translate(_LETTERS)[: 3 + number % 8].decode()
    for number in range(4000)
)


class Chance(random.Random):
    """Random numbers, and what is made of them."""

    def words(self, count: int) -> str:
        """So many words."""
        return " ".join(_WORDS[int(self.random() * self.random() * len(_WORDS))] for _ in range(count))

    def hexadecimal(self, digits: int) -> str:
        """So many digits."""
        return f"{self.getrandbits(4 * digits):0{digits}x}"
