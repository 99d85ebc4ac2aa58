"""Map errors to responses in the specification's envelope, and describe them for OpenAPI."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from softpro import json_codec
from softpro.errors import (
    AlreadyDecided,
    DatabaseUnavailable,
    DecryptionError,
    Forbidden,
    LeaseHeld,
    MappingError,
    NotConnected,
    NotFoundHere,
    OutOfDate,
    SettingsError,
    SoftProAPIError,
    SoftProError,
    TooManyCalls,
    UsageError,
    VersionConflict,
)

log = logging.getLogger(__name__)

# The first match counts, so special errors precede general ones.
STATUS_CODES: list[tuple[type[SoftProError], int, str]] = [
    (NotFoundHere, 404, "NOT_FOUND"),
    (MappingError, 400, "VALIDATION_ERROR"),
    (AlreadyDecided, 409, "DECIDED_ALREADY"),
    (UsageError, 400, "VALIDATION_ERROR"),
    (Forbidden, 403, "FORBIDDEN"),
    (VersionConflict, 409, "CONFLICT"),
    (LeaseHeld, 409, "SYNC_RUNNING"),
    (NotConnected, 409, "NOT_CONNECTED"),
    (OutOfDate, 409, "CONFLICT"),
    (TooManyCalls, 429, "RATE_LIMITED"),
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


class ErrorOut(BaseModel):
    """An error. `details` is a list of problems, an object whose fields depend on the code, or null."""

    code: str
    message: str
    details: list[dict[str, Any] | str] | dict[str, Any] | None


class ErrorResponse(BaseModel):
    """A response with an error: `{"success": false, "error": {…}}`."""

    success: Literal[False]
    error: ErrorOut


ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": description}
    for status, description in {
        400: "The request is not as documented, or not possible",
        401: "The token or cookie is missing or expired",
        403: "The role lacks the right, or a change by cookie lacks proof of its origin",
        404: "The resource does not exist, or the caller may not see its organization",
        409: "The request conflicts with a run, a decision, a newer version, or a missing grant",
        413: "The body is too large",
        429: "The user started too many runs; Retry-After holds the seconds to wait",
        500: "A setting is wrong, or an internal error occurred; the server's log has the details",
        502: "SoftPro returned an error, or did not respond",
        503: "The product's database cannot be reached",
    }.items()
}
"""The error responses that every route may return."""


def install_error_handlers(app: FastAPI) -> None:
    """Return every error of the app in the envelope."""
    app.add_exception_handler(SoftProError, _handle_product_error)
    app.add_exception_handler(RequestValidationError, _handle_invalid_request)
    app.add_exception_handler(HTTPException, _handle_http_error)
    app.add_exception_handler(Exception, _handle_unexpected_error)


def error(
    status_code: int, code: str, message: str, details: object = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return an error in the specification's envelope."""
    body = {"success": False, "error": {"code": code, "message": message, "details": details}}
    return JSONResponse(body, status_code, headers={**(headers or {}), "Cache-Control": "no-store"})


def exact_json(body: object) -> Response:
    """Return a response whose numbers keep all digits; `msgspec.Raw` values are inserted unchanged."""
    return Response(json_codec.encode(body), media_type="application/json", headers={"Cache-Control": "no-store"})


def error_response_of(failed: HTTPException) -> JSONResponse:
    """Return an HTTPException of FastAPI, Airflow or a route in the envelope."""
    code = HTTP_CODES.get(failed.status_code, "VALIDATION_ERROR" if failed.status_code < 500 else "INTERNAL_ERROR")
    return error(failed.status_code, code, str(failed.detail), headers=failed.headers)


async def _handle_product_error(_: Request, failed: Exception) -> JSONResponse:
    status_code, code = next((status, code) for kind, status, code in STATUS_CODES if isinstance(failed, kind))
    details: object = getattr(failed, "problems", None)
    headers = {}
    if isinstance(failed, LeaseHeld) and failed.log_id:
        details = {"logId": str(failed.log_id)}
    if isinstance(failed, VersionConflict):
        details = {"entityType": failed.entity_type, "version": failed.version}
    if isinstance(failed, TooManyCalls):
        details = {"limit": failed.limit, "retryAfter": failed.retry_after}
        headers = {"Retry-After": str(failed.retry_after)}
    return error(status_code, code, str(failed), details, headers)


async def _handle_unexpected_error(_: Request, failed: Exception) -> JSONResponse:
    log.error("unexpected error", exc_info=failed)
    return error(500, "INTERNAL_ERROR", "An internal error occurred; the server's log has the details")


async def _handle_invalid_request(_: Request, failed: Exception) -> JSONResponse:
    assert isinstance(failed, RequestValidationError)
    problems = [
        {"field": ".".join(str(step) for step in problem["loc"][1:]), "message": _message(problem)}
        for problem in failed.errors()
    ]
    return error(400, "VALIDATION_ERROR", "The request is not as documented", problems)


def _message(problem: dict[str, Any]) -> str:
    """Return the message of a problem. For invalid JSON it includes the reason."""
    reason = problem.get("ctx", {}).get("error", "") if problem.get("type") == "json_invalid" else ""
    return f"{problem['msg']}: {reason}" if reason else str(problem["msg"])


async def _handle_http_error(_: Request, failed: Exception) -> JSONResponse:
    assert isinstance(failed, HTTPException)
    return error_response_of(failed)
