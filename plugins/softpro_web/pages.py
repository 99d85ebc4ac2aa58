"""Build the small pages that a browser shows when it cannot be redirected."""

from __future__ import annotations

from html import escape

from fastapi.responses import HTMLResponse

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title></head>
<body><h1>{title}</h1><p>{message}</p><p>You can close this page, and start again where you began.</p></body>
</html>
"""
TITLE = "The connection to SoftPro 360 was not made"


def failure_page(status_code: int, message: str, headers: dict[str, str] | None = None) -> HTMLResponse:
    """Return a page that shows the message as text."""
    content = PAGE.format(title=escape(TITLE), message=escape(message))
    return HTMLResponse(content, status_code, headers={**(headers or {}), **HEADERS})
