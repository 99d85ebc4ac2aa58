"""Where a browser goes after the callback: to the frontend, and on it to a path that whoever began may choose."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlencode

from softpro.errors import UsageError

MOST_CHARACTERS = 512
OUTCOME = ("integration", "status", "message")

# RFC 3986: pchar, "/" and "?". No backslash, space, control character or fragment is among them.
ALLOWED = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*")


def checked_path(path: str) -> str:
    """The path itself, if it leads to a page of the frontend and nowhere else. Raises UsageError.

    What stands percent-encoded counts as well: browsers take `%2e%2e` for `..`, and frontends decode the rest.
    """
    decoded = unquote(path)
    page, _, query = path.partition("?")
    if len(path) > MOST_CHARACTERS:
        raise UsageError(f"redirectPath should be at most {MOST_CHARACTERS} characters")
    if not path.startswith("/") or "//" in decoded:
        raise UsageError("redirectPath should be a path of the frontend itself: start with one /, and hold no //")
    if "#" in path:
        raise UsageError("redirectPath should hold no #fragment")
    if not ALLOWED.fullmatch(path) or "\\" in decoded or any(_is_control(character) for character in decoded):
        raise UsageError(
            "redirectPath should hold letters, digits and the signs of a web address only, others percent-encoded; "
            "no spaces, backslashes or control characters in any spelling"
        )
    if ".." in unquote(page).split("/"):
        raise UsageError("redirectPath should hold no .. between its slashes")
    taken = [name for name, _ in parse_qsl(query, keep_blank_values=True) if name in OUTCOME]
    if taken:
        raise UsageError(f"redirectPath should not hold {taken[0]!r} in its query: the outcome is told by that name")
    return path


def address(frontend_url: str, path: str | None, outcome: Mapping[str, str]) -> str:
    """The frontend's page with the outcome (its names are `OUTCOME`) in the query, after the path's own."""
    path = path or ""
    return f"{frontend_url}{path}{'&' if '?' in path else '?'}{urlencode(outcome)}"


def _is_control(character: str) -> bool:
    return ord(character) < 32 or 127 <= ord(character) < 160
