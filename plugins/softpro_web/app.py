"""Create the app: routers, middleware, error handlers and the OpenAPI description."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic.alias_generators import to_camel
from starlette.routing import BaseRoute

from softpro.errors import SettingsError
from softpro.settings import WebSettings, load
from softpro_web.database import close_web_database
from softpro_web.deps import CSRF_HEADER, admit
from softpro_web.middleware.admission import WITH_BODY, Admission
from softpro_web.refusals import counter
from softpro_web.responses import ERROR_RESPONSES, install_error_handlers
from softpro_web.routes import (
    access,
    audit,
    browser,
    conflicts,
    connection,
    coverage,
    docs,
    health,
    holds,
    mappings,
    preview,
    quarantine,
    settings,
    sync,
    versions,
    webhooks,
    write_back,
)
from softpro_web.routing import Route
from softpro_web.threads import in_thread

log = logging.getLogger(__name__)

OPEN_ROUTES = {
    ("GET", "/callback"),
    ("GET", "/connect/{token}"),
    ("GET", "/health"),
    ("POST", "/webhooks/{integration_id}"),
}
"""The routes without a login. The docstring of each gives the reason, and its brake limits strangers."""

RESOURCES = (
    connection,
    browser,
    settings,
    mappings,
    versions,
    preview,
    coverage,
    sync,
    quarantine,
    holds,
    conflicts,
    write_back,
    webhooks,
    access,
    audit,
    health,
    docs,
)


def create_app() -> FastAPI:
    """Return the app that Airflow mounts at `URL_PREFIX`."""
    app = FastAPI(
        title="SoftPro 360 integration",
        description="Connects organizations to SoftPro 360, maps their fields, and syncs their records.",
        version="1",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        responses=ERROR_RESPONSES,
        generate_unique_id_function=_operation_id,
        lifespan=_lifespan,
    )
    for resource in RESOURCES:
        app.include_router(resource.router, tags=[_module(resource.__name__)])
    routes = _checked(app.routes)
    app.add_middleware(Admission, routes=routes, admit=admit)
    if origins := _allowed_origins():
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "DELETE", *WITH_BODY],
            allow_headers=["Authorization", "Content-Type", CSRF_HEADER],
            allow_credentials=False,  # a frontend of another origin sends a Bearer token, never the cookie
            expose_headers=["Retry-After"],
        )
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    install_error_handlers(app)
    return app


@asynccontextmanager
async def _lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Write the counts and close the connections when the server stops.

    Airflow runs the lifespans of the apps that it mounts.
    """
    try:
        yield
    finally:
        await in_thread(counter.write)
        await in_thread(close_web_database)


def _checked(found: list[BaseRoute]) -> list[Route]:
    """Return the routes, each of which needs a right, except the open ones, which have a brake.

    Raises:
        RuntimeError: A route has neither, is open by mistake, or is none of this API's kind.
    """
    if unlike := [route for route in found if not isinstance(route, Route)]:
        raise RuntimeError(f"These routes need softpro_web.routing.APIRouter: {unlike}")
    routes = [route for route in found if isinstance(route, Route)]
    without = {(method, route.path) for route in routes if route.right is None for method in route.methods}
    braked = {(method, route.path) for route in routes if route.limits.brake for method in route.methods}
    if without != OPEN_ROUTES or braked != OPEN_ROUTES:
        raise RuntimeError(f"These routes are open or closed by mistake: {(without | braked) ^ OPEN_ROUTES}")
    return routes


def _allowed_origins() -> list[str]:
    """Return the origins of frontends elsewhere. A wrong setting allows none, and does not stop Airflow."""
    try:
        (web,) = load(WebSettings)
    except SettingsError as wrong:
        log.error("No other origin is allowed: %s", wrong)
        return []
    return web.origins


def _operation_id(route: APIRoute) -> str:
    """Return the OpenAPI id of an operation: the name of its function, in camelCase."""
    return to_camel(route.name)


def _module(name: str) -> str:
    return name.rpartition(".")[2]


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI description, created once, without the 422 responses, which this API sends as 400."""
    if app.openapi_schema is None:
        found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        for operations in found["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            found["components"]["schemas"].pop(name, None)
        app.openapi_schema = found
    return app.openapi_schema
