"""The answer to PROPFIND: RFC 4918, sections 9.1 and 13."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import unquote, urlsplit

__all__ = ["PROPFIND", "Resource", "resources"]

PROPFIND = (
    b'<?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:"><prop>'
    b"<resourcetype/><getcontentlength/><getlastmodified/></prop></propfind>"
)
_DAV = "{DAV:}"


@dataclass(frozen=True, slots=True)
class Resource:
    """One file or folder: its path without escapes and without a slash at its end."""

    path: str
    is_folder: bool
    size: int
    modified: datetime | None


def resources(body: bytes) -> Iterator[Resource]:
    """The resources in an answer. Raises `ValueError` for anything but a multistatus document."""
    try:
        # The operator's own server; Python's expat bounds the growth of entities.
        root = ET.fromstring(body)  # noqa: S314
    except ET.ParseError as error:
        raise ValueError(str(error)) from error
    for response in root.iter(f"{_DAV}response"):
        path = unquote(urlsplit(response.findtext(f"{_DAV}href", "").strip()).path).rstrip("/")
        for found in response.iter(f"{_DAV}propstat"):
            if " 200 " not in f"{found.findtext(f'{_DAV}status', '')} ":
                continue
            modified = found.findtext(f"{_DAV}prop/{_DAV}getlastmodified")
            yield Resource(
                path=path,
                is_folder=found.find(f"{_DAV}prop/{_DAV}resourcetype/{_DAV}collection") is not None,
                size=int(found.findtext(f"{_DAV}prop/{_DAV}getcontentlength") or 0),
                modified=parsedate_to_datetime(modified).astimezone(UTC) if modified else None,
            )
