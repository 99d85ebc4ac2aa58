"""Settle webhook events, which are hints that a record of SoftPro changed.

An event is settled by any fetch that returned its record and began after the event was received. Within the lag, a
fetch may still show the version from before the change. Then it only settles an event that carries the fetched version
of its record, or an earlier one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from softpro.db import queries
from softpro.db.database import Connection
from softpro.entities import Stream

CHANNEL = "softpro_webhooks"
"""The channel on which PostgreSQL notifies listeners of new events."""
# Events of integrations that a user has to reconnect wait; events of disconnected ones are settled as ignored.
SELECT_SECONDS_UNTIL_DUE = """
select extract(epoch from min(d.due_at) - clock_timestamp())::float8 as seconds
from (
    select integration_id, coalesce(next_retry_at, received_at) as due_at
    from softpro.webhook_events
    where status in ('PENDING', 'RETRYING')
    union all
    select integration_id, load_due_at from softpro.cursors where load_due_at is not null
) d
join softpro.integrations i on i.id = d.integration_id
where i.status in ('CONNECTED', 'DISCONNECTED')
"""

# Every writer locks events in id order (prevents deadlocks).
SETTLE_EVENTS = """
with returned as (
    select e.id,
           coalesce(e.received_at <= %(asked_at)s - %(lag)s or e.record_updated_at <= r.updated_at, false) as settles
    from unnest(%(ids)s::text[], %(versions)s::timestamptz[]) r (entity_id, updated_at)
    join softpro.webhook_events e on e.entity_id = r.entity_id
    where e.integration_id = %(integration_id)s and e.entity_type = %(entity_type)s and not e.processed
      and e.received_at < %(asked_at)s
    order by e.id
    for update of e
),
settled as (
    update softpro.webhook_events e
    set processed = true, processed_at = clock_timestamp(), outcome = 'FETCHED', log_id = %(log_id)s,
        processing_error = null, next_retry_at = null, missing_at = null
    from returned r
    where e.id = r.id and r.settles
)
update softpro.webhook_events e
set missing_at = null
from returned r
where e.id = r.id and not r.settles and e.missing_at is not null
"""

SETTLE_EVENTS_OF_DELETED = """
with gone as (
    select e.id
    from unnest(%(ids)s::text[], %(confirmed)s::timestamptz[]) g (entity_id, confirmed_at)
    join softpro.webhook_events e on e.entity_id = g.entity_id
    where e.integration_id = %(integration_id)s and e.entity_type = %(entity_type)s and not e.processed
      and e.received_at <= g.confirmed_at - %(lag)s
    order by e.id
    for update of e
)
update softpro.webhook_events e
set processed = true, processed_at = clock_timestamp(), outcome = %(outcome)s, log_id = %(log_id)s,
    processing_error = null, next_retry_at = null
from gone
where e.id = gone.id
"""


def has_unsettled(connection: Connection, stream: Stream) -> bool:
    """Return whether the stream has unsettled events."""
    return bool(
        queries.value(
            connection,
            """
        select exists (
            select from softpro.webhook_events
            where integration_id = %(integration_id)s and entity_type = %(entity_type)s and not processed
        ) as waits
        """,
            stream.parameters,
        )
    )


def settle_events(
    connection: Connection,
    stream: Stream,
    *,
    log_id: UUID,
    ids: Sequence[str],
    versions: Sequence[datetime | None],
    asked_at: datetime,
    lag: timedelta,
) -> None:
    """Settle the events of the records that a fetch returned, in the transaction that lands them.

    Args:
        ids: the records' ids.
        versions: the `updatedAt` of each record; None if it has none.
        asked_at: when the fetch began, by the database's clock.
        lag: the time within which a change surfaces after it was made and its event sent.
    """
    connection.execute(
        SETTLE_EVENTS,
        {
            **stream.parameters,
            "log_id": log_id,
            "ids": list(ids),
            "versions": list(versions),
            "asked_at": asked_at,
            "lag": lag,
        },
    )


def settle_events_of_deleted(
    connection: Connection,
    stream: Stream,
    *,
    log_id: UUID,
    confirmed: Mapping[str, datetime],
    outcome: str,
    lag: timedelta,
) -> None:
    """Settle the events of records that SoftPro has deleted.

    Args:
        confirmed: when each record was confirmed deleted, by its id.
        outcome: DELETED if they were deleted here, GONE if they were not stored here.
        lag: as in `settle_events`.
    """
    connection.execute(
        SETTLE_EVENTS_OF_DELETED,
        {
            **stream.parameters,
            "log_id": log_id,
            "ids": list(confirmed),
            "confirmed": list(confirmed.values()),
            "outcome": outcome,
            "lag": lag,
        },
    )
