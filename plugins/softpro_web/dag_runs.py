"""Start a DAG run through Airflow's own API, in the caller's name, and wait until its log is finished."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Annotated, Any
from uuid import UUID, uuid4

import httpx
from fastapi import Depends, Query, Request, Response

from softpro.db import leases, sync_logs
from softpro.db.database import Connection, Database
from softpro.db.integrations import Integration
from softpro.db.sync_logs import SyncLog
from softpro.entities import EntityType, Mode, SyncType
from softpro.errors import LeaseHeld, SoftProError
from softpro.runs.sync import organization_streams
from softpro_web.deps import DatabaseDep, airflow_app
from softpro_web.disconnect import leaving
from softpro_web.limiters import Places
from softpro_web.models.base import DataResponse
from softpro_web.models.sync import StartedRun, SyncResult
from softpro_web.paths import airflow_root
from softpro_web.principal import Principal
from softpro_web.threads import in_thread

POLL_SECONDS = 0.5
DEFAULT_WAIT_SECONDS = 60
MAX_WAIT_SECONDS = 300

MAX_WAITS, MAX_WAITS_EACH = 100, 10
"""Open waits of all users, and of each user, per API server. Further requests return 202 at once."""

_waits = Places(MAX_WAITS, MAX_WAITS_EACH)

Wait = Annotated[float, Query(ge=0, le=MAX_WAIT_SECONDS, description="Seconds to wait for the result.")]


class _Launcher:
    """Starts runs for a request, and waits for their results."""

    def __init__(self, request: Request, response: Response, database: Database, wait: float) -> None:
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
        """Start a run over one stream, and return its result, or its log's id with 202 after the wait.

        Args:
            user: The caller.
            integration_id: The integration to run.
            entity_type: The entity type of the stream.
            dag_id: The DAG to start.
            mode: The mode of the run's log.
            conf: Parameters of the DAG run besides the stream.
            require: Raises an error if the run is not possible.
            record: The SoftPro id of the only record to sync.

        Raises:
            LeaseHeld: Another run works on the stream.
            SoftProError: Any error of `announce_run` or `trigger_dag`.
        """
        run_id = f"api__{uuid4()}"
        integration, log_id = await in_thread(
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
            await in_thread(_fail_log, self.database, log_id, failed)
            raise
        entry = await self._wait(user, log_id)
        if entry.status == "CANCELLED":
            other = await in_thread(_running_log, self.database, entry)
            raise LeaseHeld(entry.error_message or "Another run works on this stream now", other)
        if entry.finished:
            return DataResponse(data=SyncResult.model_validate(sync_logs.sync_result(entry)))
        self._response.status_code = 202
        return DataResponse(data=StartedRun(run_id=run_id, log_id=log_id, status=entry.status))

    async def _wait(self, user: Principal, log_id: UUID) -> SyncLog:
        """Wait for the log, or return it at once if the user or the server has too many open waits."""
        if not _waits.is_free(user.name):
            return await in_thread(_read, self.database, log_id)
        with _waits.take(user.name):
            return await wait_for_log(self.request, self.database, log_id, self._seconds)


async def _launcher(
    request: Request, response: Response, database: DatabaseDep, wait: Wait = DEFAULT_WAIT_SECONDS
) -> _Launcher:
    return _Launcher(request, response, database, wait)


Launcher = Annotated[_Launcher, Depends(_launcher)]
"""The dependency of every route that starts a run and waits for its result."""


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
    """Write the PENDING log that a run over one stream, or one record of it, will fill.

    `require` raises an error if the run is not possible.

    Raises:
        NotFoundHere: The caller may not see the integration.
        UsageError: The entity type is switched off.
        LeaseHeld: Another run works on the stream, or is about to begin.
    """
    with database.connect() as connection, connection.transaction():
        integration = user.integration(connection, integration_id)
        require(connection, integration)
        organization_streams(integration, [entity_type])
        if record is None and mode is not Mode.PUSH:  # a push runs in parallel with other runs
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
    """Start a run of the DAG with this id.

    The call stays in the process. It passes the caller's credentials to the running app, so Airflow's checks and its
    audit log see the right user.

    Raises:
        SoftProError: Airflow did not start the run.
    """
    credentials = {name: request.headers[name] for name in ("authorization", "cookie") if name in request.headers}
    transport = httpx.ASGITransport(app=airflow_app())
    origin = f"{request.url.scheme}://{request.url.netloc}"
    async with httpx.AsyncClient(transport=transport, base_url=origin) as client:
        response = await client.post(
            f"{airflow_root(request)}/api/v2/dags/{dag_id}/dagRuns",
            json={"dag_run_id": run_id, "logical_date": None, "conf": conf},
            headers=credentials,
        )
    if response.is_error:
        raise SoftProError(f"Airflow did not start the run (it responded {response.status_code})")


async def wait_for_log(request: Request, database: Database, log_id: UUID, seconds: float) -> SyncLog:
    """Return the log once it is finished, after `seconds`, or once the caller has disconnected."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    async with leaving(request) as gone:
        while True:
            entry = await in_thread(_read, database, log_id)
            if entry.finished or clock() >= deadline or gone.done():
                return entry
            await asyncio.wait({gone}, timeout=POLL_SECONDS)


def _read(database: Database, log_id: UUID) -> SyncLog:
    with database.connect() as connection:
        return sync_logs.get(connection, log_id)


def _running_log(database: Database, entry: SyncLog) -> UUID | None:
    """Return the id of the log of the run that now works on the stream, most likely the one that blocked this run."""
    with database.connect() as connection:
        return leases.holder(connection, entry.stream)


def _fail_log(database: Database, log_id: UUID, failed: BaseException) -> None:
    with database.connect() as connection:
        sync_logs.fail(connection, log_id, failed)
