"""Decide about a request by its route, before FastAPI reads and parses its body.

The middleware checks the login and the right, holds strangers to a rate, and reads the body within the route's limits.
It also sets the headers that every response has, and keeps secrets out of the access log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from softpro.db.audit_log import Actor, Source, acting
from softpro.errors import SoftProError
from softpro_web.limiters import Places, network
from softpro_web.responses import failure
from softpro_web.routing import DEFAULT_BODY_BYTES, KIB, Right, Route

BODY_SECONDS, STRANGERS_BODY_SECONDS = 30.0, 10.0
"""The time in which a body has to arrive, with and without a login."""

LARGE_BODIES, LARGE_BODIES_EACH = 4, 2
STRANGERS_BODIES, STRANGERS_BODIES_EACH = 200, 50
REFUSED = (400, 401, 404, 408, 413)
"""The statuses of a request that an open route refused after the brake had admitted it."""
WITH_BODY = ("POST", "PUT", "PATCH")
DEFAULT_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

Admit = Callable[[Request, Right | None], Awaitable[str]]


class Admission:
    """ASGI middleware in front of the routes.

    Args:
        app: the routes' app.
        routes: all routes. One without a right and without a brake is closed.
        admit: stores the caller with this right in the request's state and returns their name, or raises HTTPException
            or SoftProError.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[Route], admit: Admit) -> None:
        self.app = app
        self._routes = routes
        self._admit = admit
        self._large = Places(LARGE_BODIES, LARGE_BODIES_EACH)
        self._strangers = Places(STRANGERS_BODIES, STRANGERS_BODIES_EACH)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        route, parameters = self._match(scope)
        seen = _Seen(scope, route, parameters, send)
        with ExitStack() as held:
            try:
                caller = await self._decide(scope, route, held)
                receive = await self._read(scope, route, receive, caller, held)
            except (HTTPException, SoftProError) as refused:
                response: Response = route.refuse(refused) if route else failure(refused)
                await response(scope, receive, seen.send)
            else:
                await self.app(scope, receive, seen.send)
            finally:
                seen.scrub()
            if route is not None and route.limits.brake is not None and seen.status in REFUSED:
                route.limits.brake.refused(_client(scope))

    def _match(self, scope: Scope) -> tuple[Route | None, dict[str, Any]]:
        """Return the route of the request, if any, with the parameters in its path."""
        for route in self._routes:
            match, found = route.matches(scope)
            if match is Match.FULL:
                return route, found["path_params"]
        return None, {}

    async def _decide(self, scope: Scope, route: Route | None, held: ExitStack) -> str:
        """Admit the request, and return its user, or its client on an open route.

        Raises:
            HTTPException: The login or the right is missing.
            SoftProError: The caller or the address made too many calls, or the database is unavailable.
        """
        if route is None or route.limits.brake is None:
            caller = await self._admit(Request(scope), route.right if route else None)
            held.enter_context(acting(Actor(caller, Source.HTTP, _address(scope))))
            return caller
        client = _client(scope)
        held.enter_context(route.limits.brake.take(client))
        return client

    async def _read(self, scope: Scope, route: Route | None, receive: Receive, caller: str, held: ExitStack) -> Receive:
        """Read the body within the limits of the route, and return a `receive` that gives it to the app.

        Large bodies hold one of few places until the response is sent, which bounds the memory for all of them.

        Raises:
            HTTPException: The body is too large (413), or arrives too slowly (408).
            Busy: All places are taken.
        """
        if route is None or scope["method"] not in WITH_BODY:
            return receive
        limit, announced = route.limits.body, Headers(scope=scope).get("content-length", "")
        is_stranger = route.limits.brake is not None
        if announced and not (announced.isdigit() and int(announced[:20]) <= limit):
            raise _too_large(limit)
        with ExitStack() as reading:
            if is_stranger:
                reading.enter_context(self._strangers.take(caller))
            elif limit > DEFAULT_BODY_BYTES and (not announced or int(announced) > DEFAULT_BODY_BYTES):
                held.enter_context(self._large.take(caller))
            try:
                async with asyncio.timeout(STRANGERS_BODY_SECONDS if is_stranger else BODY_SECONDS):
                    body = await _whole_body(receive, limit)
            except TimeoutError:
                raise HTTPException(408, "The body did not arrive in time", {"Connection": "close"}) from None
        return _Replay(body, receive)


class _Seen:
    """A response on its way out: adds the common headers, and removes secrets from the access log."""

    def __init__(self, scope: Scope, route: Route | None, parameters: dict[str, Any], send: Send) -> None:
        self._scope, self._route, self._parameters, self._send = scope, route, parameters, send
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in DEFAULT_HEADERS.items():
                headers.setdefault(name, value)
            self.scrub()
        await self._send(message)

    def scrub(self) -> None:
        """Remove the query and the path parameters of an open route, which can be secrets, from the request.

        The server writes its access log from the same object, after the app is done with it.
        """
        if self._route is not None and self._route.limits.secret_address:
            self._scope["query_string"] = b""
            for value in self._parameters.values():
                self._scope["path"] = self._scope["path"].replace(str(value), "***")


class _Replay:
    """A `receive` that gives a body that was read before, and then continues with the client."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._message: Message | None = {"type": "http.request", "body": body, "more_body": False}
        self._receive = receive

    async def __call__(self) -> Message:
        message, self._message = self._message, None
        return message if message is not None else await self._receive()


async def _whole_body(receive: Receive, limit: int) -> bytes:
    """Return the body. Raises HTTPException if it is too large, or the client has left."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HTTPException(400, "The client closed the connection")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            return b"".join(parts)


def _too_large(limit: int) -> HTTPException:
    size = f"{limit // KIB} KiB" if limit % KIB == 0 else f"{limit:,} bytes"
    return HTTPException(413, f"The body of this request has at most {size}", {"Connection": "close"})


def _address(scope: Scope) -> str | None:
    client = scope.get("client")
    return str(client[0]) if client else None


def _client(scope: Scope) -> str:
    client = scope.get("client")
    return network(client[0]) if client else ""
