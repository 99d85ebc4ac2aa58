"""HTTP for deliveries. Loading it takes a while, which a sandbox that sends no webhooks is spared."""

import asyncio
import functools
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from softpro_sandbox.webhooks.delivery import Post

RESPONSE_TIMEOUT_SECONDS = 5.0


@asynccontextmanager
async def open_http_post() -> AsyncIterator[Post]:
    """What posts a body with headers to an address and says whether a 2xx came within 5 s (contract, Webhooks)."""
    # Redirects are not followed and proxies not asked: the address is the receiver's own.
    async with httpx.AsyncClient(verify=_ssl_context(), trust_env=False, timeout=None) as http:  # noqa: S113 - see below

        async def post(url: str, body: bytes, headers: dict[str, str]) -> bool:
            try:
                async with asyncio.timeout(RESPONSE_TIMEOUT_SECONDS):
                    return (await http.post(url, content=body, headers=headers)).is_success
            except (httpx.HTTPError, httpx.InvalidURL, TimeoutError):
                return False

        yield post


@functools.cache
def _ssl_context() -> ssl.SSLContext:
    """What certificates are checked with; made once, since loading them takes long."""
    return httpx.create_ssl_context(trust_env=False)
