"""Every answer that is no success: the specification's envelope, by which status and code, and its description."""

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

# The first that fits, so the special before the general.
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
    """`details`: a list of what is wrong with a request, or an object of the code's own; mostly null."""

    code: str
    message: str
    details: list[dict[str, Any] | str] | dict[str, Any] | None


class ErrorResponse(BaseModel):
    """`{"success": false, "error": {…}}`"""

    success: Literal[False]
    error: ErrorOut


ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": description}
    for status, description in {
        400: "The request is not as documented, or asks for what can't be",
        401: "No token or cookie, or one that has expired",
        403: "Not with this role; a change by cookie without proof",
        404: "There is no such thing, or it is of an organization that the caller may not see",
        409: "Something stands in the way now: a run, a decision, a newer version, a missing grant",
        413: "The body is too large",
        429: "Too many runs were started; Retry-After says when the next one may be",
        500: "A setting is wrong, or something broke; the server's log has the details",
        502: "SoftPro answered with an error, or not at all",
        503: "The product's database can't be reached",
    }.items()
}
"""What any route may answer beside its own answer."""


def install_error_handlers(app: FastAPI) -> None:
    """Every error of the app leaves it in the envelope."""
    app.add_exception_handler(SoftProError, _handle_product_error)
    app.add_exception_handler(RequestValidationError, _handle_invalid_request)
    app.add_exception_handler(HTTPException, _handle_http_error)
    app.add_exception_handler(Exception, _handle_unexpected_error)


def error(
    status_code: int, code: str, message: str, details: object = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The specification's error envelope."""
    body = {"success": False, "error": {"code": code, "message": message, "details": details}}
    return JSONResponse(body, status_code, headers={**(headers or {}), "Cache-Control": "no-store"})


def exact_json(answer: object) -> Response:
    """An answer whose numbers keep all their digits, and whose JSON texts stand in it as they are (`msgspec.Raw`)."""
    return Response(json_codec.encode(answer), media_type="application/json", headers={"Cache-Control": "no-store"})


def error_response_of(failed: HTTPException) -> JSONResponse:
    """What FastAPI, Airflow or a route refused, in the envelope."""
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
    return error(500, "INTERNAL_ERROR", "Something went wrong here; the server's log has the details")


async def _handle_invalid_request(_: Request, failed: Exception) -> JSONResponse:
    assert isinstance(failed, RequestValidationError)
    problems = [
        {"field": ".".join(str(step) for step in problem["loc"][1:]), "message": _message(problem)}
        for problem in failed.errors()
    ]
    return error(400, "VALIDATION_ERROR", "The request is not as documented", problems)


def _message(problem: dict[str, Any]) -> str:
    """What is wrong, and, of broken JSON, why; its place is the character's number."""
    reason = problem.get("ctx", {}).get("error", "") if problem.get("type") == "json_invalid" else ""
    return f"{problem['msg']}: {reason}" if reason else str(problem["msg"])


async def _handle_http_error(_: Request, failed: Exception) -> JSONResponse:
    assert isinstance(failed, HTTPException)
    return error_response_of(failed)
