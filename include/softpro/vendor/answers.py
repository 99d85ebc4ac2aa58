"""From an HTTP answer to bytes we can use, or to the error that says what to do. No I/O."""

from __future__ import annotations

from typing import Any

import msgspec
import requests

from softpro.errors import (
    AuthenticationError,
    ConflictError,
    ForbiddenError,
    RateLimitError,
    RecordNotFound,
    ServerError,
    SoftProAPIError,
    ValidationError,
)

ERRORS: dict[int, type[SoftProAPIError]] = {
    400: ValidationError,
    401: AuthenticationError,
    403: ForbiddenError,
    404: RecordNotFound,
    409: ConflictError,
    429: RateLimitError,
}


class _Error(msgspec.Struct):
    code: str = ""
    message: str = ""
    details: Any = None


class _Envelope(msgspec.Struct):
    error: _Error


def checked(answer: requests.Response, what: str) -> bytes:
    """The body of a successful JSON answer. Raises the SoftProAPIError of its status; `what` names the call.

    A page from a proxy, an empty body or one of another type is a ServerError: the vendor did not say it.
    """
    is_json = answer.headers.get("Content-Type", "").startswith("application/json")
    if answer.ok and is_json and answer.content:
        return answer.content
    if answer.ok:
        raise ServerError(f"{what}: the answer is not JSON (a proxy's page?)", status_code=answer.status_code)
    said = _said(answer.content) if is_json else _Error()
    kind = ERRORS.get(answer.status_code, ServerError if answer.status_code >= 500 else ValidationError)
    raise kind(
        f"{what}: SoftPro answered {answer.status_code} {said.code or answer.reason}"
        + (f", {said.message}" if said.message else ""),
        status_code=answer.status_code,
        error_code=said.code,
        details=said.details,
        retry_after=retry_after(answer),
    )


def decoded(body: bytes, shape: type[msgspec.Struct], what: str) -> Any:
    """The body as this shape. Raises ServerError when it was cut short or holds something else."""
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as broken:
        raise ServerError(f"{what}: the answer is cut short or not what the contract says ({broken})") from None


def retry_after(answer: requests.Response) -> float | None:
    """The seconds of Retry-After (RFC 9110 section 10.2.3); the vendor sends no dates there."""
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None


def _said(body: bytes) -> _Error:
    try:
        return msgspec.json.decode(body, type=_Envelope).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Error()
