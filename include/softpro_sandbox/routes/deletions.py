"""Serve a feed of deletes behind a switch: the vendor may not have one (contract, What is not known)."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Query
from starlette.responses import Response

from softpro_sandbox.clock import iso, parse_ms
from softpro_sandbox.errors import ApiError
from softpro_sandbox.query_params import DeletionQuery
from softpro_sandbox.response_models import DeletionPage
from softpro_sandbox.routes.dependencies import ReadsTransactions, State, errors
from softpro_sandbox.routes.record_operations import JSON, page_limit, pagination

router = APIRouter(prefix="/deletions", tags=["deletions"])


@router.get("", response_model=DeletionPage, responses=errors(400, 403, 404))
async def list_deletions(state: State, grant: ReadsTransactions, query: Annotated[DeletionQuery, Query()]) -> Response:
    """List deleted records by `deletedAt`, including earlier deletes; return 404 unless `deletesFeed` is on."""
    if not state.switches.deletes_feed:
        raise ApiError(404, "Not Found: GET /api/v1/deletions")
    limit = page_limit(query, state.switches)
    earliest = parse_ms(query.deleted_from) if query.deleted_from else 0
    deletions = state.organizations[grant.organization_id].deletions
    matching = sorted(
        (deletion for deletion in deletions if deletion.deleted_ms >= earliest),
        key=lambda deletion: deletion.deleted_ms,
    )
    page = [
        {"entityType": deletion.entity_type, "entityId": deletion.entity_id, "deletedAt": iso(deletion.deleted_ms)}
        for deletion in matching[query.offset : query.offset + limit]
    ]
    content = {"data": page, "pagination": pagination(len(matching), limit, query.offset, len(page))}
    return Response(msgspec.json.encode(content), media_type=JSON)
