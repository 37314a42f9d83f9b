"""Who asks: the user, and a password that may be replaced where it is kept while a run goes on."""

import base64
import threading
from contextlib import suppress

from penstock.api import PenstockError, Secret
from penstock_webdav.settings import WebDavSettings

__all__ = ["Login"]


class Login:
    """The password as it was read last: not for each request, since a command may give it. Several threads use it."""

    def __init__(self, settings: WebDavSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._password: Secret | None = None
        #: How often another password was found.
        self.generation = 0

    def headers(self) -> dict[str, str]:
        """What a request carries. Raises `SecretUnavailable`."""
        if self._settings.password is None:
            return {}
        with self._lock:
            if self._password is None:
                self._password = self._settings.password.resolve()
            text = f"{self._settings.user or ''}:{self._password.reveal()}"
        return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}

    def renew(self, generation: int) -> bool:
        """Read the password again; whether another than that of `generation` is in use now."""
        with self._lock:
            # Another thread may have found it already.
            if self.generation == generation and self._settings.password is not None:
                # What cannot be read at the moment is no reason for another error than the refusal.
                with suppress(PenstockError):
                    found = self._settings.password.resolve()
                    if self._password is None or found.reveal() != self._password.reveal():
                        self._password = found
                        self.generation += 1
            return self.generation != generation
