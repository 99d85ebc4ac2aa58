"""Works off the webhook events that wait: an event is a hint, and what it hints at is fetched.

    due → known here? → few: each record is fetched · many: what changed is listed → gone? → settled

Hints of one record coalesce. A list settles many at a time, with a few requests; what it did not return, though it
should have, is fetched singly. What was landed goes through the same transform, check and load as any other record. A
fetch that comes too early to show the change leaves its event to a later one, so the order of arrival never matters.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from uuid import UUID

from softpro import pipeline
from softpro.entities import EntityType, Mode, SyncType
from softpro.errors import LeaseHeld, LeaseLost, RateLimitError, SoftProAPIError, SoftProError
from softpro.quality import holds
from softpro.services import Services
from softpro.settings import ReconcileSettings, load
from softpro.store import inbox, integrations, logs
from softpro.store.database import Connection
from softpro.store.integrations import Integration
from softpro.store.leases import Run
from softpro.sync.audits import Limit
from softpro.sync.fetch import Fetched
from softpro.sync.transform import clear
from softpro.vendor.contract import LAG
from softpro.webhooks import gone, waiting
from softpro.webhooks.waiting import Hint, Stream

FEW = 20
"""Records of a stream that are fetched one by one, in a minute; of more, what changed is listed."""

SHARE_OF_LIMIT = 0.2
"""What single reads may take of the rate limit, after a list that did not return the records."""

LIST_SECONDS, FETCH_SECONDS = 20.0, 20.0
PAUSE_SECONDS = 3.0
"""Between two lists of one stream: hints that come meanwhile are settled together."""

TENANTS = 8
"""Organizations that are worked on at the same time."""

PATIENCE = timedelta(seconds=15)
"""So long records wait for another run's list to return them."""

LOOK_SECONDS = 0.2
RATE_LIMIT_SECONDS, UNAVAILABLE_SECONDS = 5.0, 60.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Drained:
    """Events that were settled meanwhile; that are left, and tried later; that are FAILED, these now or before.
    `requests` made. `busy`: somebody else is at it, and nothing was done."""

    settled: int = 0
    left: int = 0
    failed: int = 0
    requests: int = 0
    busy: bool = False


@dataclass
class _Work:
    """What a drain knows of its own: `parts` number its runs; `rests`, until when each stream is left
    alone, of the monotonic clock; `interrupted`, those in which a run died, whose records are landed and not loaded."""

    services: Services
    run_id: str
    limit: Limit
    parts: Iterator[int]
    rests: dict[tuple[UUID, str], float] = field(default_factory=dict)
    interrupted: set[tuple[UUID, str]] = field(default_factory=set)


def drain(services: Services, *, run_id: str, seconds: float, organization: str | None = None) -> Drained:
    """Works off what is due, of one organization or all, until nothing is or the time is over (what is under way is
    finished). Raises NotFoundHere, DatabaseUnavailable.
    """
    (reconcile,) = load(ReconcileSettings)
    with services.database.connect() as session:
        only = integrations.find(session, organization).id if organization is not None else None
        if not inbox.take_turn(session):
            return Drained(busy=True)
        began = _now(session)
        earlier = len(logs.of_run(session, run_id))  # of a try that died
        work = _Work(services, run_id, Limit(reconcile.percent, reconcile.records), count(earlier + 1))
        work.interrupted = _close_interrupted(session)
        _work_off(session, work, only, time.monotonic() + seconds)
        return _sum_up(session, began, run_id)


def _work_off(session: Connection, work: _Work, only: UUID | None, deadline: float) -> None:
    """Tenants side by side, a tenant's streams one after the other: nobody waits for a slow one."""
    under_way: dict[UUID, Future[None]] = {}
    with ThreadPoolExecutor(TENANTS) as pool:
        while True:
            for integration_id in [each for each, future in under_way.items() if future.done()]:
                under_way.pop(integration_id).result()
            due = waiting.due_streams(session, only)
            if not under_way and (not due or time.monotonic() >= deadline):
                return
            tenants: dict[UUID, list[Stream]] = {}
            for stream in due if time.monotonic() < deadline else []:
                if stream.integration_id not in under_way and _turn_has_come(work, stream):
                    tenants.setdefault(stream.integration_id, []).append(stream)
            for integration_id, streams in tenants.items():
                under_way[integration_id] = pool.submit(_of_tenant, work, streams)
            time.sleep(LOOK_SECONDS)


def _turn_has_come(work: _Work, stream: Stream) -> bool:
    return time.monotonic() >= work.rests.get((stream.integration_id, stream.entity_type), 0.0)


def _of_tenant(work: _Work, streams: list[Stream]) -> None:
    """What goes wrong is this tenant's own: its events are tried again, and say why."""
    for stream in streams:
        with work.services.database.connect() as connection:
            try:
                _of_stream(connection, work, stream)
            except SoftProError as error:
                _try_later(connection, stream, error)
            except Exception as error:
                log.exception("The webhook events of integration %s could not be worked off", stream.integration_id)
                _try_later(connection, stream, error)


def _of_stream(connection: Connection, work: _Work, stream: Stream) -> None:
    integration = integrations.get(connection, stream.integration_id)
    if why := _not_synced(integration, stream.entity_type):
        waiting.ignore(connection, stream, why)
        return
    integrations.require_connected(integration)
    waiting.settle_known(connection, stream)
    hints, began = waiting.due_records(connection, stream), _now(connection)
    key, lately = (stream.integration_id, stream.entity_type), waiting.fetched_lately(connection, stream)
    if _is_up_to_date(connection, stream) and (len(hints) + lately > FEW or key in work.interrupted):
        work.rests[key] = time.monotonic() + PAUSE_SECONDS
        try:
            _list(work, integration, stream)
            work.interrupted.discard(key)
            hints = _overdue(connection, stream, hints, began)
        except LeaseHeld:
            hints = [hint for hint in hints if hint.received_at < began - PATIENCE]
    allowed = max(FEW, int(work.services.vendor.rate_limit * SHARE_OF_LIMIT)) - lately
    if allowed <= 0:
        work.rests[key] = time.monotonic() + PAUSE_SECONDS
    elif hints:
        _fetch(connection, work, integration, stream, hints[:allowed])


def _list(work: _Work, integration: Integration, stream: Stream) -> None:
    """Has what changed listed and loaded, which settles the events of what is returned. Raises LeaseHeld."""
    run = _begin(work, integration, stream, Mode.INCREMENTAL)

    def step() -> None:
        pipeline.extract(work.services, run, seconds=LIST_SECONDS, urgent=True)
        pipeline.apply(work.services.database, run)

    ended = pipeline.through(work.services.database, run, step)
    if not ended.succeeded:
        raise SoftProError(ended.error_message or "The records could not be listed")


def _overdue(connection: Connection, stream: Stream, hints: list[Hint], began: datetime) -> list[Hint]:
    """Those of the hints that the list has not settled, though their change had surfaced when it began; the others are
    left to a later run."""
    still_due = {hint.entity_id: hint for hint in waiting.due_records(connection, stream)}
    left = [still_due[hint.entity_id] for hint in hints if hint.entity_id in still_due]
    early = {hint.entity_id: began for hint in left if hint.received_at > began - LAG}
    waiting.after_lag(connection, stream, early, LAG)
    return [hint for hint in left if hint.entity_id not in early]


def _fetch(connection: Connection, work: _Work, integration: Integration, stream: Stream, hints: list[Hint]) -> None:
    """Fetches these records one by one, and loads what came."""
    database = work.services.database
    run = _begin(work, integration, stream, Mode.RECORDS, [hint.entity_id for hint in hints])
    fetched = Fetched()

    def step() -> None:
        nonlocal fetched
        fetched = pipeline.fetch(work.services, run, seconds=FETCH_SECONDS)
        _settle(connection, work, run, stream, fetched)
        if holds.is_waiting(connection, run):
            logs.explain(connection, run.log_id, "fetches the records that were named; a held batch keeps them pending")
        else:
            pipeline.apply(database, run)

    pipeline.through(database, run, step)
    if fetched.stopped is not None:
        raise fetched.stopped


def _settle(connection: Connection, work: _Work, run: Run, stream: Stream, fetched: Fetched) -> None:
    """What becomes of events that were not settled as their record landed."""
    waiting.after_lag(connection, stream, fetched.landed, LAG)
    waiting.fail(connection, stream, {each: str(why) for each, why in fetched.failed.items()}, run.log_id)
    certain = waiting.missing(connection, stream, fetched.missing, run.log_id, LAG) if fetched.missing else []
    if certain:
        gone.delete(connection, run, stream, certain, work.limit)


def _begin(work: _Work, integration: Integration, stream: Stream, mode: Mode, records: list[str] | None = None) -> Run:
    return pipeline.begin(
        work.services.database,
        integration,
        EntityType(stream.entity_type),
        mode=mode,
        sync_type=SyncType.WEBHOOK,
        run_id=work.run_id,
        records=records,
        part=next(work.parts),
    )


def _not_synced(integration: Integration, entity_type: str) -> str | None:
    """Why events of this entity type are settled without a fetch, if they are."""
    table = f"{entity_type.lower()}s"
    if entity_type not in integration.entity_types():
        return f"The sync of {table} is switched off"
    if not integration.sync_enabled:
        return "The sync is switched off"
    if integration.status == "DISCONNECTED":
        return "The integration is disconnected"
    return None


def _is_up_to_date(connection: Connection, stream: Stream) -> bool:
    return bool(
        connection.execute(
            """
            select from softpro.cursors
            where integration_id = %(integration_id)s and entity_type = %(entity_type)s
              and last_synced_at is not null and not backlog
            """,
            stream.named,
        ).rowcount
    )


def _try_later(connection: Connection, stream: Stream, error: Exception) -> None:
    """An answer of SoftPro that failed counts as an attempt; that it can't be asked now does not."""
    seconds = getattr(error, "retry_after", None)
    if isinstance(error, RateLimitError):
        waiting.postpone(connection, stream, seconds or RATE_LIMIT_SECONDS, str(error))
    elif isinstance(error, SoftProAPIError):
        due = {hint.entity_id: str(error) for hint in waiting.due_records(connection, stream)}
        waiting.fail(connection, stream, due, None)
    else:
        waiting.postpone(connection, stream, seconds or UNAVAILABLE_SECONDS, str(error))


def _close_interrupted(session: Connection) -> set[tuple[UUID, str]]:
    """Closes the logs of drains that died: nobody else is at it now. Returns the streams that they worked on."""
    found = session.execute(
        """
        select id, integration_id, entity_type from softpro.sync_logs
        where sync_type = 'WEBHOOK' and mode = 'records' and status in ('PENDING', 'IN_PROGRESS')
        """
    ).fetchall()
    for row in found:
        logs.fail(session, row["id"], LeaseLost("The run ended without a word; the next one went on from there"))
        clear(session, EntityType(row["entity_type"]), row["id"])
    return {(row["integration_id"], row["entity_type"]) for row in found}


def _now(connection: Connection) -> datetime:
    row = connection.execute("select clock_timestamp() as now").fetchone()
    assert row is not None
    now: datetime = row["now"]
    return now


def _sum_up(connection: Connection, began: datetime, run_id: str) -> Drained:
    row = connection.execute(
        """
        select (select count(*) from softpro.webhook_events where processed_at >= %(began)s) as settled,
               (select count(*) from softpro.webhook_events where status in ('PENDING', 'RETRYING')) as left,
               (select count(*) from softpro.webhook_events where status = 'FAILED') as failed,
               (select coalesce(sum(api_requests), 0) from softpro.sync_logs where run_id = %(run_id)s) as requests
        """,
        {"began": began, "run_id": run_id},
    ).fetchone()
    assert row is not None
    return Drained(int(row["settled"]), int(row["left"]), int(row["failed"]), int(row["requests"]))
