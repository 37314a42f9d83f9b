"""The patterns of pg_dump: which names they match, said as regular expressions of the server."""

import re

__all__ = ["regular_expressions"]

_SPECIAL = re.compile(r"[|*+?()\[\]{}.^$\\]")


def regular_expressions(pattern: str, parts: int) -> tuple[str, ...]:
    """One anchored regular expression for each part of `schema.name`; raises `ValueError` for more than `parts`.

    As `patternToSQLRegex` of PostgreSQL's fe_utils does it: `*` and `?` are as in a shell, unquoted letters of ASCII
    are lowered, double quotes take everything literally, a dollar is one, and the rest is a regular expression.
    """
    found = [""]
    quoted = False
    position = 0
    while position < len(pattern):
        letter = pattern[position]
        position += 1
        if letter == '"':
            if quoted and pattern[position : position + 1] == '"':
                found[-1] += letter
                position += 1
            else:
                quoted = not quoted
        elif letter == "." and not quoted:
            found.append("")
        elif letter == "$" or (quoted and _SPECIAL.match(letter)) or pattern[position - 1 : position + 1] == "[]":
            found[-1] += f"\\{letter}"
        elif quoted:
            found[-1] += letter
        else:
            found[-1] += {"*": ".*", "?": "."}.get(letter, letter.lower() if letter.isascii() else letter)
    if len(found) > parts:
        shape = "schema.name" if parts == 2 else "one name"
        raise ValueError(f"the pattern {pattern} has more parts than {shape}: a dot within a name needs double quotes")
    return tuple(f"^({part})$" for part in found)
