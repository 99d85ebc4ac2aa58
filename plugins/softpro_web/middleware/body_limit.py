"""Refuse bodies that are larger than any valid request."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from softpro_web.responses import HTTP_CODES, error

MAX_BYTES = 8 * 1024 * 1024


class BodyLimit:
    """ASGI middleware that responds 413 at once to a body announced as too large, and to others while it reads them."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced[:20]) > MAX_BYTES:
            await error(413, HTTP_CODES[413], _message())(scope, receive, send)
            return
        read = 0

        async def limited() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > MAX_BYTES:
                raise HTTPException(413, _message())
            return message

        await self.app(scope, limited, send)


def _message() -> str:
    return f"A body has at most {MAX_BYTES // 1024 // 1024} MiB"
