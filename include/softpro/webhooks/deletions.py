"""Records that are gone at the vendor, as a webhook hinted and two answers of 404 confirmed: they are deleted, softly,
as long as they are few."""

from __future__ import annotations

from collections.abc import Sequence

from softpro.db import inbox, leases, queries
from softpro.db.database import Connection
from softpro.db.leases import Run
from softpro.delete_limit import DeleteLimit
from softpro.softpro360.contract import LAG
from softpro.sync.soft_delete import soft_delete
from softpro.webhooks import queue
from softpro.webhooks.queue import DueStream, Gone

ALWAYS_ALLOWED = 20
"""Deletes by webhook in a day that no person is asked about, however small the stream."""

# What landed since the first 404 was asked for was there: then it is asked for anew.
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


def delete(connection: Connection, run: Run, stream: DueStream, gone: Sequence[Gone], limit: DeleteLimit) -> int:
    """Deletes the records that are gone, and settles their events. Returns how many.

    Where that would be more in a day than the limit allows, none is: their events are FAILED, and say that a reconcile
    has to ask a person. What landed since is spared, and asked for anew.
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
        doomed = [row["entity_id"] for row in here if row["here"] and not row["landed_since"]]
        confirmed = {each.entity_id: each.confirmed_at for each in gone}
        nowhere = confirmed.keys() - {*spared, *doomed}
        if _too_many(connection, run, len(doomed), limit):
            why = (
                "SoftPro no longer has it, and so many other records that they are more than the limit: a reconcile "
                f"asks a person (python -m softpro reconcile {run.organization_id})"
            )
            queue.give_up(connection, stream, doomed, why, run.log_id)
            doomed = []
        if doomed:
            soft_delete(connection, run, {entity_id: confirmed[entity_id] for entity_id in doomed})
        inbox.settle_events_of_deleted(
            connection,
            run.stream,
            log_id=run.log_id,
            confirmed={entity_id: confirmed[entity_id] for entity_id in nowhere},
            outcome="GONE",
            lag=LAG,
        )
        queue.start_over(connection, stream, spared, LAG)
    return len(doomed)


def _too_many(connection: Connection, run: Run, count: int, limit: DeleteLimit) -> bool:
    lately = _one(connection, COUNT_RECENT_DELETES, run)
    return count + lately > ALWAYS_ALLOWED and limit.is_exceeded_by(
        count + lately, _one(connection, COUNT_LIVE, run) + lately
    )


def _one(connection: Connection, query: str, run: Run) -> int:
    row = queries.one(connection, query, run.stream.parameters)
    (value,) = row.values()
    return int(value)
