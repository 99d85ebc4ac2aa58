"""Map errors to responses in the specification's envelope, and describe them for OpenAPI."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from softpro import json_codec
from softpro.errors import (
    AlreadyDecided,
    Busy,
    CircuitOpen,
    ConsentRefused,
    DatabaseUnavailable,
    DecryptionError,
    Forbidden,
    LeaseHeld,
    MappingError,
    NetworkError,
    NotConnected,
    NotFoundHere,
    OutOfDate,
    PreviewRunning,
    SettingsError,
    SoftProAPIError,
    SoftProError,
    TokenUnavailable,
    TooManyCalls,
    TooManyRequests,
    TooSlow,
    UsageError,
    VersionConflict,
)
from softpro_web.pages import failure_page

log = logging.getLogger(__name__)

# The first match counts, so special errors precede general ones.
STATUS_CODES: list[tuple[type[SoftProError], int, str]] = [
    (NotFoundHere, 404, "NOT_FOUND"),
    (MappingError, 400, "VALIDATION_ERROR"),
    (AlreadyDecided, 409, "DECIDED_ALREADY"),
    (UsageError, 400, "VALIDATION_ERROR"),
    (Forbidden, 403, "FORBIDDEN"),
    (ConsentRefused, 403, "CONSENT_REFUSED"),
    (VersionConflict, 409, "CONFLICT"),
    (LeaseHeld, 409, "SYNC_RUNNING"),
    (NotConnected, 409, "NOT_CONNECTED"),
    (OutOfDate, 409, "CONFLICT"),
    (PreviewRunning, 409, "PREVIEW_RUNNING"),
    (TooManyCalls, 429, "RATE_LIMITED"),
    (TooManyRequests, 429, "RATE_LIMITED"),
    (Busy, 503, "BUSY"),
    (TooSlow, 400, "TOO_SLOW"),
    (NetworkError, 503, "NETWORK_ERROR"),
    (CircuitOpen, 503, "NETWORK_ERROR"),
    (TokenUnavailable, 503, "NETWORK_ERROR"),
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
    408: "TIMEOUT",
    413: "TOO_LARGE",
}
DATABASE_MESSAGE = "The product's database is not available; the server's log has the details"
INTERNAL_MESSAGE = "An internal error occurred; the server's log has the details"


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
        408: "The body did not arrive in time",
        409: "The request conflicts with a run, a decision, a newer version, or a missing grant",
        413: "The body is larger than the route accepts",
        429: "The user started too many runs, or the address sends too many requests; see Retry-After",
        500: "A setting is wrong, or an internal error occurred; the server's log has the details",
        502: "SoftPro returned an error",
        503: "The product's database or SoftPro cannot be reached, or the server is busy",
    }.items()
}
"""The error responses that every route may return."""

PAGE_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": shown["description"], "content": {"text/html": {"schema": {"type": "string"}}}}
    for status, shown in ERROR_RESPONSES.items()
}
"""The same for routes that a browser shows."""


def install_error_handlers(app: FastAPI) -> None:
    """Return every error of the app in the envelope."""
    for kind in (SoftProError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _handle)


def error(
    status_code: int, code: str, message: str, details: object = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return an error in the specification's envelope."""
    body = {"success": False, "error": {"code": code, "message": message, "details": details}}
    return JSONResponse(body, status_code, headers={**(headers or {}), "Cache-Control": "no-store"})


def exact_json(body: object) -> Response:
    """Return a response whose numbers keep all digits; `msgspec.Raw` values are inserted unchanged."""
    return Response(json_codec.encode(body), media_type="application/json")


@dataclass(frozen=True)
class Failure:
    """An error as a response shows it."""

    status_code: int
    code: str
    message: str
    details: object = None
    headers: Mapping[str, str] = field(default_factory=dict)


def failure(failed: Exception, *, as_page: bool = False) -> Response:
    """Return the response for an error: the specification's envelope, or a page with the message."""
    if as_page:
        shown = describe_to_stranger(failed)
        return failure_page(shown.status_code, shown.message, dict(shown.headers))
    shown = describe(failed)
    return error(shown.status_code, shown.code, shown.message, shown.details, shown.headers)


def describe(failed: Exception) -> Failure:
    """Return what a caller learns about an error. The log gets the details of an error on our side."""
    if isinstance(failed, SoftProError):
        return _product_failure(failed)
    if isinstance(failed, RequestValidationError):
        problems = [
            {"field": ".".join(str(step) for step in problem["loc"][1:]), "message": _message(problem)}
            for problem in failed.errors()
        ]
        return Failure(400, "VALIDATION_ERROR", "The request is not as documented", problems)
    if isinstance(failed, HTTPException):
        code = HTTP_CODES.get(failed.status_code, "VALIDATION_ERROR" if failed.status_code < 500 else "INTERNAL_ERROR")
        return Failure(failed.status_code, code, str(failed.detail), headers=failed.headers or {})
    log.error("unexpected error", exc_info=failed)
    return Failure(500, "INTERNAL_ERROR", INTERNAL_MESSAGE)


def describe_to_stranger(failed: Exception) -> Failure:
    """Return what a browser without a login learns about an error: nothing about settings."""
    shown = describe(failed)
    if shown.status_code != 500:
        return shown
    log.error("internal error: %s", failed)
    return replace(shown, message=INTERNAL_MESSAGE)


def _product_failure(failed: SoftProError) -> Failure:
    status_code, code = next((status, code) for kind, status, code in STATUS_CODES if isinstance(failed, kind))
    if code == "DATABASE_UNAVAILABLE":  # its message can name hosts and users
        log.warning("database unavailable: %s", failed)
        return Failure(status_code, code, DATABASE_MESSAGE)
    details: object = getattr(failed, "problems", None)
    headers = {}
    if isinstance(failed, LeaseHeld) and failed.log_id:
        details = {"logId": str(failed.log_id)}
    if isinstance(failed, VersionConflict):
        details = {"entityType": failed.entity_type, "version": failed.version}
    if isinstance(failed, TooManyCalls):
        details = {"limit": failed.limit, "retryAfter": failed.retry_after}
    if isinstance(failed, TooManyCalls | Busy):
        headers = {"Retry-After": str(failed.retry_after)}
    return Failure(status_code, code, str(failed), details, headers)


async def _handle(_: Request, failed: Exception) -> Response:
    return failure(failed)


def _message(problem: dict[str, Any]) -> str:
    """Return the message of a problem. For invalid JSON it includes the reason."""
    reason = problem.get("ctx", {}).get("error", "") if problem.get("type") == "json_invalid" else ""
    return f"{problem['msg']}: {reason}" if reason else str(problem["msg"])
