"""Send requests over a socket byte for byte, as no well-behaved client would."""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 60
JSON = ("Content-Type", "application/json")

Headers = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True)
class Request:
    """A request as it is sent. `target` is the path with its query, not escaped further."""

    method: str
    target: str | bytes
    headers: Headers = ()
    body: bytes | None = None
    host: str | None = None
    stranger: bool = False
    """Sent from an address of its own, because open routes limit the rate of each address."""

    def with_headers(self, *headers: tuple[str, str | bytes]) -> Request:
        return Request(self.method, self.target, self.headers + headers, self.body, self.host, self.stranger)

    def shows(self, text: str) -> bool:
        """Return whether the request itself holds the text, so that its response may repeat it."""
        sent = [_bytes(self.target), self.body or b"", *(_bytes(value) for _, value in self.headers)]
        return any(text.encode() in each for each in sent)

    def __str__(self) -> str:
        return f"{self.method} {_bytes(self.target).decode(errors='backslashreplace')[:160]}"


@dataclass(frozen=True)
class Response:
    """A response. Status 0 means that the server closed the connection without one."""

    status: int
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def json(self) -> Any:
        """Return the body's JSON, or None."""
        with suppress(ValueError):
            return json.loads(self.body)
        return None


CLOSED = Response(0)


def loopback_addresses() -> Iterator[str]:
    """Yield addresses of this machine in turn: all of 127.0.0.0/8 on Linux, one elsewhere."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.1.0.1", 0))
        except OSError:
            return itertools.repeat("127.0.0.1")
    return itertools.cycle(f"127.1.{high}.{low}" for high in range(4) for low in range(1, 251))


@dataclass
class HttpClient:
    """A client of one server, with one connection for its users and a new one for each stranger."""

    origin: str
    _kept: socket.socket | None = None
    _addresses: Iterator[str] = field(default_factory=loopback_addresses)

    def send(self, request: Request) -> Response:
        """Return the response, or `CLOSED`."""
        if request.stranger:
            with self._connect(next(self._addresses)) as connection:
                return self._exchange(connection, request)[0]
        for fresh in (False, True):  # the server may have closed the kept connection
            if self._kept is None or fresh:
                self.close()
                self._kept = self._connect()
            response, reusable = self._exchange(self._kept, request)
            if not reusable:
                self.close()
            if response is not CLOSED:
                return response
        return CLOSED

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _connect(self, source: str | None = None) -> socket.socket:
        address = urlsplit(self.origin)
        assert address.hostname is not None
        assert address.port is not None
        own = (source, 0) if source else None
        return socket.create_connection((address.hostname, address.port), TIMEOUT_SECONDS, own)

    def _exchange(self, connection: socket.socket, request: Request) -> tuple[Response, bool]:
        try:
            connection.sendall(self._bytes(request))
            with HTTPResponse(connection, method=request.method) as answer:
                answer.begin()
                body = answer.read()
                return Response(answer.status, answer.getheaders(), body), not answer.will_close
        except (OSError, HTTPException):
            return CLOSED, False

    def _bytes(self, request: Request) -> bytes:
        names = {name.lower() for name, _ in request.headers}
        lines = [b" ".join((request.method.encode(), _bytes(request.target), b"HTTP/1.1"))]
        lines += [b"Host: " + (request.host or urlsplit(self.origin).netloc).encode()]
        lines += [name.encode() + b": " + _bytes(value) for name, value in request.headers]
        if request.body is not None and not names & {"content-length", "transfer-encoding"}:
            lines.append(b"Content-Length: %d" % len(request.body))
        return b"\r\n".join(lines) + b"\r\n\r\n" + (request.body or b"")


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()
