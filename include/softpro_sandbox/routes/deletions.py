"""A feed of deletes, which the vendor may or may not have: behind a switch (contract, What is not known)."""

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
    """What was deleted, by `deletedAt`; 404 unless `deletesFeed` is on. Deletes made before it was on are there."""
    if not state.switches.deletes_feed:
        raise ApiError(404, "Not Found: GET /api/v1/deletions")
    limit = page_limit(query, state.switches)
    earliest = parse_ms(query.deleted_from) if query.deleted_from else 0
    deletions = state.organizations[grant.organization_id].deletions
    kept = sorted((each for each in deletions if each.deleted_ms >= earliest), key=lambda each: each.deleted_ms)
    page = [
        {"entityType": each.entity_type, "entityId": each.entity_id, "deletedAt": iso(each.deleted_ms)}
        for each in kept[query.offset : query.offset + limit]
    ]
    answer = {"data": page, "pagination": pagination(len(kept), limit, query.offset, len(page))}
    return Response(msgspec.json.encode(answer), media_type=JSON)
