"""Whether a connection leaves the machine, and what the setting `tls` then means: the same for all engines."""

from collections.abc import Callable, Iterable
from ipaddress import IPv6Address, ip_address
from typing import TypeVar

from penstock.api.checks import Check
from penstock.api.servers.settings import Tls

__all__ = ["TLS_HINT", "about_unverified", "effective_tls", "leaves_machine", "unverified_server"]

_Facts = TypeVar("_Facts")

#: What to do about a server that is refused for its certificate, or because it has none.
TLS_HINT = (
    "Over a network a server has to prove who it is: name the authority that signed its certificate in tls_ca. "
    'Or say that whoever answers is taken for it: tls = "require", or without encryption tls = "disable".'
)

_UNVERIFIED = ("disable", "prefer", "require")


def leaves_machine(hosts: Iterable[str]) -> bool:
    """Whether any of the hosts, without ports, is neither a Unix socket (a path, or @ and a name) nor loopback.

    Names are not looked up: but for localhost, every name is one of another machine. An empty one is the engine's
    default, which is on this one.
    """
    return any(not _is_here(host) for host in hosts)


def effective_tls(tls: Tls, hosts: Iterable[str], *, here: Tls | None) -> Tls | None:
    """The word that counts for a connection to one of `hosts`.

    `auto` is verify-full over a network, and `here`, whatever the engine usually does, where the connection does not
    leave the machine. Any other word stays.
    """
    if tls != "auto":
        return tls
    return "verify-full" if leaves_machine(hosts) else here


def about_unverified(tls: Tls, hosts: Iterable[str]) -> tuple[str, ...]:
    """The warning of `unverified_server`: a connection over a network to a server that need not prove who it is."""
    far = [host for host in hosts if not _is_here(host)]
    if not far or tls not in _UNVERIFIED:
        return ()
    return (f"the connection to {', '.join(far)} is not verified: tls = {tls}",)


def unverified_server(find: Callable[[_Facts], Iterable[str]]) -> Check[_Facts]:
    """The check for a server that need not prove who it is: of a dump, and of a restore, whose facts are the settings.

    `find` gives what `about_unverified` says of the hosts in the facts.
    """
    return Check("unverified-server", "whoever answers gets the password, and may give any data", find)


def _is_here(host: str) -> bool:
    if not host or host.startswith(("/", "@")) or host.lower() == "localhost":
        return True
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
