"""Whoever is not known is turned away at the door: FastAPI would read and parse a body before it asks who sent it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from softpro_web.responses import error_response_of


class Authentication:
    """ASGI: every path is closed but those in `open_to_all`, (method, path). `recognize` notes in the request's state
    who calls, or raises HTTPException; it is given no body."""

    def __init__(
        self, app: ASGIApp, open_to_all: Iterable[tuple[str, str]], recognize: Callable[[Request], Awaitable[None]]
    ) -> None:
        self.app = app
        self._open = [Route(path, endpoint=_no_endpoint, methods=[method]) for method, path in open_to_all]
        self._recognize = recognize

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not any(route.matches(scope)[0] is Match.FULL for route in self._open):
            try:
                await self._recognize(Request(scope))
            except HTTPException as refused:
                await error_response_of(refused)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _no_endpoint(_: Request) -> None:
    """The routes here only match."""
