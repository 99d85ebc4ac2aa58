"""List, show, resolve and reverse conflicts.

Every route requires *operate*, because conflicts show personal data.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import msgspec
from fastapi import Depends, Query, Request, Response

from softpro.entities import EntityType
from softpro.errors import UsageError
from softpro.mapping.paths import MISSING
from softpro.timestamps import parse_time
from softpro.writeback import conflicts
from softpro.writeback.conflict_lock import Choices, Value
from softpro.writeback.conflicts import Conflict, ConflictStatus
from softpro.writeback.resolve import resolve, resolve_some
from softpro.writeback.reverse import reversal, reverse
from softpro_web.deps import DatabaseDep, Operator
from softpro_web.models.base import DataResponse, ListResponse, Meta
from softpro_web.models.conflicts import (
    ConflictDetail,
    ConflictOut,
    ResolutionOut,
    ResolveBody,
    ResolveManyBody,
    ReverseBody,
)
from softpro_web.pagination import DEFAULT_LIMIT, Limit, Offset
from softpro_web.responses import exact_json
from softpro_web.routing import KIB, APIRouter, limits
from softpro_web.threads import in_thread

VALUES_BODY_BYTES = 1 * KIB * KIB  # other values for the fields of a record

router = APIRouter(prefix="/conflicts")

IntegrationId = Annotated[UUID, Query(alias="integrationId")]


class _SentValues(msgspec.Struct):
    values: dict[str, Any] = {}


_exact = msgspec.json.Decoder(_SentValues, float_hook=Decimal).decode


async def _sent_values(request: Request) -> dict[str, Any] | None:
    """Return the body's `values` with all digits of their numbers.

    None if the strict parser refuses the body; then the values that pydantic parsed are used.
    """
    try:
        return (await in_thread(_exact, await request.body())).values
    except msgspec.DecodeError:
        return None


@router.get("", responses={200: {"model": ListResponse[ConflictOut]}})
def list_conflicts(
    user: Operator,
    database: DatabaseDep,
    integration_id: IntegrationId,
    status: ConflictStatus | None = None,
    entity_type: Annotated[EntityType | None, Query(alias="entityType")] = None,
    limit: Limit = DEFAULT_LIMIT,
    offset: Offset = 0,
) -> Response:
    """List an integration's conflicts, newest first, optionally of one status and entity type."""
    with database.connect() as connection:
        user.integration(connection, integration_id)
        found, total = conflicts.page(
            connection, integration_id, status=status, entity_type=entity_type, limit=limit, offset=offset
        )
    meta = Meta(total=total, limit=limit, offset=offset).model_dump(by_alias=True)
    return exact_json({"success": True, "data": [each.as_json() for each in found], "meta": meta})


@router.get("/{conflict_id}", responses={200: {"model": DataResponse[ConflictDetail]}})
def get_conflict(conflict_id: UUID, user: Operator, database: DatabaseDep, integration_id: IntegrationId) -> Response:
    """Return a conflict: the three values and the decision of each field, and the edit that reverses it."""
    with database.connect() as connection:
        user.integration(connection, integration_id)
        return _detail_response(conflicts.get(connection, integration_id, conflict_id))


@router.post("/{conflict_id}/resolve", responses={200: {"model": DataResponse[ConflictDetail]}})
@limits(body=VALUES_BODY_BYTES)
def resolve_conflict(
    conflict_id: UUID,
    body: ResolveBody,
    user: Operator,
    database: DatabaseDep,
    values: Annotated[dict[str, Any] | None, Depends(_sent_values)],
) -> Response:
    """Resolve an open conflict for one side, or field by field.

    The next push sends the fields that ROI wins.
    """
    with database.connect() as connection:
        user.integration(connection, body.integration_id)
        decided = resolve(
            connection,
            body.integration_id,
            conflict_id,
            _choices(body, body.values if values is None else values),
            by=user.name,
            reason=body.reason,
            seen=_parse_seen_at(body.seen_at),
        )
    return _detail_response(decided)


@router.post("/resolve")
def resolve_conflicts(
    body: ResolveManyBody, user: Operator, database: DatabaseDep
) -> DataResponse[list[ResolutionOut]]:
    """Resolve several open conflicts for one side, each independently of the others."""
    with database.connect() as connection:
        user.integration(connection, body.integration_id)
        resolutions = resolve_some(
            connection, body.integration_id, body.ids, body.winner, by=user.name, reason=body.reason
        )
    return DataResponse(
        data=[
            ResolutionOut(id=each.conflict_id, error=None if each.error is None else str(each.error))
            for each in resolutions
        ]
    )


@router.post("/{conflict_id}/reverse", responses={200: {"model": DataResponse[ConflictDetail]}})
def reverse_conflict(conflict_id: UUID, body: ReverseBody, user: Operator, database: DatabaseDep) -> Response:
    """Reverse a decision about fields by a new edit, which is sent like any other."""
    with database.connect() as connection:
        user.integration(connection, body.integration_id)
        return _detail_response(reverse(connection, body.integration_id, conflict_id, by=user.name))


def _choices(body: ResolveBody, values: Mapping[str, Any]) -> Choices:
    if body.winner is not None:
        return body.winner
    return {**body.fields, **{field: Value(value) for field, value in values.items()}}


def _parse_seen_at(text: str | None) -> datetime | None:
    try:
        return None if text is None else parse_time(text)
    except (ValueError, OverflowError):
        raise UsageError("seenAt must be the conflict's updatedAt, such as 2025-01-01T00:00:05.123456Z") from None


def _detail_response(conflict: Conflict) -> Response:
    back = {field: None if value is MISSING else value for field, value in reversal(conflict).items()}
    return exact_json({"success": True, "data": {**conflict.as_json(), "reversal": back}})
