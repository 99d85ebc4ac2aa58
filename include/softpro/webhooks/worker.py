"""Works off the webhook events that wait: an event is a hint, and what it hints at is fetched.

    due → known here? → few: each record is fetched · many: what changed is listed → gone? → settled

Hints of one record coalesce. A list settles many at a time, with a few requests; what it did not return, though it
should have, is fetched singly. What was landed goes through the same transform, check and load as any other record. A
fetch that comes too early to show the change leaves its event to a later one, so the order of arrival never matters.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import datetime
from itertools import count

from softpro.db import integrations, locks, queries, sync_logs
from softpro.db.database import Connection
from softpro.db.locks import Queue
from softpro.delete_limit import DeleteLimit
from softpro.entities import EntityType
from softpro.errors import LeaseLost, SoftProError
from softpro.runs.tenant_pool import run_by_tenant
from softpro.services import Services
from softpro.settings import ReconcileSettings, load
from softpro.sync.transform import clear
from softpro.webhooks import queue
from softpro.webhooks.queue import DueStream
from softpro.webhooks.stream_worker import Work, try_later, work_stream

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Drained:
    """Events of all organizations: settled meanwhile; left, and tried later; FAILED, now or before. `requests` made.
    `busy`: somebody else is at it, and nothing was done."""

    settled: int = 0
    left: int = 0
    failed: int = 0
    requests: int = 0
    busy: bool = False


def drain(services: Services, *, run_id: str, seconds: float, organization: str | None = None) -> Drained:
    """Works off what is due, of one organization or all, until nothing is or the time is over (what is under way is
    finished). Raises NotFoundHere, DatabaseUnavailable.
    """
    (reconcile,) = load(ReconcileSettings)
    with services.database.connect() as session:
        only = integrations.find(session, organization).id if organization is not None else None
        if not locks.try_acquire(session, Queue.INBOX):
            return Drained(busy=True)
        began = queries.now(session)
        earlier = len(sync_logs.of_run(session, run_id))  # of a try that died
        work = Work(services, run_id, DeleteLimit(reconcile.percent, reconcile.records), count(earlier + 1))
        _close_interrupted(session)
        run_by_tenant(
            lambda: queue.due_streams(session, only),
            lambda streams: _of_tenant(work, streams),
            time.monotonic() + seconds,
            lambda stream: time.monotonic() < work.rests.get((stream.integration_id, stream.entity_type), 0.0),
        )
        return _sum_up(session, began, run_id)


def _of_tenant(work: Work, streams: list[DueStream]) -> None:
    """What goes wrong is this tenant's own: its events are tried again, and say why."""
    for stream in streams:
        with work.services.database.connect() as connection:
            try:
                work_stream(connection, work, stream)
            except SoftProError as error:
                try_later(connection, stream, error)
            except Exception as error:
                log.exception("The webhook events of integration %s could not be worked off", stream.integration_id)
                try_later(connection, stream, error)


def _close_interrupted(session: Connection) -> None:
    """Closes the logs of drains that died: nobody else is at it now. What they landed is owed (`cursors.owe`)."""
    found = session.execute(
        """
        select id, entity_type from softpro.sync_logs
        where sync_type = 'WEBHOOK' and mode = 'records' and status in ('PENDING', 'IN_PROGRESS')
        """
    ).fetchall()
    for row in found:
        sync_logs.fail(session, row["id"], LeaseLost("The run ended without a word; the next one went on from there"))
        clear(session, EntityType(row["entity_type"]), row["id"])


def _sum_up(connection: Connection, began: datetime, run_id: str) -> Drained:
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
    return Drained(int(row["settled"]), int(row["left"]), int(row["failed"]), int(row["requests"]))
