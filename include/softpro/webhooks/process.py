"""Works off the webhook events that wait: an event is a hint, and what it hints at is fetched.

    due → known here? → few: each record is fetched · many: what changed is listed → gone? → settled

Hints of one record coalesce. A list settles many at a time, with a few requests; what it did not return, though it
should have, is fetched singly. What was landed goes through the same transform, check and load as any other record. A
fetch that comes too early to show the change leaves its event to a later one, so the order of arrival never matters.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from uuid import UUID

from softpro.entities import EntityType
from softpro.errors import LeaseLost, SoftProError
from softpro.services import Services
from softpro.settings import ReconcileSettings, load
from softpro.store import inbox, integrations, logs
from softpro.store.database import Connection
from softpro.sync.audits import Limit
from softpro.sync.transform import clear
from softpro.webhooks import waiting
from softpro.webhooks.hints import Work, now, try_later, work_off
from softpro.webhooks.waiting import Stream

TENANTS = 8
"""Organizations that are worked on at the same time."""

MOST_LATE_SECONDS = 60.0
"""So long after its time a drain begins work, while it waits for a slow organization."""

LOOK_SECONDS = 0.2
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
        if not inbox.take_turn(session):
            return Drained(busy=True)
        began = now(session)
        earlier = len(logs.of_run(session, run_id))  # of a try that died
        work = Work(services, run_id, Limit(reconcile.percent, reconcile.records), count(earlier + 1))
        _close_interrupted(session)
        _work_off(session, work, only, time.monotonic() + seconds)
        return _sum_up(session, began, run_id)


def _work_off(session: Connection, work: Work, only: UUID | None, deadline: float) -> None:
    """Tenants side by side, a tenant's streams one after the other: nobody waits for a slow one, also once the time is
    over, as long as a slow one is under way."""
    under_way: dict[UUID, Future[None]] = {}
    with ThreadPoolExecutor(TENANTS) as pool:
        while True:
            for integration_id in [each for each, future in under_way.items() if future.done()]:
                under_way.pop(integration_id).result()
            late = time.monotonic() - deadline
            due = waiting.due_streams(session, only) if late < MOST_LATE_SECONDS else []
            if not under_way and (not due or late >= 0):
                return
            tenants: dict[UUID, list[Stream]] = {}
            for stream in due:
                if stream.integration_id not in under_way and _turn_has_come(work, stream):
                    tenants.setdefault(stream.integration_id, []).append(stream)
            for integration_id, streams in list(tenants.items())[: TENANTS - len(under_way)]:
                under_way[integration_id] = pool.submit(_of_tenant, work, streams)
            time.sleep(LOOK_SECONDS)


def _turn_has_come(work: Work, stream: Stream) -> bool:
    return time.monotonic() >= work.rests.get((stream.integration_id, stream.entity_type), 0.0)


def _of_tenant(work: Work, streams: list[Stream]) -> None:
    """What goes wrong is this tenant's own: its events are tried again, and say why."""
    for stream in streams:
        with work.services.database.connect() as connection:
            try:
                work_off(connection, work, stream)
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
        logs.fail(session, row["id"], LeaseLost("The run ended without a word; the next one went on from there"))
        clear(session, EntityType(row["entity_type"]), row["id"])


def _sum_up(connection: Connection, began: datetime, run_id: str) -> Drained:
    row = connection.execute(
        """
        select (select count(*) from softpro.webhook_events where processed and processed_at >= %(began)s) as settled,
               (select count(*) from softpro.webhook_events where status in ('PENDING', 'RETRYING')) as left,
               (select count(*) from softpro.webhook_events where status = 'FAILED') as failed,
               (select coalesce(sum(api_requests), 0) from softpro.sync_logs where run_id = %(run_id)s) as requests
        """,
        {"began": began, "run_id": run_id},
    ).fetchone()
    assert row is not None
    return Drained(int(row["settled"]), int(row["left"]), int(row["failed"]), int(row["requests"]))
