"""Define what a route states about itself: its right, its largest body, its threads, and its form of errors."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import fastapi
from anyio import CapacityLimiter
from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from softpro_web.body_validation import parse
from softpro_web.limiters import Brake
from softpro_web.responses import failure
from softpro_web.threads import ORDINARY, in_thread, threaded

KIB = 1024
DEFAULT_BODY_BYTES = 64 * KIB
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Right:
    """A right that a route needs. `counted` calls are limited per minute and user."""

    name: str
    counted: bool = False


@dataclass(frozen=True)
class Limits:
    """The limits of a route, stated with `limits` on its function.

    Attributes:
        body: the largest body, in bytes.
        threads: the threads that run the function, if it is not a coroutine function.
        brake: the limits of a route without a login; None closes the route to strangers.
        secret_address: the query and the path parameters are secrets, which the access log omits.
    """

    body: int = DEFAULT_BODY_BYTES
    threads: CapacityLimiter = ORDINARY
    brake: Brake | None = None
    secret_address: bool = False


def limits(
    *,
    body: int = DEFAULT_BODY_BYTES,
    threads: CapacityLimiter = ORDINARY,
    brake: Brake | None = None,
    secret_address: bool = False,
) -> Callable[[Endpoint], Endpoint]:
    """State the limits of a route. Place the decorator below that of the router."""

    def state(endpoint: Endpoint) -> Endpoint:
        endpoint.softpro_limits = Limits(body, threads, brake, secret_address)  # type: ignore[attr-defined]
        return endpoint

    return state


class _ParsedRequest(Request):
    """A request whose JSON was parsed in a thread."""

    parsed: Any = None

    async def json(self) -> Any:
        if isinstance(self.parsed, json.JSONDecodeError):
            raise self.parsed
        return self.parsed


class Route(APIRoute):
    """A route of this API."""

    @property
    def limits(self) -> Limits:
        stated: Limits = getattr(self.endpoint, "softpro_limits", Limits())
        return stated

    @property
    def right(self) -> Right | None:
        """Return the right in the route's parameters, or None for an open route."""
        calls: Iterator[object] = (each.call for each in _all(self.dependant))
        return next((each for each in calls if isinstance(each, Right)), None)

    def refuse(self, failed: Exception) -> Response:
        """Return the response for an error."""
        return failure(failed)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        self.dependant.call = threaded(self.endpoint, self.limits.threads)
        original = super().get_route_handler()
        if self.body_field is None:
            return original

        async def handle(request: Request) -> Response:
            parsing = _ParsedRequest(request.scope, request.receive)
            parsing.parsed, problems = await in_thread(parse, await parsing.body())
            if problems:
                raise RequestValidationError(problems)
            return await original(parsing)

        return handle


class PageRoute(Route):
    """A route that a browser shows: its errors are pages with words."""

    def refuse(self, failed: Exception) -> Response:
        return failure(failed, as_page=True)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        original = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await original(request)
            except Exception as failed:  # noqa: BLE001 - a browser gets a page for every error
                return self.refuse(failed)

        return handle


class APIRouter(fastapi.APIRouter):
    """FastAPI's router, with routes of this API."""

    def __init__(self, prefix: str = "", *, kind: type[Route] = Route, **options: Any) -> None:
        super().__init__(prefix=prefix, route_class=kind, **options)


def _all(dependant: Dependant) -> Iterator[Dependant]:
    for each in dependant.dependencies:
        yield each
        yield from _all(each)
