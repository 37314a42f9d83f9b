"""Credentials of the settings or of the machine, and the tokens made from them."""

import json
import os
import threading
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google.auth
import google.auth.exceptions
from google.auth.transport.urllib3 import Request

from penstock.api import Deadline, Secret, SettingsError, SinkDenied, SinkUnreachable
from penstock.api.object_store import KeptCredentials
from penstock_gcs.settings import GcsSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.auth.credentials import Credentials

    from penstock.api.object_store.http import Pools

__all__ = ["Authority"]

_SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)
#: Object retention is part of what only full control covers.
_SCOPES_FOR_LOCKS = ("https://www.googleapis.com/auth/devstorage.full_control",)
_OTHER_KINDS = {"authorized_user", "external_account", "impersonated_service_account"}
_HINT = (
    "Name a service account's file (credentials_file, or GOOGLE_APPLICATION_CREDENTIALS), run "
    "`gcloud auth application-default login`, or use the service account of this machine."
)


class Authority:
    """Authorizes requests. One lock around all of it: google-auth's credentials are not safe in threads."""

    def __init__(self, settings: GcsSettings, pools: "Pools") -> None:
        self._settings = settings
        self._pools = pools
        self._lock = threading.Lock()
        #: Which credentials are used, and what google-auth made of them.
        self.kept: KeptCredentials[Secret | None, Credentials] = KeptCredentials(
            self._text, identity=lambda text: None if text is None else text.reveal()
        )

    def headers(self, key: str, method: str, url: str, deadline: Deadline, *, anew: bool = False) -> dict[str, str]:
        """The headers that authorize the request; with `anew`, by a new token. Raises `SinkError`."""
        if self._settings.sends_no_credentials:
            return {}
        headers: dict[str, str] = {}
        with self._lock, _translated(key):
            request = _BoundedRequest(self._pools, deadline, self._settings.read_timeout)
            credentials = self.kept.use(lambda text: self._load(text, request))
            if anew:
                credentials.refresh(request)  # type: ignore[no-untyped-call]
            credentials.before_request(request, method, url, headers)  # type: ignore[no-untyped-call]
        return headers

    def _load(self, text: Secret | None, request: Request) -> "Credentials":
        scopes = _SCOPES if self._settings.object_lock == "none" else _SCOPES_FOR_LOCKS
        if text is not None and self._settings.credentials_file is not None:
            return _from_json(text.reveal(), f"the file {self._settings.credentials_file}", scopes, request)
        if text is not None and self._settings.credentials_json is not None:
            return _from_json(text.reveal(), "credentials_json", scopes, request)
        found: Credentials
        found, _project = google.auth.default(scopes=scopes, request=request)
        return found

    def _text(self) -> Secret | None:
        """The JSON as it is kept now; None where it is no file or command of ours: google-auth renews what it finds."""
        if self._settings.credentials_file is not None:
            path = self._settings.credentials_file
            try:
                return Secret(path.read_text(encoding="utf-8-sig"))  # some editors begin it with a BOM
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
                raise SettingsError(f"credentials_file: {path} cannot be read: {reason}") from None
        if self._settings.credentials_json is not None:
            return self._settings.credentials_json.resolve()
        if named := os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
            with suppress(OSError, UnicodeDecodeError):
                return Secret(Path(named).read_text(encoding="utf-8"))
        return None


def _from_json(text: str, origin: str, scopes: tuple[str, ...], request: Request) -> "Credentials":
    # Whatever goes wrong here may quote the text, a private key.
    try:
        info = json.loads(text)
        kind = info["type"]
        if kind == "service_account":
            from google.oauth2 import service_account

            make = service_account.Credentials.from_service_account_info
            found: Credentials = make(info, scopes=scopes)  # type: ignore[no-untyped-call]
            return found
        if kind in _OTHER_KINDS:
            return _of_other_kind(info, scopes, request)
    except (ValueError, TypeError, KeyError, google.auth.exceptions.GoogleAuthError):
        raise SettingsError(f"{origin} holds credentials that cannot be parsed", hint=_HINT) from None
    raise SettingsError(
        f"{origin} holds credentials of an unknown kind",
        hint="Use the JSON of a service account, or of workload identity federation.",
    )


def _of_other_kind(info: Mapping[str, Any], scopes: tuple[str, ...], request: Request) -> "Credentials":
    found: Credentials
    load = google.auth.load_credentials_from_dict
    found, _project = load(info, scopes=scopes, request=request)  # type: ignore[no-untyped-call]
    return found


class _BoundedRequest(Request):
    """How google-auth asks for tokens: on our connections, within the deadline of the call that needs one."""

    def __init__(self, pools: "Pools", deadline: Deadline, longest: float) -> None:
        super().__init__(pools)  # type: ignore[no-untyped-call]
        self._deadline = deadline
        self._longest = longest

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **more: Any,
    ) -> Any:
        longest = self._longest if timeout is None else timeout
        bounded = self._deadline.limit(longest)
        return super().__call__(url, method, body, headers, bounded, **more)  # type: ignore[no-untyped-call]


@contextmanager
def _translated(key: str) -> "Iterator[None]":
    try:
        yield
    except google.auth.exceptions.DefaultCredentialsError as error:
        named = "GOOGLE_APPLICATION_CREDENTIALS"
        found = f"{named} names no usable credentials" if named in os.environ else "no credentials were found"
        raise SinkDenied(key, f"cannot sign in to Google Cloud: {found}", hint=_HINT) from error
    except google.auth.exceptions.GoogleAuthError as error:
        if error.retryable or isinstance(error, google.auth.exceptions.TransportError):
            raise SinkUnreachable(key, "no token for the credentials: the token service does not answer") from error
        hint = "Check that the key and the account still exist, and this host's clock."
        raise SinkDenied(key, f"the credentials were refused: {_refusal(error)}", hint=hint) from error


def _refusal(error: google.auth.exceptions.GoogleAuthError) -> str:
    """The OAuth error code (RFC 6749, section 5.2) where there is one: further words could quote anything."""
    for part in error.args:
        if isinstance(part, Mapping) and isinstance(part.get("error"), str):
            return str(part["error"])[:100]
    return type(error).__name__
