"""Soft-delete records that SoftPro has deleted, after a webhook event and two 404 responses, if they are few."""

from __future__ import annotations

from collections.abc import Sequence

from softpro.db import inbox, leases, queries
from softpro.db.database import Connection
from softpro.db.leases import Run
from softpro.delete_limit import DeleteLimit
from softpro.softpro360.contract import LAG
from softpro.sync.soft_delete import soft_delete
from softpro.webhooks import queue
from softpro.webhooks.queue import ConfirmedMissing, DueStream

DAILY_DELETES_ALLOWED = 20
"""The number of deletes by webhook in a day that need no user's approval, even in a small stream."""

# A record that landed after the first 404 was requested existed then, so it is requested again.
SELECT_MISSING = """
select g.entity_id, r.here, r.landed_since
from unnest(%(ids)s::text[], %(missing)s::timestamptz[]) g (entity_id, missing_at)
cross join lateral (
    select r.deleted_at is null as here, r.last_seen_at > g.missing_at as landed_since
    from raw.records r
    where r.integration_id = %(integration_id)s and r.entity_type = %(entity_type)s and r.entity_id = g.entity_id
    for update
) r
order by g.entity_id
"""
COUNT_RECENT_DELETES = """
select count(distinct entity_id) as deleted
from softpro.webhook_events
where integration_id = %(integration_id)s and entity_type = %(entity_type)s and outcome = 'DELETED'
  and processed_at > now() - interval '1 day'
"""
COUNT_LIVE = """
select count(*) as live
from raw.records
where integration_id = %(integration_id)s and entity_type = %(entity_type)s and deleted_at is null
"""


def delete(
    connection: Connection, run: Run, stream: DueStream, gone: Sequence[ConfirmedMissing], limit: DeleteLimit
) -> int:
    """Soft-delete the missing records, settle their events, and return the number of records deleted.

    If that would exceed the limit for a day, none is deleted: their events become FAILED, with the advice to reconcile.
    A record that landed since is kept and requested again.
    """
    with connection.transaction():
        leases.fence(connection, run)
        here = connection.execute(
            SELECT_MISSING,
            {
                **run.stream.parameters,
                "ids": [each.entity_id for each in gone],
                "missing": [each.missing_at for each in gone],
            },
        ).fetchall()
        spared = [row["entity_id"] for row in here if row["here"] and row["landed_since"]]
        deletable = [row["entity_id"] for row in here if row["here"] and not row["landed_since"]]
        confirmed = {each.entity_id: each.confirmed_at for each in gone}
        not_stored = confirmed.keys() - {*spared, *deletable}
        if _exceeds_limit(connection, run, len(deletable), limit):
            why = (
                "SoftPro no longer has the record, and deleting all that are missing would exceed the limit: "
                f"run a reconcile, which asks for approval (python -m softpro reconcile {run.organization_id})"
            )
            queue.give_up(connection, stream, deletable, why, run.log_id)
            deletable = []
        if deletable:
            soft_delete(connection, run, {entity_id: confirmed[entity_id] for entity_id in deletable})
        inbox.settle_events_of_deleted(
            connection,
            run.stream,
            log_id=run.log_id,
            confirmed={entity_id: confirmed[entity_id] for entity_id in not_stored},
            outcome="GONE",
            lag=LAG,
        )
        queue.reset_missing(connection, stream, spared, LAG)
    return len(deletable)


def _exceeds_limit(connection: Connection, run: Run, count: int, limit: DeleteLimit) -> bool:
    lately = _one(connection, COUNT_RECENT_DELETES, run)
    return count + lately > DAILY_DELETES_ALLOWED and limit.is_exceeded_by(
        count + lately, _one(connection, COUNT_LIVE, run) + lately
    )


def _one(connection: Connection, query: str, run: Run) -> int:
    row = queries.one(connection, query, run.stream.parameters)
    (value,) = row.values()
    return int(value)
