"""List and send edits for SoftPro, and decide about deletes that wait for approval."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated
from uuid import UUID

from fastapi import Query, Response

from softpro.db import integrations
from softpro.db.database import Connection, Database
from softpro.db.integrations import Integration
from softpro.entities import EntityType, Mode
from softpro.settings import ReconcileSettings, load
from softpro.writeback import delete_guard
from softpro.writeback.dry_run import dry_run
from softpro_web.dag_runs import Launcher
from softpro_web.deps import PUSH_DAG, DatabaseDep, Operator, Starter
from softpro_web.models.base import DataResponse, ListResponse, Meta
from softpro_web.models.sync import StartedRun, SyncResult
from softpro_web.models.write_back import DeletesDecisionBody, DeletesDecisionOut, OutboxRecord, PushBody
from softpro_web.pagination import DEFAULT_LIMIT, Limit, Offset
from softpro_web.principal import Principal
from softpro_web.responses import exact_json
from softpro_web.routing import APIRouter

router = APIRouter()


@router.get("/outbox", responses={200: {"model": ListResponse[OutboxRecord]}})
def list_outbox(
    user: Operator,
    database: DatabaseDep,
    integration_id: Annotated[UUID, Query(alias="integrationId")],
    entity_type: Annotated[EntityType | None, Query(alias="entityType")] = None,
    limit: Limit = DEFAULT_LIMIT,
    offset: Offset = 0,
) -> Response:
    """List the changes that a push would send now for each edited record, or the reason to wait.

    Sends nothing. Requires *operate*, because the list shows personal data.
    """
    with database.connect() as connection:
        integration = user.integration(connection, integration_id)
        (reconcile,) = load(ReconcileSettings)
        wanted = list(EntityType) if entity_type is None else [entity_type]
        found, total = dry_run(
            connection, integration, wanted, delete_limit=reconcile.delete_limit, limit=limit, offset=offset
        )
    meta = Meta(total=total, limit=limit, offset=offset).model_dump(by_alias=True)
    return exact_json({"success": True, "data": [each.as_json() for each in found], "meta": meta})


@router.post("/push/transactions", responses={202: {"model": DataResponse[StartedRun]}})
async def push_transactions(
    body: PushBody,
    user: Starter,
    launcher: Launcher,
) -> DataResponse[SyncResult] | DataResponse[StartedRun]:
    """Send the due changes of transactions to SoftPro.

    Returns 200 with the result if the run ends within `wait`, else 202.
    """
    return await _push(user, EntityType.TRANSACTION, body, launcher)


@router.post("/push/contacts", responses={202: {"model": DataResponse[StartedRun]}})
async def push_contacts(
    body: PushBody,
    user: Starter,
    launcher: Launcher,
) -> DataResponse[SyncResult] | DataResponse[StartedRun]:
    """Send the due changes of contacts to SoftPro.

    Returns 200 with the result if the run ends within `wait`, else 202.
    """
    return await _push(user, EntityType.CONTACT, body, launcher)


@router.post("/push/transactions/{roi_id}", responses={202: {"model": DataResponse[StartedRun]}})
async def push_transaction(
    roi_id: UUID,
    body: PushBody,
    user: Starter,
    launcher: Launcher,
) -> DataResponse[SyncResult] | DataResponse[StartedRun]:
    """Send the changes of one transaction, by its id in roi.transactions, due or not."""
    return await _push(user, EntityType.TRANSACTION, body, launcher, roi_id)


@router.post("/push/contacts/{roi_id}", responses={202: {"model": DataResponse[StartedRun]}})
async def push_contact(
    roi_id: UUID,
    body: PushBody,
    user: Starter,
    launcher: Launcher,
) -> DataResponse[SyncResult] | DataResponse[StartedRun]:
    """Send the changes of one contact, by its id in roi.contacts, due or not."""
    return await _push(user, EntityType.CONTACT, body, launcher, roi_id)


@router.post("/outbox/deletes/approve")
def approve_deletes(
    body: DeletesDecisionBody, user: Operator, database: DatabaseDep
) -> DataResponse[DeletesDecisionOut]:
    """Approve the deletes that wait because they exceed the limit. The next push sends them."""
    return _decide(delete_guard.approve, body, user, database)


@router.post("/outbox/deletes/withdraw")
def withdraw_deletes(
    body: DeletesDecisionBody, user: Operator, database: DatabaseDep
) -> DataResponse[DeletesDecisionOut]:
    """Withdraw the deletes that wait for approval. Their rows are loaded again."""
    return _decide(delete_guard.withdraw, body, user, database)


def _decide(
    decide: Callable[[Connection, Integration, EntityType, int, str], int],
    body: DeletesDecisionBody,
    user: Principal,
    database: Database,
) -> DataResponse[DeletesDecisionOut]:
    with database.connect() as connection:
        integration = user.integration(connection, body.integration_id)
        return DataResponse(
            data=DeletesDecisionOut(deletes=decide(connection, integration, body.entity_type, body.deletes, user.name))
        )


async def _push(
    user: Principal, entity_type: EntityType, body: PushBody, launcher: Launcher, roi_id: UUID | None = None
) -> DataResponse[SyncResult] | DataResponse[StartedRun]:
    return await launcher.run(
        user,
        body.integration_id,
        entity_type,
        dag_id=PUSH_DAG,
        mode=Mode.PUSH,
        conf={"records": [] if roi_id is None else [str(roi_id)]},
        require=lambda connection, integration: integrations.require_connected(integration),
    )
