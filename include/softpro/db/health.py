"""Report the health of the installation, or of the organizations that a user may see, for alarms."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from psycopg.rows import class_row

from softpro.db import migrations, refusals
from softpro.db.database import Connection
from softpro.db.refusals import Refused

OVERDUE_MINUTES = 10
LATE_SECONDS = 600

SELECT_HEALTH = """
with seen as materialized (
    select * from softpro.integrations
    where deleted_at is null and (%(within)s::text[] is null or organization_id = any(%(within)s))
),
streams as (
    select coalesce(c.next_attempt_at,
                    c.last_synced_at + make_interval(secs => case when c.backlog then 0 else i.sync_frequency end),
                    i.token_issued_at, i.created_at) as due_at,
           coalesce(not softpro.is_free(l), false) as runs
    from seen i
    cross join lateral (
        values ('CONTACT', i.sync_contacts), ('TRANSACTION', i.sync_transactions)
    ) e (entity_type, switched_on)
    left join softpro.cursors c on c.integration_id = i.id and c.entity_type = e.entity_type
    left join softpro.leases l on l.integration_id = i.id and l.entity_type = e.entity_type
    where i.status = 'CONNECTED' and i.sync_enabled and e.switched_on
),
events as (
    select status, received_at from softpro.webhook_events
    where status <> 'PROCESSED' and integration_id in (select id from seen)
)
select (select coalesce(jsonb_object_agg(status, n), '{}')
        from (select status, count(*) as n from seen group by status) s) as integrations,
       (select count(*) from streams
        where not runs and due_at < now() - make_interval(mins => %(overdue)s)) as streams_overdue,
       (select count(*) from softpro.breakers
        where opened_at is not null and integration_id in (select id from seen)) as breakers_open,
       (select count(*) from events where status <> 'FAILED') as events_waiting,
       (select extract(epoch from clock_timestamp() - min(received_at))::float8
        from events where status <> 'FAILED') as oldest_event_seconds,
       (select count(*) from events where status = 'FAILED') as events_failed,
       (select count(*) from softpro.holds
        where status in ('WAITING', 'APPROVED') and integration_id in (select id from seen)) as holds_open,
       (select count(*) from softpro.quarantine
        where resolved_at is null and integration_id in (select id from seen)) as quarantined
"""


@dataclass(frozen=True)
class Counts:
    """Counts of integrations by status, and of streams, breakers, events, holds and quarantined records."""

    integrations: dict[str, int]
    streams_overdue: int
    breakers_open: int
    events_waiting: int
    oldest_event_seconds: float | None
    events_failed: int
    holds_open: int
    quarantined: int


@dataclass(frozen=True)
class Health:
    """The schema's revision, the newest revision of this release, and the counts; None with an old schema."""

    revision: str | None
    newest: str
    counts: Counts | None
    refused: Refused | None

    def problems(self) -> list[str]:
        """Return the problems that need attention. Quarantined records alone are normal."""
        if self.counts is None:
            return [f"the database is at revision {self.revision}, not {self.newest}: run `python -m softpro migrate`"]
        counts = self.counts
        found = {
            "integrations need a user to connect them": sum(
                counts.integrations.get(status, 0) for status in ("EXPIRED", "ERROR")
            ),
            "streams are overdue": counts.streams_overdue,
            "circuit breakers are open": counts.breakers_open,
            "webhook events failed": counts.events_failed,
            "webhook events wait, the oldest for more than 10 minutes": counts.events_waiting
            if (counts.oldest_event_seconds or 0) > LATE_SECONDS
            else 0,
            "batches are held": counts.holds_open,
        }
        return [f"{what}: {number}" for what, number in found.items() if number]

    def as_json(self) -> dict[str, Any]:
        """Return the health as JSON for HTTP."""
        problems, counts = self.problems(), self.counts
        return {
            "status": "DEGRADED" if problems else "HEALTHY",
            "problems": problems,
            "database": {"revision": self.revision, "newestRevision": self.newest},
            "integrations": counts and counts.integrations,
            "streamsOverdue": counts and counts.streams_overdue,
            "breakersOpen": counts and counts.breakers_open,
            "webhookEvents": counts
            and {
                "waiting": counts.events_waiting,
                "oldestSeconds": counts.oldest_event_seconds,
                "failed": counts.events_failed,
            },
            "holdsOpen": counts and counts.holds_open,
            "quarantined": counts and counts.quarantined,
            "refusedLastDay": self.refused and self.refused.as_json(),
        }


def health(connection: Connection, within: Collection[str] | None = None) -> Health:
    """Return the health of the organizations `within`, or of all for None. Raises DatabaseUnavailable."""
    row = connection.execute("select version_num from softpro.schema_version").fetchone()
    revision, newest = row["version_num"] if row else None, migrations.newest()
    if revision is None or revision < newest:
        return Health(revision, newest, None, None)
    parameters = {"within": None if within is None else list(within), "overdue": OVERDUE_MINUTES}
    counts = connection.cursor(row_factory=class_row(Counts)).execute(SELECT_HEALTH, parameters).fetchone()
    return Health(revision, newest, counts, refusals.last_day(connection, within=within))
