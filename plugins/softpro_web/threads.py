"""Run blocking work in threads of this API, so that it never occupies those of Airflow."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter

Result = TypeVar("Result")

ORDINARY = CapacityLimiter(16)
"""Threads for short work: statements with a timeout of seconds."""
VENDOR = CapacityLimiter(8)
"""Threads for calls to SoftPro, which can take its timeouts."""
EXPENSIVE = CapacityLimiter(2)
"""Threads for previews and refreshes of coverage."""


async def in_thread(
    work: Callable[..., Result], *arguments: object, limiter: CapacityLimiter = ORDINARY, **named: object
) -> Result:
    """Return the result of blocking work."""
    return await anyio.to_thread.run_sync(functools.partial(work, *arguments, **named), limiter=limiter)


def threaded(endpoint: Callable[..., Any], limiter: CapacityLimiter) -> Callable[..., Any]:
    """Return an endpoint as a coroutine function. A blocking one runs in a thread of this API."""
    if inspect.iscoroutinefunction(endpoint):
        return endpoint

    @functools.wraps(endpoint)
    async def run(**arguments: object) -> Any:
        return await in_thread(endpoint, limiter=limiter, **arguments)

    return run
