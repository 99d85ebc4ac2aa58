"""List, count, retry and purge webhook events for users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec
from psycopg import sql
from psycopg.rows import class_row

from softpro.db import audit_log, integration_settings, queries, refusals
from softpro.db.database import Connection
from softpro.db.inbox import CHANNEL
from softpro.db.refusals import Refused
from softpro.errors import NotFoundHere, OutOfDate
from softpro.json_codec import camel_case
from softpro.timestamps import format_milliseconds


class EventStatus(StrEnum):
    """The state of an event. PENDING: not tried yet. RETRYING: failed, to be retried. FAILED: no attempts are left."""

    PENDING = "PENDING"
    RETRYING = "RETRYING"
    PROCESSED = "PROCESSED"
    FAILED = "FAILED"


class EventEntityType(StrEnum):
    """The entity type that an event is about; documents are not synced."""

    TRANSACTION = "TRANSACTION"
    CONTACT = "CONTACT"
    DOCUMENT = "DOCUMENT"


@dataclass(frozen=True)
class Event:
    """A row of `softpro.webhook_events`, without its payload.

    Attributes:
        event_id: SoftPro's id of the event.
        log_id: the sync log of the run that settled the event or tried it last.
        decisions: users' decisions, each with `decision`, `by` and `at`.
    """

    id: UUID
    integration_id: UUID
    organization_id: str
    event_id: str
    event_type: str
    entity_type: str
    entity_id: str
    status: str
    outcome: str | None
    priority: int
    deliveries: int
    attempts: int
    max_attempts: int
    next_retry_at: datetime | None
    record_updated_at: datetime | None
    processing_error: str | None
    received_at: datetime
    processed_at: datetime | None
    log_id: UUID | None
    decisions: list[dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """Return the event as a list shows it; times in SoftPro's format."""
        return camel_case(self)

    def line(self) -> str:
        """Return the event in one line."""
        tries = f"{self.attempts} of {self.max_attempts} tries" if self.attempts else "not tried"
        result = self.outcome or tries
        return (
            f"{self.id}  {_shown(self.received_at)}  {self.event_type}  {self.entity_type.lower()} {self.entity_id}  "
            f"{self.status}, {result}" + (f": {self.processing_error}" if self.processing_error else "")
        )


@dataclass(frozen=True)
class EventFilter:
    """A filter for the events of an integration; None does not filter.

    Attributes:
        event_type: as stored, ORDER_CLOSED, or as sent, order.closed.
    """

    status: str | None = None
    entity_type: str | None = None
    event_type: str | None = None


@dataclass(frozen=True)
class Stats:
    """Counts of an integration's events.

    Attributes:
        by_day: counts by the day of receipt (UTC).
        oldest_waiting: the age of the oldest waiting event in seconds; None if none waits.
        repeated: the number of deliveries of events that were stored before.
        p50: the median of the seconds from receipt to settled, over the last 24 h; None without settled events.
        p95: the 95th percentile of the same.
        refused: the deliveries to the integration's address that were refused in the last 24 h.
    """

    by_status: dict[str, int]
    by_type: dict[str, int]
    by_day: dict[str, int]
    oldest_waiting: float | None
    repeated: int
    p50: float | None
    p95: float | None
    refused: Refused

    def as_json(self) -> dict[str, Any]:
        return {
            "byStatus": {status.value: self.by_status.get(status, 0) for status in EventStatus},
            "byType": self.by_type,
            "byDay": self.by_day,
            "oldestWaitingSeconds": self.oldest_waiting,
            "repeatedDeliveries": self.repeated,
            "secondsToSettle": {"p50": self.p50, "p95": self.p95},
            "refusedLastDay": camel_case(self.refused, "signatures", "timestamps", "last_at"),
        }


COLUMNS = sql.SQL(", ").join(map(sql.Identifier, Event.__dataclass_fields__))
# Attempts 0 makes the event PENDING and due. Its last error stays until the next attempt.
RETRY_EVENTS = """
update softpro.webhook_events
set attempts = 0, next_retry_at = null, missing_at = null,
    decisions = decisions || softpro.decision('RETRY', %(by)s, null)
where integration_id = %(integration_id)s and {wanted}
returning id
"""
SELECT_STATS = """
with counted as (
    select status, event_type, to_char(received_at at time zone 'UTC', 'YYYY-MM-DD') as day, count(*) as events,
           sum(deliveries - 1) as repeated, min(received_at) as first
    from softpro.webhook_events
    where integration_id = %(integration_id)s
    group by 1, 2, 3
)
select (select jsonb_object_agg(status, n) from (select status, sum(events) as n from counted group by 1) s)
           as by_status,
       (select jsonb_object_agg(event_type, n) from (select event_type, sum(events) as n from counted group by 1) t)
           as by_type,
       (select jsonb_object_agg(day, n) from (select day, sum(events) as n from counted group by 1) d) as by_day,
       (select extract(epoch from clock_timestamp() - min(first))::float8
        from counted
        where status in ('PENDING', 'RETRYING')) as oldest_waiting,
       (select coalesce(sum(repeated), 0)::bigint from counted) as repeated,
       took.p50, took.p95
from (
    select percentile_cont(0.5) within group (order by seconds) as p50,
           percentile_cont(0.95) within group (order by seconds) as p95
    from (
        select extract(epoch from processed_at - received_at)::float8 as seconds
        from softpro.webhook_events
        where integration_id = %(integration_id)s and processed_at > now() - interval '24 hours'
    ) settled
) took
"""


def page(
    connection: Connection, integration_id: UUID, wanted: EventFilter, limit: int, offset: int
) -> tuple[list[Event], int]:
    """Return one page of the filtered events, newest first, and the total number of filtered events."""
    parameters: dict[str, object] = {"integration_id": integration_id}
    conditions: list[sql.Composable] = [sql.SQL("integration_id = %(integration_id)s")]
    for column in EventFilter.__dataclass_fields__:
        if (value := getattr(wanted, column)) is not None:
            conditions.append(sql.SQL("{} = {}").format(sql.Identifier(column), sql.Placeholder(column)))
            parameters[column] = value.replace(".", "_").upper() if column == "event_type" else value
    return queries.page(
        connection,
        Event,
        columns=COLUMNS,
        source=sql.SQL("softpro.webhook_events where {}").format(sql.SQL(" and ").join(conditions)),
        order="received_at desc, id",
        parameters=parameters,
        limit=limit,
        offset=offset,
    )


def get(connection: Connection, integration_id: UUID, event_id: UUID) -> Event:
    """Return the event with this row id. Raises NotFoundHere."""
    query = sql.SQL("select {} from softpro.webhook_events where id = %s and integration_id = %s").format(COLUMNS)
    found = connection.cursor(row_factory=class_row(Event)).execute(query, [event_id, integration_id]).fetchone()
    if found is None:
        raise NotFoundHere(f"No webhook event of this integration has the id {event_id}")
    return found


def full_json(connection: Connection, event: Event) -> bytes:
    """Return the complete event as JSON, with its `headers` and its `payload`, whose numbers keep every digit."""
    row = connection.execute(
        "select payload::text as payload, headers from softpro.webhook_events where id = %s and integration_id = %s",
        [event.id, event.integration_id],
    ).fetchone()
    if row is None:
        raise NotFoundHere(f"The webhook event {event.id} was deleted just now")
    return msgspec.json.encode(
        {**event.as_json(), "headers": row["headers"], "payload": msgspec.Raw(row["payload"].encode())}
    )


def retry(connection: Connection, integration_id: UUID, event_id: UUID, by: str) -> Event:
    """Retry a FAILED or RETRYING event now, with as many attempts as a new one, and return it.

    Raises:
        NotFoundHere: the integration has no such event.
        OutOfDate: the event is in another state.
    """
    with connection.transaction():
        event = get(connection, integration_id, event_id)
        if not _retry(connection, integration_id, [event_id], ["FAILED", "RETRYING"], None, by):
            raise OutOfDate(
                f"The webhook event {event_id} is {event.status}: only a FAILED or RETRYING event can be retried"
            )
    return get(connection, integration_id, event_id)


def retry_some(connection: Connection, integration_id: UUID, event_ids: Sequence[UUID], by: str) -> int:
    """Retry those of these events that are FAILED or RETRYING, and return their number."""
    return _retry(connection, integration_id, event_ids, ["FAILED", "RETRYING"], None, by)


def retry_failed(connection: Connection, integration_id: UUID, entity_type: str | None, by: str) -> int:
    """Retry the integration's FAILED events, of one entity type or all, and return their number."""
    return _retry(connection, integration_id, None, ["FAILED"], entity_type, by)


def stats(connection: Connection, integration_id: UUID) -> Stats:
    """Return the counts of the integration's events."""
    row = queries.one(connection, SELECT_STATS, {"integration_id": integration_id})
    return Stats(
        by_status=row["by_status"] or {},
        by_type=row["by_type"] or {},
        by_day=dict(sorted((row["by_day"] or {}).items())),
        oldest_waiting=row["oldest_waiting"],
        repeated=row["repeated"],
        p50=row["p50"],
        p95=row["p95"],
        refused=refusals.last_day(connection, integration_id),
    )


def webhooks_enabled(connection: Connection, integration_id: UUID) -> bool:
    """Return whether the integration accepts webhooks. Raises NotFoundHere."""
    row = connection.execute(
        "select webhooks_enabled from softpro.integrations where id = %s", [integration_id]
    ).fetchone()
    if row is None:
        raise NotFoundHere(f"No integration has the id {integration_id}: connect it first")
    return bool(row["webhooks_enabled"])


def set_webhooks_enabled(connection: Connection, integration_id: UUID, *, on: bool) -> None:
    """Set whether the integration accepts webhooks."""
    integration_settings.change(connection, integration_id, {"webhooks_enabled": on})


def purge(connection: Connection, days: int) -> int:
    """Delete the events settled more than `days` days ago, and return their number."""
    return connection.execute(
        "delete from softpro.webhook_events where processed and processed_at < now() - make_interval(days => %s)",
        [days],
    ).rowcount


def _retry(
    connection: Connection,
    integration_id: UUID,
    event_ids: Sequence[UUID] | None,
    statuses: Sequence[str],
    entity_type: str | None,
    by: str,
) -> int:
    conditions = [sql.SQL("status = any(%(statuses)s)")]
    if event_ids is not None:
        conditions.append(sql.SQL("id = any(%(event_ids)s)"))
    if entity_type is not None:
        conditions.append(sql.SQL("entity_type = %(entity_type)s"))
    with connection.transaction():
        retried = connection.execute(
            sql.SQL(RETRY_EVENTS).format(wanted=sql.SQL(" and ").join(conditions)),
            {
                "integration_id": integration_id,
                "event_ids": None if event_ids is None else list(event_ids),
                "statuses": list(statuses),
                "entity_type": entity_type,
                "by": by,
            },
        ).rowcount
        if retried:
            connection.execute("select pg_notify(%s, '')", [CHANNEL])
            audit_log.record(connection, "webhooks.retry", integration_id=integration_id, after={"events": retried})
    return retried


def _shown(moment: datetime | None) -> str | None:
    return format_milliseconds(moment) if moment else None
