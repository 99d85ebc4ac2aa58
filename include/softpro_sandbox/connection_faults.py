"""Break or slow down connections, as a failing host or a middlebox does."""

import asyncio
import socket
import struct
from asyncio import BaseTransport
from collections.abc import Awaitable, Callable

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

Reset = Callable[[Scope, Receive], Awaitable[None]]
"""Breaks the connection of a request."""


async def raise_reset(scope: Scope, receive: Receive) -> None:
    """Raise the exception that a client's socket would; for an app that is called without a network."""
    raise ConnectionResetError(f"{scope['method']} {scope['path']}: connection reset by the sandbox")


async def drip(app: ASGIApp, seconds: float, scope: Scope, receive: Receive, send: Send) -> None:
    """Call an app, and send its headers at once and its body one byte every `seconds`.

    When the client disconnects, the rest is dropped.
    """
    disconnect: asyncio.Task[None] | None = None

    async def send_slowly(message: Message) -> None:
        nonlocal disconnect
        if message["type"] != "http.response.body":
            await send(message)
            return
        disconnect = disconnect or asyncio.create_task(_wait_for_disconnect(receive))
        for byte in message.get("body", b""):
            if not disconnect.done():
                await asyncio.wait([disconnect], timeout=seconds)
                await send({"type": "http.response.body", "body": bytes([byte]), "more_body": True})
        if not message.get("more_body", False):
            await send({"type": "http.response.body"})

    try:
        await app(scope, receive, send_slowly)
    finally:
        if disconnect is not None:
            disconnect.cancel()


async def _wait_for_disconnect(receive: Receive) -> None:
    """Return when the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        continue


class ResetResponse(Response):
    """A reset connection in place of a response."""

    def __init__(self, reset: Reset) -> None:
        super().__init__()
        self.reset = reset

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Break the connection; nothing is sent."""
        await self.reset(scope, receive)


class Connections:
    """The open connections of a uvicorn server by client address, so that each can be reset."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, int], BaseTransport] = {}

    def protocol(self) -> type[HttpToolsProtocol]:
        """Return uvicorn's HTTP protocol, extended to register its connections here."""
        opened = self._open

        class Tracked(HttpToolsProtocol):
            def connection_made(self, transport: BaseTransport) -> None:
                super().connection_made(transport)  # type: ignore[arg-type]
                if self.client is not None:
                    opened[self.client] = transport

            def connection_lost(self, exc: Exception | None) -> None:
                if self.client is not None:
                    opened.pop(self.client, None)
                super().connection_lost(exc)

        return Tracked

    async def reset(self, scope: Scope, receive: Receive) -> None:
        """Reset the connection of a request and wait until the server has noticed."""
        transport = self._open.get(tuple(scope["client"]))
        if transport is not None:
            # Closing with a linger of 0 s sends RST instead of FIN.
            linger = struct.pack("ii", 1, 0)
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            transport.abort()  # type: ignore[attr-defined]
        await _wait_for_disconnect(receive)
