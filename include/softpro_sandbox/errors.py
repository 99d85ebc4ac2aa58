"""Return every error in the contract's envelope."""

import uuid
from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from softpro_sandbox.clock import Clock, iso, now_ms

CODES = {
    400: "VALIDATION_ERROR",
    401: "AUTHENTICATION_ERROR",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    409: "CONFLICT_ERROR",
    429: "RATE_LIMIT_ERROR",
}
"""The contract's codes by HTTP status; 5xx is SERVER_ERROR, other 4xx VALIDATION_ERROR."""


class ApiError(Exception):
    """An error response of the contract.

    Attributes:
        status: the HTTP status.
        message: the message for users.
        details: the details for programs.
        headers: additional response headers.
    """

    def __init__(
        self,
        status: int,
        message: str,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.details = dict(details or {})
        self.headers = dict(headers or {})


def bad_field(field: str, message: str) -> ApiError:
    """Create a 400 error that names one field of the request."""
    return ApiError(400, f"{field}: {message}", {"fields": [{"field": field, "message": message}]})


def code_of(status: int) -> str:
    """Return the contract's error code for an HTTP status."""
    return CODES.get(status, "SERVER_ERROR" if status >= 500 else "VALIDATION_ERROR")


def error_response(error: ApiError, clock: Clock) -> Response:
    """Build the response `{"success": false, "error": {…}, "meta": {…}}` with the error's status and headers.

    `msgspec.Raw` values in the details are written byte for byte: they hold a record's own bytes.
    """
    body = {
        "success": False,
        "error": {"code": code_of(error.status), "message": error.message, "details": error.details},
        "meta": {"timestamp": iso(now_ms(clock)), "requestId": f"req_{uuid.uuid4().hex}"},
    }
    return Response(msgspec.json.encode(body), error.status, error.headers, "application/json")


def install(app: FastAPI, clock: Clock) -> None:
    """Register handlers that return the app's errors, unknown paths and failed validation in the envelope."""

    async def on_api_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return error_response(error, clock)

    async def on_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        message = f"{error.detail}: {request.method} {request.url.path}"
        headers = {"Allow": ", ".join(_allowed(app, request.url.path))} if error.status_code == 405 else error.headers
        return error_response(ApiError(error.status_code, message, headers=headers), clock)

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        fields = [_field(item) for item in error.errors()]
        message = "; ".join(f"{item['field']}: {item['message']}" for item in fields)
        return error_response(ApiError(400, message, {"fields": fields}), clock)

    app.add_exception_handler(ApiError, on_api_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_invalid)


def _allowed(app: FastAPI, path: str) -> list[str]:
    """List every method that a path accepts; the framework reports those of the first route only."""
    routes = [route for route in app.routes if isinstance(route, Route) and route.path_regex.match(path)]
    return sorted({method for route in routes for method in route.methods or ()})


def _field(item: Mapping[str, Any]) -> dict[str, str]:
    """Convert a pydantic error into field and message, without the part of the request it was read from."""
    path = ".".join(str(step) for step in item["loc"][1:])
    return {"field": path or "body", "message": str(item["msg"])}
