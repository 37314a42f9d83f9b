"""The SDK's transport: requests by the HTTP that all sinks share, each within the deadline of its call."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from azure.core.pipeline.transport import HttpResponse, HttpTransport
from azure.core.rest import HttpRequest
from azure.core.utils import case_insensitive_dict

from penstock.api import Deadline
from penstock.api.object_store.http import Answer, Http
from penstock_azure.refusals import refused

__all__ = ["Call", "Response", "SharedTransport"]


@dataclass(slots=True)
class Call:
    """One call of the SDK: what for, until when, and the last answer to it."""

    action: str
    key: str
    deadline: Deadline
    answer: Answer | None = None


class Response(HttpResponse):
    """An answer as the SDK wants it; the body was read already."""

    def __init__(self, request: HttpRequest, answer: Answer) -> None:
        super().__init__(request, answer)  # type: ignore[arg-type]  # typed for the former kind of request
        self.answer = answer
        self.status_code = answer.status
        self.headers = case_insensitive_dict(answer.headers)
        self.content_type = answer.headers.get("content-type")

    def body(self) -> bytes:
        """The whole body."""
        return self.answer.body

    def read(self) -> bytes:
        """The whole body."""
        return self.answer.body

    def stream_download(self, pipeline: Any, **options: Any) -> "_Blocks":
        """The whole body, in one block."""
        del pipeline, options
        return _Blocks(self)


class _Blocks:
    """What the SDK asks a download for; it sets attributes of its own, too."""

    def __init__(self, response: Response) -> None:
        self.response = response
        self.content_length = len(response.answer.body)
        self._blocks = iter((response.answer.body,))

    def __iter__(self) -> Iterator[bytes]:
        return self._blocks

    def __next__(self) -> bytes:
        return next(self._blocks)


class SharedTransport(HttpTransport[HttpRequest, HttpResponse]):
    """Sends for all threads, each of which says with `call` what it is about.

    The SDK lets errors pass that are not its own: a `SinkError` when no whole answer comes, and `Refused` for one that
    is not a success. So it decodes, logs and repeats none of these.
    """

    def __init__(self, http: Http) -> None:
        self._http = http
        self._running = threading.local()

    @contextmanager
    def call(self, action: str, key: str, deadline: Deadline) -> Iterator[Call]:
        """What this thread sends meanwhile belongs to this call."""
        call = self._running.call = Call(action, key, deadline)
        try:
            yield call
        finally:
            del self._running.call

    def send(self, request: HttpRequest, **options: Any) -> Response:
        """One request and its whole answer, within the deadline of the call; the SDK's `options` bound nothing."""
        del options
        call: Call = self._running.call
        body = request.content or b""
        # The length is `Http`'s business: a second header in another case would be a second length.
        headers = {name: value for name, value in request.headers.items() if name.lower() != "content-length"}
        call.answer = answer = self._http.send(
            call.key, request.method, request.url, call.deadline, headers=headers, body=(body,) if body else ()
        )
        if answer.is_success or _is_challenge(request, answer):
            return Response(request, answer)
        raise refused(call.action, answer)

    def open(self) -> None:
        """Nothing: connections open on demand."""

    def close(self) -> None:
        """Close the idle connections."""
        self._http.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_challenge(request: HttpRequest, answer: Answer) -> bool:
    """Whether the SDK may answer with another token."""
    return answer.status == 401 and request.headers.get("Authorization", "").startswith("Bearer ")
