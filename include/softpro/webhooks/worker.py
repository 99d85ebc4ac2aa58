"""Process the due webhook events: each is a hint that a record changed, and that record is fetched.

    due → already stored? → few: fetch each record · many: list the changes → deleted? → settled

Hints about one record coalesce. A list settles many events with few requests, and records that it should have returned
but did not are fetched singly. Landed records pass through the same transform, check and load as any others. A fetch
too early to show the change leaves its event to a later one, so the order of arrival never matters.
See docs/design/webhooks.md.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import datetime
from itertools import count

from softpro.db import integrations, locks, queries, sync_logs
from softpro.db.database import Connection
from softpro.db.locks import Lock
from softpro.entities import EntityType
from softpro.errors import LeaseLost, SoftProError
from softpro.runs.tenant_pool import run_by_tenant
from softpro.services import Services
from softpro.sync.transform import clear_staging
from softpro.webhooks import queue
from softpro.webhooks.queue import DueStream
from softpro.webhooks.stream_worker import Work, try_later, work_stream

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DrainResult:
    """The result of a drain, with the events of all organizations.

    Attributes:
        settled: events settled since the drain began.
        left: events left for a later attempt.
        failed: events that are FAILED, now or from before.
        requests: the number of requests made.
        busy: another session processes the events, and this one did nothing.
    """

    settled: int = 0
    left: int = 0
    failed: int = 0
    requests: int = 0
    busy: bool = False


def drain(services: Services, *, run_id: str, seconds: float, organization: str | None = None) -> DrainResult:
    """Process the due events of one organization or all, until none is due or the time is over.

    Work in progress when the time ends is finished.

    Raises:
        NotFoundHere: the organization has no integration.
        DatabaseUnavailable: the database can't be reached.
    """
    with services.database.connect() as session:
        only = integrations.find(session, organization).id if organization is not None else None
        if not locks.try_lock(session, Lock.INBOX):
            return DrainResult(busy=True)
        began = queries.now(session)
        earlier = len(sync_logs.of_run(session, run_id))  # logs of an attempt that died
        work = Work(services, run_id, count(earlier + 1))
        _close_interrupted(session)
        run_by_tenant(
            lambda: queue.due_streams(session, only),
            lambda streams: _of_tenant(work, streams),
            time.monotonic() + seconds,
            lambda stream: time.monotonic() < work.rests.get((stream.integration_id, stream.entity_type), 0.0),
        )
        return _sum_up(session, began, run_id)


def _of_tenant(work: Work, streams: list[DueStream]) -> None:
    """Process a tenant's streams; an error postpones only that tenant's events, which record the reason."""
    for stream in streams:
        with work.services.database.connect() as connection:
            try:
                work_stream(connection, work, stream)
            except SoftProError as error:
                try_later(connection, stream, error)
            except Exception as error:
                log.exception("The webhook events of integration %s could not be processed", stream.integration_id)
                try_later(connection, stream, error)


def _close_interrupted(session: Connection) -> None:
    """Close the logs of drains that died; this session holds the lock, so no other drain runs now.

    `cursors.mark_load_due` has marked the records that they landed.
    """
    found = session.execute(
        """
        select id, entity_type from softpro.sync_logs
        where sync_type = 'WEBHOOK' and mode = 'records' and status in ('PENDING', 'IN_PROGRESS')
        """
    ).fetchall()
    for row in found:
        sync_logs.fail(session, row["id"], LeaseLost("The run stopped responding; the next run continued from there"))
        clear_staging(session, EntityType(row["entity_type"]), row["id"])


def _sum_up(connection: Connection, began: datetime, run_id: str) -> DrainResult:
    row = queries.one(
        connection,
        """
        select (select count(*) from softpro.webhook_events where processed and processed_at >= %(began)s) as settled,
               (select count(*) from softpro.webhook_events where status in ('PENDING', 'RETRYING')) as left,
               (select count(*) from softpro.webhook_events where status = 'FAILED') as failed,
               (select coalesce(sum(api_requests), 0) from softpro.sync_logs where run_id = %(run_id)s) as requests
        """,
        {"began": began, "run_id": run_id},
    )
    return DrainResult(int(row["settled"]), int(row["left"]), int(row["failed"]), int(row["requests"]))
