"""From an HTTP answer to bytes we can use, or to the error that says what to do. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
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
from softpro.vendor.transport import Answer

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


class _Meta(msgspec.Struct, rename="camel"):
    request_id: str = ""


class _Envelope(msgspec.Struct):
    error: _Error = msgspec.field(default_factory=_Error)
    meta: _Meta = msgspec.field(default_factory=_Meta)


def checked(answer: Answer, what: str) -> bytes:
    """The body of a successful JSON answer. Raises the SoftProAPIError of its status; `what` names the call.

    A page from a proxy, an empty body or one of another type is a ServerError: the vendor did not say it.
    """
    refused(answer, what)
    if not (_is_json(answer) and answer.content):
        raise ServerError(f"{what}: the answer is not JSON (a proxy's page?)", status_code=answer.status_code)
    return answer.content


def refused(answer: Answer, what: str) -> None:
    """Raises the SoftProAPIError of an answer that is not a success."""
    if answer.ok:
        return
    envelope = _said(answer)
    said = envelope.error
    kind = ERRORS.get(answer.status_code, ServerError if answer.status_code >= 500 else ValidationError)
    raise kind(
        f"{what}: SoftPro answered {answer.status_code} {said.code or answer.reason}"
        + (f", {said.message}" if said.message else ""),
        status_code=answer.status_code,
        error_code=said.code,
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
    """The seconds of Retry-After (RFC 9110 section 10.2.3); the vendor sends no dates there."""
    text = headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else None


def request_id(answer: Answer) -> str:
    """The vendor's name for the request: in a header, or in an error's envelope."""
    return answer.headers.get("X-Request-Id", "") or (_said(answer).meta.request_id if not answer.ok else "")


def _is_json(answer: Answer) -> bool:
    return answer.headers.get("Content-Type", "").startswith("application/json")


def _said(answer: Answer) -> _Envelope:
    if not _is_json(answer):
        return _Envelope()
    try:
        return msgspec.json.decode(answer.content, type=_Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Envelope()
