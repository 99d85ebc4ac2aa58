"""The app factory: routers, errors in the specification's envelope, no answer that a cache may keep."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from softpro.errors import (
    DatabaseUnavailable,
    DecidedAlready,
    DecryptionError,
    LeaseHeld,
    MappingError,
    NotConnected,
    NotFoundHere,
    OutOfDate,
    SettingsError,
    SoftProAPIError,
    SoftProError,
    UsageError,
    VersionConflict,
)
from softpro_web.deps import Reader
from softpro_web.routes import (
    connection,
    coverage,
    health,
    holds,
    mappings,
    preview,
    quarantine,
    sync,
    versions,
    webhooks,
)

log = logging.getLogger(__name__)

URL_PREFIX = "/api/v1/integrations/softpro"

# The first that fits, so the special before the general.
STATUS_CODES: list[tuple[type[SoftProError], int, str]] = [
    (NotFoundHere, 404, "NOT_FOUND"),
    (MappingError, 400, "VALIDATION_ERROR"),
    (DecidedAlready, 409, "DECIDED_ALREADY"),
    (UsageError, 400, "VALIDATION_ERROR"),
    (VersionConflict, 409, "CONFLICT"),
    (LeaseHeld, 409, "SYNC_RUNNING"),
    (NotConnected, 409, "NOT_CONNECTED"),
    (OutOfDate, 409, "CONFLICT"),
    (SoftProAPIError, 502, "SOFTPRO_ERROR"),
    (DatabaseUnavailable, 503, "DATABASE_UNAVAILABLE"),
    (SettingsError, 500, "CONFIGURATION_ERROR"),
    (DecryptionError, 500, "CONFIGURATION_ERROR"),
    (SoftProError, 500, "INTERNAL_ERROR"),
]
HTTP_CODES = {
    401: "AUTHENTICATION_ERROR",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    413: "TOO_LARGE",
}


def create_app() -> FastAPI:
    """The app that Airflow mounts at `URL_PREFIX`."""
    app = FastAPI(
        title="SoftPro 360 integration",
        description="Connects organizations to SoftPro 360, maps their fields, and syncs their records.",
        version="1",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    for resource in (connection, mappings, versions, preview, coverage, sync, quarantine, holds, webhooks, health):
        app.include_router(resource.router)

    @app.get("/openapi.json", include_in_schema=False)
    def openapi(user: Reader) -> dict[str, Any]:
        """This API's own description."""
        return app.openapi()

    app.add_exception_handler(SoftProError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)
    return app


def error(status_code: int, code: str, message: str, details: object = None) -> JSONResponse:
    """The specification's error envelope."""
    body = {"success": False, "error": {"code": code, "message": message, "details": details}}
    return JSONResponse(body, status_code, headers={"Cache-Control": "no-store"})


async def _ours(_: Request, failed: Exception) -> JSONResponse:
    status_code, code = next((status, code) for kind, status, code in STATUS_CODES if isinstance(failed, kind))
    details: object = getattr(failed, "problems", None)
    if isinstance(failed, LeaseHeld) and failed.log_id:
        details = {"logId": str(failed.log_id)}
    if isinstance(failed, VersionConflict):
        details = {"entityType": failed.entity_type, "version": failed.version}
    return error(status_code, code, str(failed), details)


async def _unexpected(_: Request, failed: Exception) -> JSONResponse:
    log.error("unexpected error", exc_info=failed)
    return error(500, "INTERNAL_ERROR", "Something went wrong here; the server's log has the details")


async def _invalid(_: Request, failed: Exception) -> JSONResponse:
    assert isinstance(failed, RequestValidationError)
    problems = [
        {"field": ".".join(str(step) for step in problem["loc"][1:]), "message": problem["msg"]}
        for problem in failed.errors()
    ]
    return error(400, "VALIDATION_ERROR", "The request is not as documented", problems)


async def _http(_: Request, failed: Exception) -> JSONResponse:
    assert isinstance(failed, HTTPException)
    code = HTTP_CODES.get(failed.status_code, "VALIDATION_ERROR" if failed.status_code < 500 else "INTERNAL_ERROR")
    return error(failed.status_code, code, str(failed.detail))
