"""Starts a DAG through Airflow's own API, in the caller's name, and waits for a run's log to end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Annotated, Any
from uuid import UUID, uuid4

import httpx
from fastapi import Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from softpro.db import leases, sync_logs
from softpro.db.database import Connection, Database
from softpro.db.integrations import Integration
from softpro.db.sync_logs import SyncLog
from softpro.entities import EntityType, Mode, SyncType
from softpro.errors import LeaseHeld, SoftProError
from softpro.runs.sync import organization_streams
from softpro_web.deps import DatabaseDep, airflow_app
from softpro_web.models.base import DataResponse
from softpro_web.models.sync import StartedRun, SyncResult
from softpro_web.paths import airflow_root
from softpro_web.principal import Principal

POLL_SECONDS = 0.5
DEFAULT_WAIT_SECONDS = 60
MAX_WAIT_SECONDS = 300

Wait = Annotated[float, Query(ge=0, le=MAX_WAIT_SECONDS, description="seconds to wait for the result")]


class _Launcher:
    """A request that starts a run, by somebody who may, and waits for its result: what every such route takes."""

    def __init__(
        self,
        request: Request,
        response: Response,
        database: DatabaseDep,
        wait: Wait = DEFAULT_WAIT_SECONDS,
    ) -> None:
        self.request, self.database = request, database
        self._response, self._seconds = response, wait

    async def run(
        self,
        user: Principal,
        integration_id: UUID,
        entity_type: EntityType,
        *,
        dag_id: str,
        mode: Mode,
        conf: Mapping[str, object],
        require: Callable[[Connection, Integration], object] = lambda connection, integration: None,
        record: str | None = None,
    ) -> DataResponse[SyncResult] | DataResponse[StartedRun]:
        """Starts a run over one stream: its result when it ends within the wait, else 202 and where to look. `conf` is
        what the DAG is told beside the stream; `require` and `record` are those of `announce_run`.

        Raises what `announce_run` and `trigger_dag` do; LeaseHeld where another run works on the stream.
        """
        run_id = f"api__{uuid4()}"
        integration, log_id = await run_in_threadpool(
            announce_run,
            self.database,
            user,
            integration_id,
            entity_type,
            run_id=run_id,
            mode=mode,
            require=require,
            record=record,
        )
        stream = {"organization": integration.organization_id, "entity_types": [entity_type.table]}
        try:
            await trigger_dag(self.request, dag_id, run_id, {**stream, **conf})
        except BaseException as failed:
            await run_in_threadpool(_fail_log, self.database, log_id, failed)
            raise
        entry = await wait_for_log(self.request, self.database, log_id, self._seconds)
        if entry.status == "CANCELLED":
            other = await run_in_threadpool(_running_log, self.database, entry)
            raise LeaseHeld(entry.error_message or "Another run works on this now", other)
        if entry.finished:
            return DataResponse(data=SyncResult.model_validate(sync_logs.sync_result(entry)))
        self._response.status_code = 202
        return DataResponse(data=StartedRun(run_id=run_id, log_id=log_id, status=entry.status))


Launcher = Annotated[_Launcher, Depends()]


def announce_run(
    database: Database,
    user: Principal,
    integration_id: UUID,
    entity_type: EntityType,
    *,
    run_id: str,
    mode: Mode,
    require: Callable[[Connection, Integration], object] = lambda connection, integration: None,
    record: str | None = None,
) -> tuple[Integration, UUID]:
    """Writes the PENDING log that a run over one stream, or one record of it, will fill; `require` raises what else may
    stand against it.

    Raises NotFoundHere, UsageError, LeaseHeld.
    """
    with database.connect() as connection, connection.transaction():
        integration = user.integration(connection, integration_id)
        require(connection, integration)
        organization_streams(integration, [entity_type])
        if record is None and mode is not Mode.PUSH:  # which goes on beside others
            leases.lock_announcements(connection, integration.stream(entity_type))
        log_id = sync_logs.announce(
            connection,
            integration.stream(entity_type),
            run_id=run_id,
            mode=mode,
            sync_type=SyncType.MANUAL,
            entity_id=record,
        )
    return integration, log_id


async def trigger_dag(request: Request, dag_id: str, run_id: str, conf: dict[str, Any]) -> None:
    """Starts a run of the DAG under this id. Raises SoftProError when Airflow refuses it.

    The call never leaves the process: it goes to the running app with the caller's own credentials, so Airflow's checks
    and its audit log see the right person.
    """
    credentials = {name: request.headers[name] for name in ("authorization", "cookie") if name in request.headers}
    transport = httpx.ASGITransport(app=airflow_app())
    origin = f"{request.url.scheme}://{request.url.netloc}"
    async with httpx.AsyncClient(transport=transport, base_url=origin) as client:
        answer = await client.post(
            f"{airflow_root(request)}/api/v2/dags/{dag_id}/dagRuns",
            json={"dag_run_id": run_id, "logical_date": None, "conf": conf},
            headers=credentials,
        )
    if answer.is_error:
        raise SoftProError(f"Airflow did not start the run (it answered {answer.status_code})")


async def wait_for_log(request: Request, database: Database, log_id: UUID, seconds: float) -> SyncLog:
    """The log when it is finished, or as it stands after so many seconds, or when the caller has left."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        entry = await run_in_threadpool(_read, database, log_id)
        late = asyncio.get_running_loop().time() >= deadline
        if entry.finished or late or await request.is_disconnected():
            return entry
        await asyncio.sleep(POLL_SECONDS)


def _read(database: Database, log_id: UUID) -> SyncLog:
    with database.connect() as connection:
        return sync_logs.get(connection, log_id)


def _running_log(database: Database, entry: SyncLog) -> UUID | None:
    """The log of the run that works on the stream now, and was most likely in this one's way."""
    with database.connect() as connection:
        return leases.holder(connection, entry.stream)


def _fail_log(database: Database, log_id: UUID, failed: BaseException) -> None:
    with database.connect() as connection:
        sync_logs.fail(connection, log_id, failed)
