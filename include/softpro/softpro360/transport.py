"""Send one HTTP request to the vendor and read the response, with limits on time and size."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import requests
from requests.structures import CaseInsensitiveDict
from urllib3.exceptions import DecodeError, HTTPError, NewConnectionError

from softpro.errors import NetworkError, ServerError

CONNECT_SECONDS, SILENCE_SECONDS = 5, 30
"""The limits for connecting, and for the time between two bytes."""

EXCHANGE_SECONDS = 45.0
"""The limit for a whole exchange, to the last byte of the response."""

MAX_RESPONSE_BYTES = 64 * 1024 * 1024
CHUNK = 1024 * 1024


@dataclass(frozen=True)
class ApiResponse:
    """The vendor's response. `content` is empty if a success was written to a file."""

    status_code: int
    reason: str
    headers: Mapping[str, str]  # case-insensitive
    content: bytes = field(repr=False)

    @property
    def ok(self) -> bool:
        """Return whether the status is a success."""
        return 200 <= self.status_code < 300


def exchange(
    session: requests.Session,
    method: str,
    url: str,
    what: str,
    *,
    authorize: Callable[[requests.PreparedRequest], requests.PreparedRequest] | None = None,
    seconds: float = EXCHANGE_SECONDS,
    into: BinaryIO | None = None,
    max_bytes: int = MAX_RESPONSE_BYTES,
    **request: Any,
) -> ApiResponse:
    """Send one request and read the whole response. It follows no redirects, which would carry secrets elsewhere.

    Args:
        session: the HTTP session.
        method: the HTTP method.
        url: the address.
        what: the name of the call in messages, which never contain its contents.
        authorize: adds the authorization to the request.
        seconds: the limit for the whole exchange.
        into: a file for the body of a success, which is emptied first.
        max_bytes: the most bytes that the file takes; other bodies end at `MAX_RESPONSE_BYTES`.
        **request: further arguments of `requests`.

    Raises:
        NetworkError: no response; `sent` says whether the request may have arrived.
        ServerError: the response can't be decoded or is too large.
    """
    deadline = time.monotonic() + seconds
    if hasattr(request.get("data"), "read"):
        request["data"] = _DeadlineBody(request["data"], deadline)
    try:
        with session.request(
            method,
            url,
            auth=authorize,  # not a header: with one, requests would let ~/.netrc win
            timeout=(CONNECT_SECONDS, SILENCE_SECONDS),
            allow_redirects=False,
            stream=True,
            **request,
        ) as response:
            body, received = bytearray(), 0
            target = into if into is not None and 200 <= response.status_code < 300 else None
            if target is not None:
                target.seek(0)
                target.truncate()
            most = MAX_RESPONSE_BYTES if target is None else max_bytes
            for chunk in _chunks(response, deadline):
                received += len(chunk)
                if received > most:
                    raise ServerError(f"{what}: the response is longer than {most} bytes")
                if target is None:
                    body += chunk
                else:
                    target.write(chunk)
    except (DecodeError, requests.exceptions.ContentDecodingError) as broken:
        raise ServerError(f"{what}: the response can't be decoded ({type(broken).__name__})") from None
    except TimeoutError:
        raise NetworkError(f"{what}: SoftPro did not finish its response in {seconds:.0f} s") from None
    except (requests.RequestException, HTTPError) as failed:
        message = f"{what}: SoftPro did not respond ({type(failed).__name__})"
        raise NetworkError(message, sent=_was_sent(failed)) from None
    return ApiResponse(response.status_code, response.reason or "", CaseInsensitiveDict(response.headers), bytes(body))


class _DeadlineBody:
    """A streamed body that ends at the deadline, because a slow reader could make it last forever."""

    def __init__(self, body: Any, deadline: float) -> None:
        self._body, self._deadline = body, deadline
        self.len: int = body.len  # lets requests send a length without reading the body

    def read(self, size: int = -1) -> bytes:
        """Read the next bytes. Raises TimeoutError after the deadline."""
        if time.monotonic() > self._deadline:
            raise TimeoutError("the deadline for sending the body has passed")
        data: bytes = self._body.read(size)
        return data


def _chunks(response: requests.Response, deadline: float) -> Iterator[bytes]:
    """Yield the decoded body as it arrives. `iter_content` would wait for whole chunks of a slow response."""
    while chunk := response.raw.read1(CHUNK, decode_content=True):
        yield chunk
        if time.monotonic() > deadline:
            raise TimeoutError


def _was_sent(failed: Exception) -> bool:
    """Return whether the request may have arrived, which is impossible without a connection."""
    if isinstance(failed, requests.ConnectTimeout):
        return False
    reason = getattr(failed.args[0], "reason", None) if failed.args else None
    return not isinstance(reason, NewConnectionError)
