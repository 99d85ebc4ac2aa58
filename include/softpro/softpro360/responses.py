"""From an HTTP answer to bytes we can use, or to the error that says what to do. No I/O."""

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

LONGEST_RETRY_AFTER = 86_400.0
"""Seconds. A day is far beyond any rate limit: who asks for more has a wrong clock, or a wrong unit."""

CODE_LENGTH, MESSAGE_LENGTH = 100, 500
"""So much is kept of what the vendor says: it ends up in logs and table columns."""


class _Error(msgspec.Struct):
    code: str = ""
    message: str = ""
    details: Any = None


class _Meta(msgspec.Struct, rename="camel"):
    request_id: str = ""


class _Envelope(msgspec.Struct):
    error: _Error = msgspec.field(default_factory=_Error)
    meta: _Meta = msgspec.field(default_factory=_Meta)


def checked(answer: ApiResponse, what: str) -> bytes:
    """The body of a successful JSON answer. Raises the SoftProAPIError of its status; `what` names the call.

    A page from a proxy, an empty body or one of another type is a ServerError: the vendor did not say it.
    """
    accepted(answer, what)
    if not answer.content:
        raise ServerError(f"{what}: the answer is empty", status_code=answer.status_code)
    return answer.content


def accepted(answer: ApiResponse, what: str) -> None:
    """A success whose body nobody reads; it may have none. Raises as `checked` does."""
    refused(answer, what)
    if answer.content and not _is_json(answer):
        raise ServerError(f"{what}: the answer is not JSON (a proxy's page?)", status_code=answer.status_code)


def refused(answer: ApiResponse, what: str) -> None:
    """Raises the SoftProAPIError of an answer that is not a success. A redirect is no answer: a ServerError."""
    if answer.ok:
        return
    said = _said(answer).error
    code, message = plain(said.code, CODE_LENGTH), plain(said.message, MESSAGE_LENGTH)
    kind = ERRORS.get(answer.status_code, ValidationError if 400 <= answer.status_code < 500 else ServerError)
    raise kind(
        f"{what}: SoftPro answered {answer.status_code} {code or plain(answer.reason, CODE_LENGTH)}"
        + (f", {message}" if message else ""),
        status_code=answer.status_code,
        error_code=code,
        details=said.details,
        retry_after=retry_after(answer.headers),
        request_id=request_id(answer),
    )


def decoded(body: bytes, shape: Any, what: str) -> Any:
    """The body as this shape. Raises ServerError when it was cut short or holds something else."""
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as broken:
        raise ServerError(f"{what}: the answer is cut short or not what the contract says ({broken})") from None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds of Retry-After (RFC 9110 section 10.2.3), a day at most; the vendor sends no dates there."""
    text = headers.get("Retry-After", "")
    return min(float(text), LONGEST_RETRY_AFTER) if re.fullmatch("[0-9]{1,6}", text) else None


def answered_at(answer: ApiResponse) -> datetime | None:
    """The vendor's clock when it answered, in whole seconds (RFC 9110 section 6.6.1); None where it does not say."""
    try:
        moment = parsedate_to_datetime(answer.headers["Date"])
    except (KeyError, ValueError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment  # "-0000" is UTC, of no place


def request_id(answer: ApiResponse) -> str:
    """The vendor's name for the request: in a header, or in an error's envelope."""
    name = answer.headers.get("X-Request-Id", "") or (_said(answer).meta.request_id if not answer.ok else "")
    return plain(name, CODE_LENGTH)


def plain(text: str, length: int) -> str:
    """What the vendor says as one line that a log and a table column can hold: nothing unprintable, and cut."""
    return "".join(character for character in " ".join(text.split()) if character.isprintable())[:length]


def _is_json(answer: ApiResponse) -> bool:
    return answer.headers.get("Content-Type", "").startswith("application/json")


def _said(answer: ApiResponse) -> _Envelope:
    if not _is_json(answer):
        return _Envelope()
    try:
        return msgspec.json.decode(answer.content, type=_Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Envelope()
