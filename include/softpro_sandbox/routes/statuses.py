"""Serve the call that lists statuses (contract, Endpoints)."""

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from softpro_sandbox.records.statuses import STATUSES
from softpro_sandbox.response_models import StatusResponse
from softpro_sandbox.routes.dependencies import ReadsTransactions, errors

router = APIRouter(prefix="/statuses", tags=["statuses"])


@router.get("", response_model=list[StatusResponse], responses=errors(403))
async def list_statuses(grant: ReadsTransactions) -> Response:
    """List every status of orders as a plain array."""
    return Response(msgspec.json.encode(STATUSES), media_type="application/json")
