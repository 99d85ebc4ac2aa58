"""Sync now, and the logs of all syncs."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID, uuid4

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from softpro.entities import LONGEST_ID, EntityType, Mode
from softpro.store import integrations, logs
from softpro.store.database import Database
from softpro.store.logs import SyncLog
from softpro.timestamps import format_milliseconds
from softpro_web import runs
from softpro_web.deps import SYNC_DAG, DatabaseDep, Operator, Reader
from softpro_web.models import Answer, ListAnswer, LogOut, Meta, Started, SyncBody, SyncRecordBody, SyncResult
from softpro_web.runs import DEFAULT_WAIT_SECONDS, Wait

LARGEST_PAGE = 200
LARGEST_OFFSET = 1_000_000_000

RecordId = Annotated[str, Path(min_length=1, max_length=LONGEST_ID, pattern=r"^[^\x00-\x1f\x7f]+$")]

router = APIRouter(prefix="/sync")


@router.post("/transactions", responses={202: {"model": Answer[Started]}})
async def sync_transactions(
    body: SyncBody,
    request: Request,
    response: Response,
    user: Operator,
    database: DatabaseDep,
    wait: Wait = DEFAULT_WAIT_SECONDS,
) -> Answer[SyncResult] | Answer[Started]:
    """Syncs the integration's transactions: the result when it ends within the wait, else 202 and where to look."""
    return await _sync(EntityType.TRANSACTION, body, request, response, database, wait)


@router.post("/contacts", responses={202: {"model": Answer[Started]}})
async def sync_contacts(
    body: SyncBody,
    request: Request,
    response: Response,
    user: Operator,
    database: DatabaseDep,
    wait: Wait = DEFAULT_WAIT_SECONDS,
) -> Answer[SyncResult] | Answer[Started]:
    """Syncs the integration's contacts: the result when it ends within the wait, else 202 and where to look."""
    return await _sync(EntityType.CONTACT, body, request, response, database, wait)


@router.post("/transactions/{order_id}", responses={202: {"model": Answer[Started]}})
async def sync_transaction(
    order_id: RecordId,
    body: SyncRecordBody,
    request: Request,
    response: Response,
    user: Operator,
    database: DatabaseDep,
    wait: Wait = DEFAULT_WAIT_SECONDS,
) -> Answer[SyncResult] | Answer[Started]:
    """Fetches one transaction and loads it, changed or not, beside a sync that may go on."""
    return await _sync_record(EntityType.TRANSACTION, order_id, body, request, response, database, wait)


@router.post("/contacts/{contact_id}", responses={202: {"model": Answer[Started]}})
async def sync_contact(
    contact_id: RecordId,
    body: SyncRecordBody,
    request: Request,
    response: Response,
    user: Operator,
    database: DatabaseDep,
    wait: Wait = DEFAULT_WAIT_SECONDS,
) -> Answer[SyncResult] | Answer[Started]:
    """Fetches one contact and loads it, changed or not, beside a sync that may go on."""
    return await _sync_record(EntityType.CONTACT, contact_id, body, request, response, database, wait)


@router.get("/logs")
def read_logs(
    user: Reader,
    database: DatabaseDep,
    integration_id: Annotated[UUID, Query(alias="integrationId")],
    limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = 50,
    offset: Annotated[int, Query(ge=0, le=LARGEST_OFFSET)] = 0,
) -> ListAnswer[LogOut]:
    """The integration's sync logs, newest first."""
    with database.connect() as connection:
        integrations.get(connection, integration_id)
        entries, total = logs.page(connection, integration_id, limit, offset)
    return ListAnswer(data=[_log_out(entry) for entry in entries], meta=Meta(total=total, limit=limit, offset=offset))


async def _sync(
    entity_type: EntityType, body: SyncBody, request: Request, response: Response, database: Database, wait: float
) -> Answer[SyncResult] | Answer[Started]:
    run_id = f"api__{uuid4()}"
    integration, log_id = await run_in_threadpool(
        runs.announce,
        database,
        body.integration_id,
        entity_type,
        run_id=run_id,
        mode=body.mode,
        require=lambda connection, integration: integrations.require_connected(integration),
    )
    conf = {"organization": integration.organization_id, "entity_types": [entity_type.table], "mode": body.mode.value}
    return await runs.result(
        request, response, database, wait, dag_id=SYNC_DAG, run_id=run_id, conf=conf, log_id=log_id
    )


async def _sync_record(
    entity_type: EntityType,
    record: str,
    body: SyncRecordBody,
    request: Request,
    response: Response,
    database: Database,
    wait: float,
) -> Answer[SyncResult] | Answer[Started]:
    run_id = f"api__{uuid4()}"
    integration, log_id = await run_in_threadpool(
        runs.announce,
        database,
        body.integration_id,
        entity_type,
        run_id=run_id,
        mode=Mode.RECORDS,
        require=lambda connection, integration: integrations.require_connected(integration),
        record=record,
    )
    conf = {
        "organization": integration.organization_id,
        "entity_types": [entity_type.table],
        "records": [record],
    }
    return await runs.result(
        request, response, database, wait, dag_id=SYNC_DAG, run_id=run_id, conf=conf, log_id=log_id
    )


def _log_out(entry: SyncLog) -> LogOut:
    values = {name: getattr(entry, name) for name in LogOut.model_fields}
    return LogOut.model_validate(
        {
            **values,
            "started_at": format_milliseconds(entry.started_at),
            "completed_at": format_milliseconds(entry.completed_at) if entry.completed_at else None,
            "next_retry_at": format_milliseconds(entry.next_retry_at) if entry.next_retry_at else None,
        }
    )
