"""Build the redirect after the callback: to the frontend, at a path that the user who connects may choose."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlencode

from softpro.errors import UsageError

MAX_CHARACTERS = 512
OUTCOME_PARAMETERS = ("integration", "status", "message")

# RFC 3986: pchar, "/" and "?". No backslash, space, control character or fragment is among them.
ALLOWED = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*")


def validate_path(path: str) -> str:
    """Return the path if it leads to a page of the frontend and nowhere else. Raises UsageError.

    The decoded path is checked too, because browsers read `%2e%2e` as `..`, and frontends decode the rest.
    """
    decoded = unquote(path)
    page, _, query = path.partition("?")
    if len(path) > MAX_CHARACTERS:
        raise UsageError(f"redirectPath should be at most {MAX_CHARACTERS} characters")
    if not path.startswith("/") or "//" in decoded:
        raise UsageError("redirectPath should be a path of the frontend: start with one /, and contain no //")
    if "#" in path:
        raise UsageError("redirectPath should contain no #fragment")
    if not ALLOWED.fullmatch(path) or "\\" in decoded or any(_is_control(character) for character in decoded):
        raise UsageError(
            "redirectPath should contain only letters, digits and the signs of a web address, others percent-encoded; "
            "no spaces, backslashes or control characters, encoded or not"
        )
    if ".." in unquote(page).split("/"):
        raise UsageError("redirectPath should contain no .. between its slashes")
    taken = [name for name, _ in parse_qsl(query, keep_blank_values=True) if name in OUTCOME_PARAMETERS]
    if taken:
        raise UsageError(f"redirectPath should not contain {taken[0]!r} in its query: the outcome uses that name")
    return path


def address(frontend_url: str, path: str | None, outcome: Mapping[str, str]) -> str:
    """Return the address of the frontend's page, with the outcome (see `OUTCOME_PARAMETERS`) added to its query."""
    path = path or ""
    return f"{frontend_url}{path}{'&' if '?' in path else '?'}{urlencode(outcome)}"


def _is_control(character: str) -> bool:
    return ord(character) < 32 or 127 <= ord(character) < 160
