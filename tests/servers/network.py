"""The way to a server that leaves the machine, as far as anybody can tell: by the machine's own address."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import pytest
from tests.servers.proxy import FaultyProxy


def own_address() -> str | None:
    """An IPv4 address of this machine that is not loopback, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))  # sends nothing: it only chooses where a packet would leave from
        except OSError:
            return None
        address: str = asking.getsockname()[0]
    return None if ip_address(address).is_loopback else address


@contextmanager
def over_a_network(host: str, port: int) -> Iterator[tuple[str, int]]:
    """An address and a port of this machine that lead to a server, and are not loopback; skips where there are none."""
    address = own_address()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    with FaultyProxy(host, port, listen=address) as proxy:
        yield address, proxy.port
