"""Post webhooks over HTTP. Import this only when needed: loading the HTTP client slows the start."""

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
    """Yield a function that posts a body and returns whether a 2xx came within 5 s (contract, Webhooks)."""
    # No redirects and no proxies: the address is the receiver's own.
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
    """Return the TLS context that verifies certificates; cached, since loading it is slow."""
    return httpx.create_ssl_context(trust_env=False)
