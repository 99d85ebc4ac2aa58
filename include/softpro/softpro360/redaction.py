"""What a failed call looked like, for its log: enough to see what is wrong, no secrets and nothing about a person."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

import msgspec

from softpro.softpro360.responses import plain
from softpro.softpro360.transport import ApiResponse

# Names of what tells a technician something and a stranger nothing.
SHOWN = {"code", "error", "field", "message", "status", "type", "timestamp", "requestId", "createdAt", "updatedAt"}
SHOWN |= {"limit", "offset", "total", "hasMore", "sortBy", "sortOrder", "updatedFrom", "deletedFrom"}
SHOWN |= {"orderId", "contactId", "documentId", "partyId", "statusId", "roiSystemsId"}
HEADERS = ("Content-Type", "Date", "Retry-After", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-Request-Id")
TEXT_LENGTH, LIST_LENGTH, OBJECT_LENGTH, DEPTH = 200, 2, 100, 6
SECRET = re.compile(r"\S{20,}")

Sample = dict[str, Any]


def request(
    method: str, route: str, ids: Mapping[str, str], parameters: Mapping[str, str | int], attempt: int, body: Any
) -> Sample:
    """A call that failed: what was asked, at which attempt, and the shape of what was sent, where it was JSON."""
    return {
        "method": method,
        "route": route,
        "ids": dict(ids),
        "parameters": masked(dict(parameters)),
        "attempt": attempt,
        "body": _body(body, "application/json") if isinstance(body, bytes) else None,
    }


def answer(received: ApiResponse | None) -> Sample | None:
    """What came back, if anything did."""
    if received is None:
        return None
    return {
        "statusCode": received.status_code,
        "headers": {name: plain(received.headers[name], TEXT_LENGTH) for name in HEADERS if name in received.headers},
        "body": _body(received.content, received.headers.get("Content-Type", "")),
    }


def masked(value: Any, name: str = "", depth: int = DEPTH) -> Any:
    """JSON's own shape, names and lengths; of the values only those that are `SHOWN`."""
    if isinstance(value, dict):
        shown_items = islice(value.items(), OBJECT_LENGTH if depth else 0)
        return {plain(key, TEXT_LENGTH): masked(inner, key, depth - 1) for key, inner in shown_items}
    if isinstance(value, list):
        shown = [masked(inner, name, depth - 1) for inner in value[:LIST_LENGTH]] if depth else []
        return [*shown, f"… {len(value)} in all"] if len(value) > len(shown) else shown
    if value is None or isinstance(value, bool):
        return value
    if name in SHOWN:
        return SECRET.sub("…", plain(value, TEXT_LENGTH)) if isinstance(value, str) else value
    return f"({len(value)} characters)" if isinstance(value, str) else "(a number)"


def _body(content: bytes, content_type: str) -> Any:
    if not content:
        return None
    if not content_type.startswith("application/json"):  # a proxy's page
        beginning = plain(content[: 4 * TEXT_LENGTH].decode(errors="replace"), TEXT_LENGTH)
        return {"bytes": len(content), "beginning": SECRET.sub("…", beginning)}
    try:
        return masked(msgspec.json.decode(content))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {"bytes": len(content), "unreadable": True}
