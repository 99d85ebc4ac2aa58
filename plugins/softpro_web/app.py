"""Create the app: routers, middleware, error handlers and the OpenAPI description."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic.alias_generators import to_camel

from softpro_web.deps import authenticate
from softpro_web.middleware.authentication import Authentication
from softpro_web.middleware.body_limit import BodyLimit
from softpro_web.responses import ERROR_RESPONSES, install_error_handlers
from softpro_web.routes import (
    access,
    audit,
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

OPEN_ROUTES = (("GET", "/callback"), ("GET", "/health"), ("POST", "/webhooks/{integration_id}"))
"""The routes without a login. The docstring of each gives the reason."""

RESOURCES = (
    connection,
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
    )
    for resource in RESOURCES:
        app.include_router(resource.router, tags=[_module(resource.__name__)])
    app.add_middleware(BodyLimit)
    app.add_middleware(Authentication, open_to_all=OPEN_ROUTES, authenticate=authenticate)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    install_error_handlers(app)
    return app


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
