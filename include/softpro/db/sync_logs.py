"""Write and read sync logs: what each run did to its stream, and how it ended."""

from __future__ import annotations

import traceback
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid5

from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from softpro.db import audit_log, queries
from softpro.db.database import Connection
from softpro.entities import EntityType, Mode, Stream, SyncType
from softpro.errors import NotFoundHere, SoftProAPIError
from softpro.timestamps import format_milliseconds

NAMESPACE = UUID("5f7b7d1e-3a52-4a31-9d0f-0c9d4f1f7c11")
UNFINISHED = ("PENDING", "IN_PROGRESS")


class SyncStatus(StrEnum):
    """The state of a run; the first two are unfinished."""

    PENDING = "PENDING"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    PARTIAL_SUCCESS = "PARTIAL_SUCCESS"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True)
class SyncLog:
    """A row of `softpro.sync_logs`; `duration` in milliseconds."""

    id: UUID
    integration_id: UUID
    organization_id: str
    run_id: str
    sync_type: str
    entity_type: str
    entity_id: str | None
    roi_entity_id: str | None
    operation: str
    direction: str
    mode: str
    reason: str | None
    status: str
    records_fetched: int
    records_processed: int
    records_failed: int
    records_inserted: int
    records_updated: int
    api_requests: int
    mapping_version: int | None
    warnings: dict[str, int]
    error_message: str | None
    stack_trace: str | None
    request_payload: dict[str, Any] | None
    response_payload: dict[str, Any] | None
    attempts: int
    max_attempts: int
    next_retry_at: datetime | None
    started_at: datetime
    completed_at: datetime | None
    duration: int | None

    @property
    def stream(self) -> Stream:
        """Return the stream that the run worked on."""
        return Stream.of_row(self.integration_id, self.organization_id, self.entity_type)

    @property
    def succeeded(self) -> bool:
        """Return whether the run succeeded. Quarantined records do not fail a run; `records_failed` counts them."""
        return self.status in ("COMPLETED", "PARTIAL_SUCCESS")

    @property
    def finished(self) -> bool:
        return self.status not in UNFINISHED


COLUMNS = sql.SQL(", ").join(map(sql.Identifier, SyncLog.__dataclass_fields__))


ROW_OF_RECORD = sql.SQL("case entity_type {} end").format(
    sql.SQL(" ").join(
        sql.SQL(
            """
            when {} then (
                select id::text from {} r where r.organization_id = l.organization_id and r.{} = l.entity_id)
            """
        ).format(entity_type.value, sql.Identifier("roi", entity_type.table), sql.Identifier(entity_type.key))
        for entity_type in EntityType
    )
)
"""Our id of the record that a log `l` is about; null if it is about several, or the record was never loaded."""


def log_id_of(run_id: str, stream: Stream, operation: str = "SYNC", part: int = 0) -> UUID:
    """Return the id of a run's log for a stream, which is the same for each attempt (UUID version 5, RFC 9562)."""
    name = f"{run_id}/{stream.integration_id}/{stream.entity_type.value}"
    name = name if operation == "SYNC" else f"{name}/{operation}"
    return uuid5(NAMESPACE, f"{name}/{part}" if part else name)


def announce(
    connection: Connection,
    stream: Stream,
    *,
    run_id: str,
    mode: Mode,
    sync_type: SyncType,
    operation: str = "SYNC",
    entity_id: str | None = None,
    part: int = 0,
) -> UUID:
    """Write the PENDING log of a run that is about to begin, and return its id. Repeating it changes nothing.

    Args:
        entity_id: the id of the record, if the run is about only one.
        part: the number of the run, if one run id begins several runs over the stream.
    """
    log_id = log_id_of(run_id, stream, operation, part)
    announced = connection.execute(
        """
        insert into softpro.sync_logs
            (id, integration_id, organization_id, run_id, sync_type, entity_type, mode, operation, entity_id, direction,
             status)
        values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 'PENDING')
        on conflict (id) do nothing
        """,
        [
            log_id,
            stream.integration_id,
            stream.organization_id,
            run_id,
            sync_type.value,
            stream.entity_type.value,
            mode.value,
            operation,
            entity_id,
            "ROI_TO_SOFTPRO" if mode is Mode.PUSH else "SOFTPRO_TO_ROI",
        ],
    ).rowcount
    if announced:
        wanted = {"mode": mode.value, "entityType": stream.entity_type.value, "record": entity_id}
        audit_log.record(connection, "run.start", integration_id=stream.integration_id, subject=log_id, after=wanted)
    return log_id


def start(connection: Connection, log_id: UUID, max_attempts: int, reason: str) -> None:
    """Set the log to IN_PROGRESS: of an announced run, of a failed attempt, or of a run that begins another slice.

    Args:
        reason: why the run does what it does.
    """
    connection.execute(
        """
        update softpro.sync_logs
        set status = 'IN_PROGRESS', max_attempts = %(max_attempts)s, reason = %(reason)s,
            attempts = attempts + (status in ('IN_PROGRESS', 'FAILED', 'CANCELLED'))::integer,
            started_at = case status when 'PENDING' then now() else started_at end,
            error_message = null, stack_trace = null, next_retry_at = null, completed_at = null, duration = null
        where id = %(id)s
        """,
        {"id": log_id, "max_attempts": max_attempts, "reason": reason},
    )


def explain(connection: Connection, log_id: UUID, reason: str) -> None:
    """Replace the reason of the run by a more exact one."""
    connection.execute("update softpro.sync_logs set reason = %s where id = %s", [reason, log_id])


def record_mapping_version(connection: Connection, log_id: UUID, mapping_version: int | None) -> None:
    """Record the version of the mapping set that the run maps by."""
    connection.execute("update softpro.sync_logs set mapping_version = %s where id = %s", [mapping_version, log_id])


def add_counts(connection: Connection, log_id: UUID, **counts: int) -> None:
    """Add to the log's counts, e.g. `add_counts(connection, log_id, records_fetched=50, api_requests=1)`."""
    sums = sql.SQL(", ").join(
        sql.SQL("{0} = {0} + {1}").format(sql.Identifier(name), sql.Placeholder(name)) for name in counts
    )
    connection.execute(
        sql.SQL("update softpro.sync_logs set {} where id = %(id)s").format(sums), {"id": log_id, **counts}
    )


def add_warnings(connection: Connection, log_id: UUID, warnings: Mapping[str, int]) -> None:
    """Add the checks' warnings, {expectation: records}, to those of the log."""
    for expectation, count in warnings.items():
        connection.execute(
            """
            update softpro.sync_logs
            set warnings = jsonb_set(warnings, array[%(name)s],
                                     to_jsonb(coalesce((warnings ->> %(name)s)::bigint, 0) + %(count)s))
            where id = %(id)s
            """,
            {"id": log_id, "name": expectation, "count": count},
        )


def name_row(connection: Connection, log_id: UUID, roi_entity_id: UUID) -> None:
    """Record the row of `roi` that the run is about, if it is about only one."""
    connection.execute("update softpro.sync_logs set roi_entity_id = %s where id = %s", [str(roi_entity_id), log_id])


def record_problem(connection: Connection, log_id: UUID, problem: str) -> None:
    """Record what the run could not do while it does the rest; `finish` then ends it as FAILED."""
    connection.execute("update softpro.sync_logs set error_message = %s where id = %s", [problem, log_id])


def finish(connection: Connection, log_id: UUID) -> SyncLog:
    """Close the log: FAILED if a problem was recorded, PARTIAL_SUCCESS if records failed, otherwise COMPLETED."""
    return _end(
        connection,
        log_id,
        """
        case when error_message is not null then 'FAILED' when records_failed > 0 then 'PARTIAL_SUCCESS'
             else 'COMPLETED' end
        """,
    )


def fail(connection: Connection, log_id: UUID, error: BaseException, next_retry_at: datetime | None = None) -> SyncLog:
    """Close the log of a run that ended early as FAILED. The stack trace is stored without values or arguments."""
    connection.execute(
        """
        update softpro.sync_logs
        set error_message = %(message)s, stack_trace = %(trace)s, request_payload = %(request)s,
            response_payload = %(answer)s, next_retry_at = %(retry)s
        where id = %(id)s and status in ('PENDING', 'IN_PROGRESS')
        """,
        {
            "id": log_id,
            "message": str(error) or type(error).__name__,
            "trace": "".join(traceback.format_list(traceback.extract_tb(error.__traceback__))),
            "request": Jsonb(error.request) if isinstance(error, SoftProAPIError) else None,
            "answer": Jsonb(error.response) if isinstance(error, SoftProAPIError) else None,
            "retry": next_retry_at,
        },
    )
    return _end(connection, log_id, "'FAILED'")


def cancel(connection: Connection, log_id: UUID, why: BaseException | str) -> SyncLog:
    """Close the log of a run that did not do its work, without an error: another run worked, or a user stopped it."""
    connection.execute("update softpro.sync_logs set error_message = %s where id = %s", [str(why), log_id])
    return _end(connection, log_id, "'CANCELLED'")


def cancel_stale(connection: Connection) -> None:
    """Close the logs of announced runs that never began, and of dead runs without a lease.

    A run never begins if its announcer died. Runs over named records and pushes have no lease.
    """
    connection.execute(
        """
        update softpro.sync_logs
        set status = 'CANCELLED', error_message = 'The run never began', completed_at = now(), duration = 0
        where status = 'PENDING' and started_at < now() - interval '15 minutes'
        """
    )
    connection.execute(
        """
        update softpro.sync_logs
        set status = 'FAILED', error_message = 'The run stopped responding', completed_at = now(),
            duration = round(extract(epoch from now() - started_at) * 1000)
        where status = 'IN_PROGRESS' and mode in ('records', 'push') and started_at < now() - interval '1 hour'
        """
    )


def get(connection: Connection, log_id: UUID, within: Collection[str] | None = None) -> SyncLog:
    """Return a log. Raises NotFoundHere, also if its organization is not `within`."""
    query = sql.SQL(
        """
        select {} from softpro.sync_logs
        where id = %(id)s and (%(within)s::text[] is null or organization_id = any(%(within)s))
        """
    ).format(COLUMNS)
    parameters = {"id": log_id, "within": None if within is None else list(within)}
    found = connection.cursor(row_factory=class_row(SyncLog)).execute(query, parameters).fetchone()
    if found is None:
        raise NotFoundHere(f"No sync log has the id {log_id}")
    return found


def page(
    connection: Connection,
    integration_id: UUID,
    limit: int,
    offset: int,
    *,
    entity_type: EntityType | None = None,
    status: SyncStatus | None = None,
) -> tuple[list[SyncLog], int]:
    """Return one page of the integration's logs, newest first, and their total number, filtered as given."""
    return queries.page(
        connection,
        SyncLog,
        columns=COLUMNS,
        source="""
            softpro.sync_logs
            where integration_id = %(integration_id)s
              and (%(status)s::text is null or status = %(status)s)
              and (%(entity_type)s::text is null or entity_type = %(entity_type)s)
            """,
        order="started_at desc, id",
        parameters={"integration_id": integration_id, "status": status, "entity_type": entity_type},
        limit=limit,
        offset=offset,
    )


def of_run(connection: Connection, run_id: str) -> list[SyncLog]:
    """Return the logs of one run, in the order they began."""
    query = sql.SQL("select {} from softpro.sync_logs where run_id = %s order by started_at, id").format(COLUMNS)
    return connection.cursor(row_factory=class_row(SyncLog)).execute(query, [run_id]).fetchall()


def _end(connection: Connection, log_id: UUID, status: str) -> SyncLog:
    connection.execute(
        sql.SQL(
            """
            update softpro.sync_logs l
            set status = {}, roi_entity_id = coalesce(roi_entity_id, {}), completed_at = clock_timestamp(),
                duration = round(extract(epoch from clock_timestamp() - started_at) * 1000)
            where id = %s and status in ('PENDING', 'IN_PROGRESS')
            """
        ).format(sql.SQL(status), ROW_OF_RECORD),
        [log_id],
    )
    return get(connection, log_id)


def sync_result(log: SyncLog) -> dict[str, Any]:
    """Return the specification's SyncResult, why the run failed, if so, and the id of its log.

    `duration` is in milliseconds, and times are in SoftPro's format.
    """
    return {
        "success": log.succeeded,
        "entityType": log.entity_type,
        "operation": log.operation.lower(),
        "recordsProcessed": log.records_processed,
        "recordsSucceeded": log.records_processed - log.records_failed,
        "recordsFailed": log.records_failed,
        "duration": log.duration,
        "startedAt": format_milliseconds(log.started_at),
        "completedAt": format_milliseconds(log.completed_at) if log.completed_at else None,
        "error": None if log.succeeded else log.error_message,
        "logId": str(log.id),
    }
