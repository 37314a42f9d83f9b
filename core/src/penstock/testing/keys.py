"""Keys that storage is known to stumble over."""

__all__ = ["INVALID_KEYS", "ODD_KEYS"]

#: Valid, and awkward for some storage or other; none is the folder of another.
ODD_KEYS = (
    "a",
    "0",
    "-",
    "_",
    "..a",
    ".hidden",
    "h/.hidden/b",
    "a.b-c_d/0",
    "tmp/x",
    ".tmp/x",
    "a-/b",
    "b/index",
    "b-",
    "b.c",
    "index.html",
    "con/nul/aux",
    "deep/1/2/3/4/5/6/7/8/9",
    "packs/00/" + "f" * 32,
    "x" * 200,
)

#: To be refused; the first of them would lead out of a folder.
INVALID_KEYS = (
    "../out",
    "in/../../out",
    "in/..",
    "..",
    ".",
    "in/./a",
    "/absolute",
    "/",
    "",
    "end/",
    "in//a",
    "A",
    "ü",
    "a b",
    "a\\b",
    "a\n",
    "a\0",
    "a?b",
    "a#b",
    "a*",
    "a~",
    "%2e%2e/out",
    "x" * 201,
)
