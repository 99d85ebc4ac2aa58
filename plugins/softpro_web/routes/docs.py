"""Serve the OpenAPI description, and Swagger UI to show it.

This server provides all parts of the page, because it may have no access to the internet.
"""

from __future__ import annotations

from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import FileResponse

from softpro_web.deps import Reader
from softpro_web.routing import APIRouter

STATIC = Path(__file__).resolve().parents[1] / "static"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-cache",
}

router = APIRouter(include_in_schema=False)


class Asset(StrEnum):
    """The parts of the page."""

    START = "start.js"
    PROGRAM = "swagger-ui-bundle.js"
    STYLE = "swagger-ui.css"


@router.get("/openapi.json")
def get_openapi(request: Request, user: Reader) -> dict[str, Any]:
    """Return the OpenAPI description of this API."""
    return {**request.app.openapi(), "servers": [{"url": request.scope.get("root_path") or "/"}]}


@router.get("/docs")
def get_page(user: Reader) -> FileResponse:
    """Return the page that shows the API."""
    return FileResponse(STATIC / "docs.html", headers=HEADERS)


@router.get("/docs/{asset}")
def get_asset(asset: Asset, user: Reader) -> FileResponse:
    """Return a part of the page."""
    folder = STATIC if asset is Asset.START else _swagger_ui()
    return FileResponse(folder / asset.value, headers=HEADERS)


def _swagger_ui() -> Path:
    """Return the folder of the package that holds Swagger UI, without an import, which would load Flask."""
    found = find_spec("flask_swagger_ui")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "dist"
