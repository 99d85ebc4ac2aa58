"""Schedule the syncs of each stream, by lane. Each stream has its own clock, so failures of others do not delay it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from psycopg.rows import kwargs_row

from softpro.db import queries
from softpro.db.database import Connection
from softpro.db.leases import Run
from softpro.entities import EntityType, Stream

RETRY_BASE_SECONDS = 60
RETRY_LIMIT_SECONDS = 3600

ANNOUNCED_MAX_AGE = timedelta(minutes=2)
"""An announced run that has not begun by this age no longer keeps its stream from being due."""


SLOW_RULES_APART = timedelta(hours=1)
"""How long an integration with slow mapping rules is synced apart from others."""


class Lane(StrEnum):
    """The lane of a stream; streams with a backlog (first loads, sweeps) have their own and delay no others."""

    FRESH = "fresh"
    BACKLOG = "backlog"


def due(connection: Connection, lane: Lane) -> list[Stream]:
    """Return the lane's due streams of connected integrations, oldest sync first.

    A stream is due `sync_frequency` seconds after its last sync, or at its `next_attempt_at` after a failure. A backlog
    is due at once. Streams with a current or announced run are left out.
    """
    query = """
        select i.id as integration_id, i.organization_id, e.entity_type
        from softpro.integrations i
        cross join lateral (
            values ('CONTACT', i.sync_contacts), ('TRANSACTION', i.sync_transactions)
        ) e (entity_type, switched_on)
        left join softpro.cursors c on c.integration_id = i.id and c.entity_type = e.entity_type
        left join softpro.leases l on l.integration_id = i.id and l.entity_type = e.entity_type
        where i.status = 'CONNECTED' and i.sync_enabled and i.deleted_at is null and e.switched_on
          and coalesce(c.backlog, false) = %(backlog)s
          and coalesce(c.next_attempt_at <= now(),
                       c.backlog or c.last_synced_at is null
                       or c.last_synced_at + make_interval(secs => i.sync_frequency) <= now())
          and (l.integration_id is null or softpro.is_free(l))
          and not exists (
              select from softpro.sync_logs o
              where o.integration_id = i.id and o.entity_type = e.entity_type
                and o.status = 'PENDING' and o.started_at > now() - %(patience)s)
        order by c.last_synced_at nulls first, i.id, e.entity_type
    """
    return (
        connection.cursor(row_factory=kwargs_row(Stream.of_row))
        .execute(query, {"backlog": lane is Lane.BACKLOG, "patience": ANNOUNCED_MAX_AGE})
        .fetchall()
    )


def with_slow_rules(connection: Connection) -> set[UUID]:
    """Return the integrations whose mapping rules were slow in the last hour, in any of their streams."""
    query = "select distinct integration_id from softpro.cursors where slow_rules_at > now() - %s"
    return {row["integration_id"] for row in connection.execute(query, [SLOW_RULES_APART]).fetchall()}


def of_organization(
    connection: Connection, organization_id: str | None, entity_types: Sequence[EntityType]
) -> list[Stream]:
    """Return the enabled streams that a user requested, due or not.

    Args:
        organization_id: the organization; None for all connected ones.
    """
    query = """
        select i.id as integration_id, i.organization_id, e.entity_type
        from softpro.integrations i
        cross join lateral (
            values ('CONTACT', i.sync_contacts), ('TRANSACTION', i.sync_transactions)
        ) e (entity_type, switched_on)
        where i.deleted_at is null and e.switched_on and e.entity_type = any(%(entity_types)s)
          and (i.organization_id = %(organization)s or (%(organization)s::text is null and i.status = 'CONNECTED'))
        order by i.id, e.entity_type
    """
    parameters = {
        "organization": organization_id,
        "entity_types": [entity_type.value for entity_type in entity_types],
    }
    return connection.cursor(row_factory=kwargs_row(Stream.of_row)).execute(query, parameters).fetchall()


def record_success(connection: Connection, run: Run) -> None:
    """Record that the stream's run succeeded: reset its failures and restart its clock.

    A run that left records pending, which are due within a minute, is followed by another one at that time.
    """
    connection.execute(
        """
        update softpro.cursors
        set last_synced_at = now(), failures = 0,
            next_attempt_at = case
                when load_due_at between now() and now() + make_interval(secs => %(base)s) then load_due_at
            end
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s
        """,
        {**run.stream.parameters, "base": RETRY_BASE_SECONDS},
    )
    connection.execute(
        "update softpro.integrations set last_sync_at = now(), updated_at = now() where id = %(integration_id)s",
        run.stream.parameters,
    )
    _sum_up(connection, run.integration_id)


def record_failure(connection: Connection, run: Run, message: str, not_before: float = 0) -> datetime:
    """Record that the stream's run failed, and return when it is retried: after 1 min, 2 min, 4 min, … at most 1 h.

    Args:
        message: the error message.
        not_before: the least number of seconds until the retry.
    """
    row = queries.one(
        connection,
        """
        insert into softpro.cursors as c (integration_id, entity_type, organization_id, failures, next_attempt_at)
        values (%(integration_id)s, %(entity_type)s, %(organization_id)s, 1,
                now() + make_interval(secs => greatest(%(base)s, %(not_before)s)))
        on conflict (integration_id, entity_type) do update
        set failures = c.failures + 1,
            next_attempt_at = now() + make_interval(secs => greatest(
                %(not_before)s, least(%(limit)s, %(base)s * 2 ^ least(c.failures, 20))))
        returning next_attempt_at
        """,
        {
            **run.stream.parameters,
            "base": RETRY_BASE_SECONDS,
            "limit": RETRY_LIMIT_SECONDS,
            "not_before": not_before,
        },
    )
    connection.execute(
        """
        update softpro.integrations
        set last_error_at = now(), last_error_message = %(message)s, updated_at = now()
        where id = %(integration_id)s
        """,
        {**run.stream.parameters, "message": message},
    )
    _sum_up(connection, run.integration_id)
    next_attempt_at: datetime = row["next_attempt_at"]
    return next_attempt_at


def mark_due_now(connection: Connection, integration_id: UUID, entity_type: EntityType, settled: str) -> None:
    """Make a failed stream due now, because the cause of the failure is fixed or decided.

    Args:
        settled: the integration's last error is cleared if its message contains this text.
    """
    connection.execute(
        """
        update softpro.cursors set next_attempt_at = least(next_attempt_at, now())
        where integration_id = %s and entity_type = %s and next_attempt_at is not null
        """,
        [integration_id, entity_type.value],
    )
    connection.execute(
        """
        update softpro.integrations set last_error_at = null, last_error_message = null
        where id = %s and position(%s in last_error_message) > 0
        """,
        [integration_id, settled],
    )
    _sum_up(connection, integration_id)


def _sum_up(connection: Connection, integration_id: UUID) -> None:
    """Show on the integration the failures of its worst stream, and the earliest retry."""
    connection.execute(
        """
        update softpro.integrations i
        set consecutive_failures = c.failures, next_attempt_at = c.next_attempt_at
        from (
            select max(failures) as failures, min(next_attempt_at) as next_attempt_at
            from softpro.cursors
            where integration_id = %(integration_id)s
        ) c
        where i.id = %(integration_id)s
        """,
        {"integration_id": integration_id},
    )
