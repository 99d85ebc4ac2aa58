"""Whether this process is alive."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

router = APIRouter()


@router.get("/health")
async def health() -> dict[str, Any]:
    """Open, because whoever watches the server has no token, and it tells nothing."""
    return {"success": True, "data": {"status": "alive"}}
