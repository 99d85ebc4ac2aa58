"""List, approve and reject held batches."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Query

from softpro.quality import holds
from softpro.quality.holds import Hold, HoldStatus
from softpro_web.deps import DatabaseDep, Operator, Reader
from softpro_web.models.base import DataResponse, ListResponse, Meta
from softpro_web.models.holds import ApproveBody, HoldOut, RejectBody
from softpro_web.pagination import DEFAULT_LIMIT, Limit, Offset
from softpro_web.routing import APIRouter

router = APIRouter(prefix="/holds")


@router.get("")
def list_holds(
    user: Reader,
    database: DatabaseDep,
    integration_id: Annotated[UUID, Query(alias="integrationId")],
    status: HoldStatus | None = None,
    limit: Limit = DEFAULT_LIMIT,
    offset: Offset = 0,
) -> ListResponse[HoldOut]:
    """List an integration's held batches, newest first, optionally of one status."""
    with database.connect() as connection:
        user.integration(connection, integration_id)
        found, total = holds.page(
            connection, integration_id, [status] if status is not None else list(HoldStatus), limit, offset
        )
    return ListResponse(data=[_out(hold) for hold in found], meta=Meta(total=total, limit=limit, offset=offset))


@router.post("/{hold_id}/approve")
def approve_hold(hold_id: UUID, body: ApproveBody, user: Operator, database: DatabaseDep) -> DataResponse[HoldOut]:
    """Approve a held batch. The next run of the stream loads it."""
    with database.connect() as connection:
        integration = user.integration(connection, body.integration_id)
        return DataResponse(data=_out(holds.approve(connection, integration.id, hold_id, user.name, body.reason)))


@router.post("/{hold_id}/reject")
def reject_hold(hold_id: UUID, body: RejectBody, user: Operator, database: DatabaseDep) -> DataResponse[HoldOut]:
    """Reject a held batch. Its records go to quarantine."""
    with database.connect() as connection:
        integration = user.integration(connection, body.integration_id)
        return DataResponse(data=_out(holds.reject(connection, integration.id, hold_id, user.name, body.reason)))


def _out(hold: Hold) -> HoldOut:
    return HoldOut.model_validate(hold.as_json())
