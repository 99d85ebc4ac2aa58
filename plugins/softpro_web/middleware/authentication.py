"""Authenticate requests before FastAPI, which would read and parse the body first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from softpro_web.responses import error_response_of


class Authentication:
    """ASGI middleware that closes every path except those in `open_to_all`, a list of (method, path).

    `authenticate` stores the user in the request's state, or raises HTTPException. It gets no body.
    """

    def __init__(
        self, app: ASGIApp, open_to_all: Iterable[tuple[str, str]], authenticate: Callable[[Request], Awaitable[None]]
    ) -> None:
        self.app = app
        self._open = [Route(path, endpoint=_no_endpoint, methods=[method]) for method, path in open_to_all]
        self._authenticate = authenticate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not any(route.matches(scope)[0] is Match.FULL for route in self._open):
            try:
                await self._authenticate(Request(scope))
            except HTTPException as refused:
                await error_response_of(refused)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _no_endpoint(_: Request) -> None:
    """Do nothing: these routes serve only to match paths."""
