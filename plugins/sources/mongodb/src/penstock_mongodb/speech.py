"""What the tools and the server say, made fit for an error: without credentials and without documents."""

import re

__all__ = ["spoken"]

#: What the server refuses it quotes, and that may be a user with the keys of a password.
_QUOTED = re.compile(r"(execute command|applyOps:?) [{\[].*")
_CREDENTIAL = re.compile(
    r"salt|storedKey|serverKey|iterationCount|SCRAM-SHA|credential|passw(or)?d|\bpwd\b|\bsecret|BinData", re.IGNORECASE
)
#: Where a value begins that a credential's word, or a document around it, announces.
_DOCUMENT = re.compile(r"[{\[]|BinData|[\w-]+\"?'? *[:=] *[\"'{\[]")
_DUPLICATE = re.compile(r"(dup key: )\{.*")


def spoken(line: str) -> str:
    """One line without the document that it quotes.

    Whatever the server's wording, a line with a word of credentials ends before the first document or value in it.
    """
    line = _DUPLICATE.sub(r"\1…", _QUOTED.sub(r"\1 …", line))
    if found := _CREDENTIAL.search(line):
        begins = _DOCUMENT.search(line)
        line = line[: min(found.start(), begins.start() if begins else len(line))] + "…"
    return line
