"""Redact a failed call for its log: enough to find the fault, without secrets and personal data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

import msgspec

from softpro.softpro360.responses import printable
from softpro.softpro360.transport import ApiResponse

# Fields whose values help to find a fault and reveal nothing about a person.
SHOWN_NAMES = {
    "code",
    "error",
    "field",
    "message",
    "status",
    "type",
    "timestamp",
    "requestId",
    "createdAt",
    "updatedAt",
}
SHOWN_NAMES |= {"limit", "offset", "total", "hasMore", "sortBy", "sortOrder", "updatedFrom", "deletedFrom"}
SHOWN_NAMES |= {"orderId", "contactId", "documentId", "partyId", "statusId", "roiSystemsId"}
HEADERS = ("Content-Type", "Date", "Retry-After", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-Request-Id")
TEXT_LENGTH, LIST_LENGTH, OBJECT_LENGTH, DEPTH = 200, 2, 100, 6
SECRET = re.compile(r"\S{20,}")

Sample = dict[str, Any]


def redact_request(
    method: str, route: str, ids: Mapping[str, str], parameters: Mapping[str, str | int], attempt: int, body: Any
) -> Sample:
    """Return the request and the number of the attempt. A body is kept only if it is JSON, and then redacted."""
    return {
        "method": method,
        "route": route,
        "ids": dict(ids),
        "parameters": mask(dict(parameters)),
        "attempt": attempt,
        "body": _body(body, "application/json") if isinstance(body, bytes) else None,
    }


def redact_response(received: ApiResponse | None) -> Sample | None:
    """Return the redacted response, or None without one."""
    if received is None:
        return None
    return {
        "statusCode": received.status_code,
        "headers": {
            name: printable(received.headers[name], TEXT_LENGTH) for name in HEADERS if name in received.headers
        },
        "body": _body(received.content, received.headers.get("Content-Type", "")),
    }


def mask(value: Any, name: str = "", depth: int = DEPTH) -> Any:
    """Return the JSON with its structure, names and lengths, but only the values of `SHOWN_NAMES`."""
    if isinstance(value, dict):
        shown_items = islice(value.items(), OBJECT_LENGTH if depth else 0)
        return {printable(key, TEXT_LENGTH): mask(inner, key, depth - 1) for key, inner in shown_items}
    if isinstance(value, list):
        shown = [mask(inner, name, depth - 1) for inner in value[:LIST_LENGTH]] if depth else []
        return [*shown, f"… {len(value)} in all"] if len(value) > len(shown) else shown
    if value is None or isinstance(value, bool):
        return value
    if name in SHOWN_NAMES:
        return SECRET.sub("…", printable(value, TEXT_LENGTH)) if isinstance(value, str) else value
    return f"({len(value)} characters)" if isinstance(value, str) else "(a number)"


def _body(content: bytes, content_type: str) -> Any:
    if not content:
        return None
    if not content_type.startswith("application/json"):  # a proxy's page
        beginning = printable(content[: 4 * TEXT_LENGTH].decode(errors="replace"), TEXT_LENGTH)
        return {"bytes": len(content), "beginning": SECRET.sub("…", beginning)}
    try:
        return mask(msgspec.json.decode(content))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {"bytes": len(content), "unreadable": True}
