"""One HTTP exchange with the vendor, bounded in time and size however slowly or long the other side talks."""

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
"""How long to wait for a connection, and between two bytes."""

EXCHANGE_SECONDS = 45.0
"""How long an answer may take as a whole, to its last byte."""

LARGEST_RESPONSE = 64 * 1024 * 1024
CHUNK = 1024 * 1024


@dataclass(frozen=True)
class ApiResponse:
    """What came back. `content` is empty where the body of a success went to a file."""

    status_code: int
    reason: str
    headers: Mapping[str, str]  # case-insensitive
    content: bytes = field(repr=False)

    @property
    def ok(self) -> bool:
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
    **request: Any,
) -> ApiResponse:
    """Sends one request and reads the whole answer; `what` names the call in messages, which never hold its contents.

    The body of a success goes to the file `into`, where one is given; it is emptied first. Redirects are not followed:
    they would carry secrets elsewhere. Raises NetworkError, which says whether the request may have arrived, and
    ServerError where the answer can't be decoded or is too large.
    """
    deadline = time.monotonic() + seconds
    if hasattr(request.get("data"), "read"):
        request["data"] = _Timely(request["data"], deadline)
    try:
        with session.request(
            method,
            url,
            auth=authorize,  # not a header: with one, requests would let ~/.netrc win
            timeout=(CONNECT_SECONDS, SILENCE_SECONDS),
            allow_redirects=False,
            stream=True,
            **request,
        ) as answer:
            body = bytearray()
            target = into if into is not None and 200 <= answer.status_code < 300 else None
            if target is not None:
                target.seek(0)
                target.truncate()
            for chunk in _chunks(answer, deadline):
                if target is not None:
                    target.write(chunk)
                elif len(body) + len(chunk) > LARGEST_RESPONSE:
                    raise ServerError(f"{what}: the answer is longer than {LARGEST_RESPONSE} bytes")
                else:
                    body += chunk
    except (DecodeError, requests.exceptions.ContentDecodingError) as broken:
        raise ServerError(f"{what}: the answer can't be decoded ({type(broken).__name__})") from None
    except TimeoutError:
        raise NetworkError(f"{what}: SoftPro did not finish its answer in {seconds:.0f} s") from None
    except (requests.RequestException, HTTPError) as failed:
        message = f"{what}: SoftPro did not answer ({type(failed).__name__})"
        raise NetworkError(message, sent=_was_sent(failed)) from None
    return ApiResponse(answer.status_code, answer.reason or "", CaseInsensitiveDict(answer.headers), bytes(body))


class _Timely:
    """A body that is streamed, and no longer than until the deadline: a slow reader could make it last for ever."""

    def __init__(self, body: Any, deadline: float) -> None:
        self._body, self._deadline = body, deadline
        self.len: int = body.len  # so that requests need not read it to know

    def read(self, size: int = -1) -> bytes:
        if time.monotonic() > self._deadline:
            raise TimeoutError("the time for sending it is over")
        data: bytes = self._body.read(size)
        return data


def _chunks(answer: requests.Response, deadline: float) -> Iterator[bytes]:
    """The decoded body as it arrives; `iter_content` would wait for whole chunks, and so for a dripping answer."""
    while chunk := answer.raw.read1(CHUNK, decode_content=True):
        yield chunk
        if time.monotonic() > deadline:
            raise TimeoutError


def _was_sent(failed: Exception) -> bool:
    """Whether the request may have arrived: not where no connection was made."""
    if isinstance(failed, requests.ConnectTimeout):
        return False
    reason = getattr(failed.args[0], "reason", None) if failed.args else None
    return not isinstance(reason, NewConnectionError)
