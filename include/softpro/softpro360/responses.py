"""Turn an HTTP response into its body, or into the error that says what to do. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

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
from softpro.softpro360.transport import ApiResponse

ERRORS: dict[int, type[SoftProAPIError]] = {
    400: ValidationError,
    401: AuthenticationError,
    403: ForbiddenError,
    404: RecordNotFound,
    409: ConflictError,
    429: RateLimitError,
}

MAX_RETRY_AFTER_SECONDS = 86_400.0
"""A day exceeds any rate limit, so a longer time comes from a wrong clock or unit."""

JSON_TYPE = re.compile(r"\s*(?:(?:application|text)/json|application/[\w.!#$&^-]+\+json)\s*(?:;|$)", re.IGNORECASE)
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

MAX_CODE_LENGTH, MAX_MESSAGE_LENGTH = 100, 500
"""Characters that are kept of the vendor's texts, for logs and table columns."""


class _Error(msgspec.Struct):
    code: str = ""
    message: str = ""
    details: Any = None


class _Meta(msgspec.Struct, rename="camel"):
    request_id: str = ""


class _Envelope(msgspec.Struct):
    error: _Error = msgspec.field(default_factory=_Error)
    meta: _Meta = msgspec.field(default_factory=_Meta)


def json_body(response: ApiResponse, what: str) -> bytes:
    """Return the body of a successful JSON response. `what` names the call in messages.

    Raises:
        SoftProAPIError: the error of the response's status.
        ServerError: the body is empty, is a proxy's page or has another type.
    """
    require_success(response, what)
    body = response.content.removeprefix(BYTE_ORDER_MARK)
    if not body:
        raise ServerError(f"{what}: the response is empty", status_code=response.status_code)
    return body


def require_success(response: ApiResponse, what: str) -> None:
    """Check that the call succeeded; the body is ignored and may be empty. Raises as `json_body` does."""
    raise_for_status(response, what)
    if response.content and not _is_json(response):
        raise ServerError(f"{what}: the response is not JSON (a proxy's page?)", status_code=response.status_code)


def raise_for_status(response: ApiResponse, what: str) -> None:
    """Raise the SoftProAPIError of a response that is not a success. A redirect is a ServerError."""
    if response.ok:
        return
    error = _envelope(response).error
    code, message = printable(error.code, MAX_CODE_LENGTH), printable(error.message, MAX_MESSAGE_LENGTH)
    kind = ERRORS.get(response.status_code, ValidationError if 400 <= response.status_code < 500 else ServerError)
    raise kind(
        f"{what}: SoftPro responded {response.status_code} {code or printable(response.reason, MAX_CODE_LENGTH)}"
        + (f", {message}" if message else ""),
        status_code=response.status_code,
        error_code=code,
        details=error.details,
        retry_after=retry_after(response.headers),
        request_id=request_id(response),
    )


def decode(body: bytes, shape: Any, what: str) -> Any:
    """Decode the body to this type.

    Raises:
        ServerError: the body is truncated or has another form.
    """
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as broken:
        raise ServerError(f"{what}: the response is truncated or violates the contract ({broken})") from None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of Retry-After (RFC 9110 section 10.2.3), at most a day. The vendor sends no dates there."""
    text = headers.get("Retry-After", "")
    return min(float(text), MAX_RETRY_AFTER_SECONDS) if re.fullmatch("[0-9]{1,6}", text) else None


def response_date(response: ApiResponse) -> datetime | None:
    """Return the vendor's clock at the response, in whole seconds (RFC 9110 section 6.6.1), or None."""
    try:
        moment = parsedate_to_datetime(response.headers["Date"])
    except (KeyError, ValueError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment  # "-0000" is UTC without a known zone


def request_id(response: ApiResponse) -> str:
    """Return the vendor's id of the request, from a header or from an error's envelope."""
    name = response.headers.get("X-Request-Id", "") or (_envelope(response).meta.request_id if not response.ok else "")
    return printable(name, MAX_CODE_LENGTH)


def printable(text: str, length: int) -> str:
    """Return the text as one printable line, truncated to fit a log and a table column."""
    return "".join(character for character in " ".join(text.split()) if character.isprintable())[:length]


def _is_json(response: ApiResponse) -> bool:
    """Return whether the media type is JSON (RFC 9110 section 8.3.1: without case; RFC 6839 section 3.1: `+json`)."""
    return JSON_TYPE.match(response.headers.get("Content-Type", "")) is not None


def _envelope(response: ApiResponse) -> _Envelope:
    if not _is_json(response):
        return _Envelope()
    try:
        return msgspec.json.decode(response.content.removeprefix(BYTE_ORDER_MARK), type=_Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Envelope()
