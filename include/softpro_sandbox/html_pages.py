"""Render the sandbox's HTML pages from templates, without external resources."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
# No form-action: submitting the consent form redirects to the client, at any address.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


def render_page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Render a template with these values."""
    return HTMLResponse(_TEMPLATES.get_template(template).render(**values), status, _HEADERS)
