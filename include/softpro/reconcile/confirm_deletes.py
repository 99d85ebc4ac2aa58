"""Confirm deletes at SoftPro by two 404 responses, at least the lag apart, and soft-delete the records.

Single reads need no lease, so the stream is synced during them. Records found alive are landed under the lease like any
others. Deletes also need the lease, and only affect records that no run has seen or changed since.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

from softpro.db import leases, queries
from softpro.db.database import Connection
from softpro.db.leases import Run
from softpro.entities import EntityType
from softpro.errors import (
    RECORD_ERRORS,
    RateLimitError,
    RecordNotFound,
)
from softpro.reconcile import audits
from softpro.reconcile.audits import Audit, AuditStatus
from softpro.softpro360.client import Client
from softpro.softpro360.contract import LAG, WINDOW_SECONDS
from softpro.softpro360.records import Record, Unreadable
from softpro.sync import cursors
from softpro.sync.extract import MIN_RETRY_SECONDS
from softpro.sync.land import Batch, land
from softpro.sync.soft_delete import soft_delete

CONFIRMATION_MAX_AGE = timedelta(hours=1)
"""How long a 404 is believed. A delete that comes later, for example after a late approval, needs another one."""

BATCH_RECORDS = 500
"""The number of records that are deleted in one transaction."""

MAX_FOUND = 200
"""The number of records found alive that wait in memory to be landed."""

NEVER = datetime.max.replace(tzinfo=UTC)

AskProgress = Callable[[int, int], None]
"""Called after each response with the number of records requested in this slice, and of responses still needed."""

SELECT_NEW = """
select entity_id, missing_at
from softpro.audit_differences
where audit_id = %(audit_id)s and kind = 'MISSING_THERE' and outcome = 'OPEN' and entity_id <> all(%(found)s)
  and (missing_at is null or missing_at <= clock_timestamp() - %(lag)s)
order by missing_at nulls first, entity_id
limit 50
"""
SELECT_STALE = """
select entity_id, missing_at
from softpro.audit_differences
where audit_id = %(audit_id)s and outcome = 'CONFIRMED' and entity_id <> all(%(found)s)
  and confirmed_at <= clock_timestamp() - %(fresh)s
order by entity_id
limit 50
"""
SELECT_REMAINING = """
select coalesce(sum(case when outcome = 'CONFIRMED' or missing_at is not null then 1 else 2 end), 0)::int as answers,
       extract(epoch from min(missing_at) + %(lag)s - clock_timestamp())::float8 as seconds
from softpro.audit_differences
where audit_id = %(audit_id)s and entity_id <> all(%(found)s)
  and ((kind = 'MISSING_THERE' and outcome = 'OPEN')
       or (outcome = 'CONFIRMED' and confirmed_at <= clock_timestamp() - %(fresh)s))
"""

# The first 404 is stored. A second one, requested at least the lag later, confirms it. A later one renews that.
MARK_MISSING = """
update softpro.audit_differences
set missing_at = coalesce(missing_at, clock_timestamp()),
    confirmed_at = case when %(again)s then clock_timestamp() end,
    outcome = case when %(again)s then 'CONFIRMED' else 'OPEN' end
where audit_id = %(audit_id)s and entity_id = %(entity_id)s and outcome in ('OPEN', 'CONFIRMED')
  and (missing_at is null) <> %(again)s
"""

# Another run has listed or landed the record since the sweep, so it exists.
MARK_FOUND = """
update softpro.audit_differences d
set outcome = 'FOUND'
where d.audit_id = %(audit_id)s and d.kind = 'MISSING_THERE' and d.outcome in ('OPEN', 'CONFIRMED')
  and (exists (select from softpro.audit_seen s where s.audit_id = d.audit_id and s.entity_id = d.entity_id)
       or not exists (
           select from raw.records r
           where r.integration_id = %(integration_id)s and r.entity_type = %(entity_type)s
             and r.entity_id = d.entity_id and r.payload_hash = d.our_hash and r.deleted_at is null))
"""

# Every writer locks in id order, `raw.records` before `raw.pending` before `roi` (prevents deadlocks).
SELECT_CONFIRMED = """
select r.entity_id, d.confirmed_at
from (
    select entity_id, our_hash, confirmed_at
    from softpro.audit_differences
    where audit_id = %(audit_id)s and outcome = 'CONFIRMED' and confirmed_at > clock_timestamp() - %(fresh)s
    order by entity_id
    offset 0
) d
cross join lateral (
    select r.entity_id
    from raw.records r
    where r.integration_id = %(integration_id)s and r.entity_type = %(entity_type)s and r.entity_id = d.entity_id
      and r.deleted_at is null and r.payload_hash = d.our_hash
    for update
) r
limit %(batch)s
"""
MARK_DELETED = """
update softpro.audit_differences set outcome = 'DELETED' where audit_id = %(audit_id)s and entity_id = any(%(ids)s)
"""


@dataclass
class AskResult:
    """The result of a slice of single reads.

    Attributes:
        found: records found alive, still to be landed.
        requests: the number of requests made.
        backlog: more requests are left.
        since: when the first of the found records was requested, by the database's clock.
    """

    found: list[Record | Unreadable] = field(default_factory=list)
    requests: int = 0
    backlog: bool = False
    since: datetime = NEVER


def ask(
    connection: Connection,
    client: Client,
    audit: Audit,
    *,
    seconds: float,
    asking: AskProgress = lambda asked, left: None,
) -> AskResult:
    """Request the audit's candidates one by one, for at most `seconds`; a request in progress is finished.

    While the audit is CONFIRMING, each candidate is requested twice. Later, only those whose last 404 is older than an
    hour are requested. A 404 or an error that concerns one record is stored at once.

    Raises:
        SoftProAPIError, CircuitOpen, TokenUnavailable, NotConnected: further requests are pointless.
    """
    deadline = time.monotonic() + seconds
    client.deadline = deadline + MIN_RETRY_SECONDS
    entity_type, asked, count = EntityType(audit.entity_type), AskResult(), 0
    candidates = SELECT_NEW if audit.status == AuditStatus.CONFIRMING else SELECT_STALE
    requests_before = client.requests_made
    while True:
        batch = _rows(connection, candidates, audit, asked)
        for row in batch:
            try:
                asked.found.append(client.record(entity_type, row["entity_id"]))
                asked.since = min(asked.since, client.asked_at)
            except RecordNotFound as missing:
                again = row["missing_at"] is not None
                if missing.error_code:
                    connection.execute(MARK_MISSING, {**_named(audit, row["entity_id"]), "again": again})
                else:  # a proxy's page: SoftPro's own 404 carries an error code
                    _unanswered(connection, audit, row["entity_id"], missing)
            except RateLimitError as failed:
                if not count and (failed.retry_after or 0) > WINDOW_SECONDS:
                    raise
                return _ended(client, asked, requests_before, backlog=True)
            except RECORD_ERRORS as failed:
                _unanswered(connection, audit, row["entity_id"], failed)
            count += 1
            (left,) = _rows(connection, SELECT_REMAINING, audit, asked)
            asking(count, left["answers"])
            if time.monotonic() >= deadline or len(asked.found) >= MAX_FOUND:
                return _ended(client, asked, requests_before, backlog=left["answers"] > 0)
        if not batch:
            (left,) = _rows(connection, SELECT_REMAINING, audit, asked)
            wait = left["seconds"] if left["answers"] and audit.status == AuditStatus.CONFIRMING else None
            if wait is None or time.monotonic() + wait >= deadline:
                return _ended(client, asked, requests_before, backlog=wait is not None)
            time.sleep(max(0.0, wait) + 0.01)


def land_found(connection: Connection, run: Run, audit: Audit, asked: AskResult) -> None:
    """Land the records that single reads found alive, and drop them from the candidates. Raises LeaseLost."""
    with connection.transaction():
        audits.lock_owned(connection, audit, AuditStatus.CONFIRMING, AuditStatus.DELETING)
        cursor = cursors.read(connection, run)
        new = sum(isinstance(record, Record) for record in asked.found)
        land(connection, run, Batch(asked.found, cursor, asked.since, new, requests_made=asked.requests))
        connection.execute(MARK_FOUND, _of(audit))


def delete(connection: Connection, run: Run, audit: Audit) -> int:
    """Soft-delete the confirmed records, one batch per transaction, and return their number. Raises LeaseLost.

    Records confirmed more than an hour ago are left out, because they need another 404.
    """
    deleted = 0
    while count := _delete_batch(connection, run, audit):
        deleted += count
    return deleted


def count_confirmed(connection: Connection, audit: Audit) -> int:
    """Return the number of records that are confirmed and not deleted yet."""
    return int(
        queries.value(
            connection,
            "select count(*) from softpro.audit_differences where audit_id = %s and outcome = 'CONFIRMED'",
            [audit.id],
        )
    )


def _delete_batch(connection: Connection, run: Run, audit: Audit) -> int:
    with connection.transaction():
        leases.fence(connection, run)
        audits.lock_owned(connection, audit, AuditStatus.DELETING)
        connection.execute(MARK_FOUND, _of(audit))
        chosen = connection.execute(
            SELECT_CONFIRMED, {**_of(audit), "fresh": CONFIRMATION_MAX_AGE, "batch": BATCH_RECORDS}
        ).fetchall()
        ids = [row["entity_id"] for row in chosen]
        if not ids:
            return 0
        soft_delete(connection, run, {row["entity_id"]: row["confirmed_at"] for row in chosen})
        connection.execute(MARK_DELETED, {**_of(audit), "ids": ids})
    return len(ids)


def _unanswered(connection: Connection, audit: Audit, entity_id: str, failed: Exception) -> None:
    connection.execute(
        """
        update softpro.audit_differences set outcome = 'UNANSWERED', error_message = %(message)s
        where audit_id = %(audit_id)s and entity_id = %(entity_id)s and outcome in ('OPEN', 'CONFIRMED')
        """,
        {**_named(audit, entity_id), "message": str(failed)},
    )


def _ended(client: Client, asked: AskResult, requests_before: int, *, backlog: bool) -> AskResult:
    return AskResult(asked.found, client.requests_made - requests_before, backlog, asked.since)


def _rows(connection: Connection, query: LiteralString, audit: Audit, asked: AskResult) -> list[dict[str, Any]]:
    found = [each.key.id if isinstance(each, Record) else each.entity_id for each in asked.found]
    return connection.execute(
        query, {**_of(audit), "found": found, "lag": LAG, "fresh": CONFIRMATION_MAX_AGE}
    ).fetchall()


def _of(audit: Audit) -> dict[str, object]:
    return {"audit_id": audit.id, "integration_id": audit.integration_id, "entity_type": audit.entity_type}


def _named(audit: Audit, entity_id: str) -> dict[str, object]:
    return {"audit_id": audit.id, "entity_id": entity_id}
