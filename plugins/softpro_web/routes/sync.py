"""Start syncs, and read sync logs."""

from __future__ import annotations

from typing import Annotated, TypeVar
from uuid import UUID

from fastapi import Path, Query

from softpro.db import integrations, sync_logs
from softpro.db.sync_logs import SyncLog, SyncStatus
from softpro.entities import MAX_ID_LENGTH, EntityType, Mode
from softpro.timestamps import format_milliseconds
from softpro_web.dag_runs import Launcher
from softpro_web.deps import SYNC_DAG, DatabaseDep, Reader, Starter
from softpro_web.models.base import DataResponse, ListResponse, Meta
from softpro_web.models.sync import LogDetail, LogOut, StartedRun, SyncBody, SyncRecordBody, SyncResult
from softpro_web.pagination import DEFAULT_LIMIT, Limit, Offset
from softpro_web.principal import Principal
from softpro_web.routing import APIRouter

RecordId = Annotated[str, Path(min_length=1, max_length=MAX_ID_LENGTH, pattern=r"^[^\x00-\x1f\x7f]+$")]
Out = TypeVar("Out", bound=LogOut)

router = APIRouter(prefix="/sync")


@router.post("/transactions", responses={202: {"model": DataResponse[StartedRun]}})
async def sync_transactions(
    body: SyncBody,
    user: Starter,
    launcher: Launcher,
) -> DataResponse[SyncResult] | DataResponse[StartedRun]:
    """Sync transactions now.

    Returns 200 with the result if the run ends within `wait`, else 202 with the id of its log.
    """
    return await _sync(user, EntityType.TRANSACTION, body, launcher)


@router.post("/contacts", responses={202: {"model": DataResponse[StartedRun]}})
async def sync_contacts(
    body: SyncBody,
    user: Starter,
    launcher: Launcher,
) -> DataResponse[SyncResult] | DataResponse[StartedRun]:
    """Sync contacts now.

    Returns 200 with the result if the run ends within `wait`, else 202 with the id of its log.
    """
    return await _sync(user, EntityType.CONTACT, body, launcher)


@router.post("/transactions/{order_id}", responses={202: {"model": DataResponse[StartedRun]}})
async def sync_transaction(
    order_id: RecordId,
    body: SyncRecordBody,
    user: Starter,
    launcher: Launcher,
) -> DataResponse[SyncResult] | DataResponse[StartedRun]:
    """Fetch and load one transaction, changed or not, even while a sync runs."""
    return await _sync(user, EntityType.TRANSACTION, body, launcher, order_id)


@router.post("/contacts/{contact_id}", responses={202: {"model": DataResponse[StartedRun]}})
async def sync_contact(
    contact_id: RecordId,
    body: SyncRecordBody,
    user: Starter,
    launcher: Launcher,
) -> DataResponse[SyncResult] | DataResponse[StartedRun]:
    """Fetch and load one contact, changed or not, even while a sync runs."""
    return await _sync(user, EntityType.CONTACT, body, launcher, contact_id)


@router.get("/logs")
def list_sync_logs(
    user: Reader,
    database: DatabaseDep,
    integration_id: Annotated[UUID, Query(alias="integrationId")],
    entity_type: Annotated[EntityType | None, Query(alias="entityType")] = None,
    status: SyncStatus | None = None,
    limit: Limit = DEFAULT_LIMIT,
    offset: Offset = 0,
) -> ListResponse[LogOut]:
    """List an integration's sync logs, newest first."""
    with database.connect() as connection:
        user.integration(connection, integration_id)
        entries, total = sync_logs.page(
            connection, integration_id, limit, offset, entity_type=entity_type, status=status
        )
    return ListResponse(
        data=[_out(LogOut, entry) for entry in entries], meta=Meta(total=total, limit=limit, offset=offset)
    )


@router.get("/logs/{log_id}")
def get_sync_log(log_id: UUID, user: Reader, database: DatabaseDep) -> DataResponse[LogDetail]:
    """Return a sync log with all details."""
    with database.connect() as connection:
        return DataResponse(data=_out(LogDetail, user.log(connection, log_id)))


async def _sync(
    user: Principal,
    entity_type: EntityType,
    body: SyncBody | SyncRecordBody,
    launcher: Launcher,
    record: str | None = None,
) -> DataResponse[SyncResult] | DataResponse[StartedRun]:
    """Start a run over the stream, or over one `record` of it."""
    mode = body.mode if isinstance(body, SyncBody) else Mode.RECORDS
    return await launcher.run(
        user,
        body.integration_id,
        entity_type,
        dag_id=SYNC_DAG,
        mode=mode,
        conf={"mode": mode.value} if record is None else {"records": [record]},
        require=lambda connection, integration: integrations.require_connected(integration),
        record=record,
    )


def _out(shape: type[Out], entry: SyncLog) -> Out:
    values = {name: getattr(entry, name) for name in shape.model_fields}
    return shape.model_validate(
        {
            **values,
            "started_at": format_milliseconds(entry.started_at),
            "completed_at": format_milliseconds(entry.completed_at) if entry.completed_at else None,
            "next_retry_at": format_milliseconds(entry.next_retry_at) if entry.next_retry_at else None,
        }
    )
