"""Connections, for all threads: urllib3's pools, straight or through the proxy that the environment names."""

import threading
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from penstock.api import SettingsError
from penstock_gcs.settings import GcsSettings

__all__ = ["Pools"]

#: Where virtual machines ask for their own tokens; it is on the machine's own link, behind no proxy.
_METADATA_SERVERS = {"metadata.google.internal", "169.254.169.254"}


class Pools:
    """A pool manager for each way out, made when first used; urllib3's are safe to use from several threads."""

    def __init__(self, settings: GcsSettings) -> None:
        if settings.tls_ca is not None and not settings.tls_ca.is_file():
            raise SettingsError(f"tls_ca: there is no file {settings.tls_ca}")
        self._options: dict[str, Any] = {
            "maxsize": settings.max_connections,
            "block": False,
            "ca_certs": None if settings.tls_ca is None else str(settings.tls_ca),
        }
        self._lock = threading.Lock()
        self._pools: dict[str, urllib3.PoolManager] = {}

    def request(
        self, method: str, url: str, *, body: Any = None, headers: Any = None, **more: Any
    ) -> urllib3.BaseHTTPResponse:
        """One request, with no retries and no redirects; raises urllib3's errors."""
        more.setdefault("retries", False)
        more.setdefault("redirect", False)
        pool = self._pool(_proxy_for(url))
        return pool.urlopen(method, url, body=body, headers=headers, **more)

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            pools = list(self._pools.values())
            self._pools.clear()
        for pool in pools:
            pool.clear()

    def _pool(self, proxy: str) -> urllib3.PoolManager:
        with self._lock:
            pool = self._pools.get(proxy)
            if pool is None:
                pool = urllib3.PoolManager(**self._options) if not proxy else _through(proxy, self._options)
                self._pools[proxy] = pool
            return pool


def _through(proxy: str, options: dict[str, Any]) -> urllib3.ProxyManager:
    parts = urlsplit(proxy)
    headers = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers = urllib3.make_headers(proxy_basic_auth=pair)
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return urllib3.ProxyManager(address, proxy_headers=headers, **options)


def _proxy_for(url: str) -> str:
    """The proxy of the usual variables (https_proxy, no_proxy, ...), or ""."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host in _METADATA_SERVERS or proxy_bypass(host):
        return ""
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all") or ""
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"
