"""Notice that a client has left while its request is served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request


@asynccontextmanager
async def leaving(request: Request) -> AsyncIterator[asyncio.Task[None]]:
    """Yield a task that is done once the client has left. The body has to be read before.

    Starlette's `is_disconnected` does not see it, because a middleware of Airflow wraps what it asks.
    """
    task = asyncio.create_task(_until_gone(request))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
