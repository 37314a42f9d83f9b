"""The URLs of servers: what they say as settings, and settings as a URL.

    scheme://user@host:port/database?setting=value&list=one,two

A comma in a name within a list, and whatever else has a meaning, is percent-encoded (RFC 3986). No URL holds a secret.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_origin
from urllib.parse import quote, unquote

from penstock.api.errors import UsageError
from penstock.api.former import name_now
from penstock.api.servers.settings import ServerSettings

__all__ = ["ServerUrls", "server_location"]

_HINT = (
    'Name the password\'s place in the settings: password = { env = "NAME" }, { file = "…" } or { command = ["…"] }.'
)
_PLACE = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]*))?")
_REST = re.compile(r"(?P<authority>[^/?#]*)(?:/(?P<database>[^?#]*))?(?:\?(?P<query>[^#]*))?")


@dataclass(frozen=True, slots=True)
class ServerUrls:
    """What the URLs of one kind of server look like.

    `settings` is the model that they stand for. It has `hosts` where a URL may name several, else `host` and `port`.
    `server` is what errors call such a server, with its article; `example` a URL to copy.

    `words` are parameters of the engine's own connection strings, in lower case, with the settings that they mean, so
    that a string which operators have at hand works; `ignored` are those that mean nothing here. A parameter of
    `secret`, or a password in its usual place, is refused with `hint`.
    """

    settings: type[ServerSettings]
    server: str
    schemes: tuple[str, ...]
    example: str
    words: Mapping[str, str] = field(default_factory=dict)
    ignored: frozenset[str] = frozenset()
    secret: frozenset[str] = frozenset({"password"})
    hint: str = _HINT

    def parse(self, url: str) -> dict[str, Any]:
        """The settings that `url` stands for, as keyword arguments of the model.

        A list is a list; the bare word `all` stays one, for `databases`. Raises `UsageError`, which never repeats the
        URL: a secret may be in it.
        """
        scheme, _, rest = url.partition("://")
        found = _REST.fullmatch(rest)
        if scheme.lower() not in self.schemes or found is None:
            raise UsageError(f"not a URL of {self.server}", hint=f"Write it like {self.example}.")
        # From the right: a password with an unquoted @ in it must be told from the host, and refused as what it is.
        credentials, at, place = found["authority"].rpartition("@")
        if ":" in credentials:
            raise self._secret()
        if at and not credentials:
            raise UsageError(f"the URL of {self.server} has an empty user", hint=f"Write it like {self.example}.")
        said = {"user": unquote(credentials), **self._place(place), "database": unquote(found["database"] or "")}
        settings = {name: value for name, value in said.items() if value}
        for name, value in self._parameters(found["query"] or ""):
            if name in settings:
                raise UsageError(f"the URL gives {name} twice", hint="Separate the items of a list with commas.")
            settings[name] = value
        return settings

    @property
    def _allowed(self) -> set[str]:
        """The settings that a URL can hold: neither secrets nor tables, for which there is no text."""
        fields = self.settings.model_fields.items()
        tables = {name for name, field in fields if getattr(field.annotation, "model_fields", None)}
        return self.settings.model_fields.keys() - self.secret - tables

    def _place(self, place: str) -> dict[str, Any]:
        if "hosts" in self.settings.model_fields:
            return {"hosts": [unquote(host) for host in place.split(",") if host]}
        parts = _PLACE.fullmatch(place)
        if parts is None:
            raise UsageError(f"the URL of {self.server} has one host and one port at most")
        return {"host": unquote(parts["host"].strip("[]")), "port": parts["port"]}

    def _parameters(self, query: str) -> Iterator[tuple[str, Any]]:
        for parameter in filter(None, query.split("&")):
            word, _, value = parameter.partition("=")
            word = unquote(word)
            if word.lower() in self.ignored:
                continue
            if word.lower() in self.secret:
                raise self._secret()
            name = self.words.get(word.lower(), word)
            if name not in self._allowed:
                renamed = name_now(self.settings.former, [name])
                if renamed and renamed[1] in self.secret:
                    raise self._secret()
                allowed = renamed[1] if renamed else "one of: " + ", ".join(sorted(self._allowed))
                raise UsageError(f"unknown parameter {word} in the URL of {self.server}", hint=f"Use {allowed}.")
            several = get_origin(self.settings.model_fields[name].annotation) is tuple
            yield name, [unquote(item) for item in value.split(",")] if several and value != "all" else unquote(value)

    def _secret(self) -> UsageError:
        return UsageError("the URL holds a password, which everyone on this host could read", hint=self.hint)


def server_location(
    scheme: str, user: str | None, hosts: str, database: str | None, query: Mapping[str, str | Sequence[str] | None]
) -> str:
    """The URL that `ServerUrls.parse` would take for these settings.

    `hosts` is written as it is: with its port, and percent-encoded by the caller where need be. Parameters without a
    value are left out.
    """
    parameters = "&".join(f"{name}={_value(value)}" for name, value in query.items() if value)
    return (
        f"{scheme}://{quote(user, safe='') + '@' if user else ''}{hosts}/{quote(database or '', safe='')}"
        f"{'?' if parameters else ''}{parameters}"
    )


def _value(value: str | Sequence[str]) -> str:
    if isinstance(value, str):
        return quote(value, safe="/")
    # The bare word stands for all databases, not for one of that name.
    return ",".join(quote(item, safe="*") for item in value) if tuple(value) != ("all",) else "%61ll"
