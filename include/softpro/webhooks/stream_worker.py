"""Process the hints of one stream: fetch few records one by one, or list the changes if there are many."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from softpro.db import integrations, queries, sync_logs
from softpro.db.database import Connection
from softpro.db.integrations import Integration
from softpro.db.leases import Run
from softpro.entities import EntityType, Mode, SyncType
from softpro.errors import LeaseHeld, RateLimitError, SoftProError
from softpro.mapping.rules.account import RuleBudget
from softpro.quality import holds
from softpro.runs import pipeline
from softpro.services import Services
from softpro.softpro360.contract import LAG
from softpro.sync import cursors
from softpro.sync.extract import Extracted
from softpro.sync.fetch import Fetched
from softpro.webhooks import deletions, queue
from softpro.webhooks.queue import DueStream, Hint

MIN_SINGLE_FETCHES = 20
"""The number of a stream's records fetched one by one in a minute; for more, the changes are listed."""

SHARE_OF_LIMIT = 0.2
"""The share of the rate limit that single reads may use, after a list that did not return the records."""

LIST_SECONDS, FETCH_SECONDS = 20.0, 20.0
PAUSE_SECONDS = 3.0
"""The pause between two lists of one stream, so that hints received during it are settled together."""

OTHER_RUN_MAX_AGE = timedelta(seconds=15)
"""How long records wait for another run's list to return them."""

RATE_LIMIT_SECONDS, UNAVAILABLE_SECONDS = 5.0, 60.0
BUSY_SECONDS, HELD_SECONDS = 5.0, 300.0


@dataclass
class Work:
    """The state of a drain.

    Attributes:
        parts: numbers the drain's runs.
        rests: until when each stream is left alone, by the monotonic clock.
    """

    services: Services
    run_id: str
    parts: Iterator[int]
    rests: dict[tuple[UUID, str], float] = field(default_factory=dict)


def work_stream(connection: Connection, work: Work, stream: DueStream) -> None:
    """Process the stream's due events and its due load."""
    integration = integrations.get(connection, stream.integration_id)
    if why := _not_synced(integration, stream.entity_type):
        queue.ignore(connection, stream, why)
        queue.postpone_load(connection, stream, None)
        return
    integrations.require_connected(integration)
    if stream.load_due:
        _load(connection, work, integration, stream)
    queue.settle_known_events(connection, stream)
    hints, began = queue.due_records(connection, stream), queries.now(connection)
    lately = queue.recent_fetches(connection, stream)
    if len(hints) + lately > MIN_SINGLE_FETCHES and _has_cursor(connection, stream):
        _rest(work, stream)
        try:
            reached_end = _list(connection, work, integration, stream)
            hints = _overdue(connection, stream, hints, began) if reached_end else []
        except LeaseHeld:
            hints = [hint for hint in hints if hint.received_at < began - OTHER_RUN_MAX_AGE]
    allowed = max(MIN_SINGLE_FETCHES, int(work.services.vendor.rate_limit * SHARE_OF_LIMIT)) - lately
    if allowed <= 0:
        _rest(work, stream)
    elif hints:
        _fetch(connection, work, integration, stream, hints[:allowed])


def _rest(work: Work, stream: DueStream) -> None:
    work.rests[stream.integration_id, stream.entity_type] = time.monotonic() + PAUSE_SECONDS


def _load(connection: Connection, work: Work, integration: Integration, stream: DueStream) -> None:
    """Load the records that a run landed before it died or failed."""
    if cursors.clear_load_due(connection, integration.stream(EntityType(stream.entity_type))):
        return
    try:
        run = _begin(work, integration, stream, Mode.RECORDS, reason="loads what was fetched before")
    except LeaseHeld:
        queue.postpone_load(connection, stream, BUSY_SECONDS)  # the run that holds the lease loads it
        return
    ended = pipeline.run_and_close(
        work.services.database, run, lambda: _apply(connection, work, run, stream), clocked=False
    )
    if not ended.succeeded:
        queue.postpone_load(connection, stream, UNAVAILABLE_SECONDS)


def _list(connection: Connection, work: Work, integration: Integration, stream: DueStream) -> bool:
    """List and load the stream's changes, and return whether the end of the list was reached.

    Landing settles the events of the listed records.

    Raises:
        LeaseHeld: another run works on the stream.
        SoftProError: nothing could be listed.
    """
    run = _begin(work, integration, stream, Mode.INCREMENTAL)
    extracted: Extracted | None = None

    def step() -> None:
        nonlocal extracted
        extracted = pipeline.extract(work.services, run, seconds=LIST_SECONDS, urgent=True)
        _apply(connection, work, run, stream)

    ended = pipeline.run_and_close(work.services.database, run, step, clocked=False)
    if extracted is None:
        raise SoftProError(ended.error_message or "The records could not be listed")
    if not ended.succeeded:
        queue.postpone_load(connection, stream, UNAVAILABLE_SECONDS)
    return not extracted.backlog


def _apply(connection: Connection, work: Work, run: Run, stream: DueStream) -> None:
    """Load the landed records, unless the stream has a held batch, which has to be decided first."""
    if holds.is_waiting(connection, run):
        sync_logs.explain(connection, run.log_id, "fetches records named by webhooks; a held batch keeps them pending")
        queue.postpone_load(connection, stream, HELD_SECONDS)
    else:
        budget = RuleBudget(deadline=time.monotonic() + pipeline.RULE_SLICE_SECONDS)
        pipeline.apply(work.services.database, run, work.services.quality, budget=budget)


def _overdue(connection: Connection, stream: DueStream, hints: list[Hint], began: datetime) -> list[Hint]:
    """Return the hints that the list has not settled although their change had surfaced when it began.

    The other unsettled hints are postponed until the lag is over.
    """
    still_due = {hint.entity_id: hint for hint in queue.due_records(connection, stream)}
    left = [still_due[hint.entity_id] for hint in hints if hint.entity_id in still_due]
    early = {hint.entity_id: began for hint in left if hint.received_at > began - LAG}
    queue.postpone_past_lag(connection, stream, early, LAG)
    return [hint for hint in left if hint.entity_id not in early]


def _fetch(connection: Connection, work: Work, integration: Integration, stream: DueStream, hints: list[Hint]) -> None:
    """Fetch these records one by one, and load them."""
    run = _begin(work, integration, stream, Mode.RECORDS, [hint.entity_id for hint in hints])
    fetched = Fetched()

    def step() -> None:
        nonlocal fetched
        fetched = pipeline.fetch(work.services, run, seconds=FETCH_SECONDS)
        _settle(connection, work, run, stream, fetched)
        _apply(connection, work, run, stream)

    ended = pipeline.run_and_close(work.services.database, run, step, clocked=False)
    if not ended.succeeded:
        queue.postpone_load(connection, stream, UNAVAILABLE_SECONDS)
    if fetched.stopped is not None:
        raise fetched.stopped


def _settle(connection: Connection, work: Work, run: Run, stream: DueStream, fetched: Fetched) -> None:
    """Postpone, retry or fail the events that the fetch did not settle, and delete confirmed missing records."""
    queue.postpone_past_lag(connection, stream, fetched.landed, LAG)
    queue.record_failures(connection, stream, {each: str(why) for each, why in fetched.failed.items()}, run.log_id)
    certain = queue.record_missing(connection, stream, fetched.missing, run.log_id, LAG) if fetched.missing else []
    if certain:
        deletions.delete(connection, run, stream, certain, work.services.delete_limit)


def _begin(
    work: Work,
    integration: Integration,
    stream: DueStream,
    mode: Mode,
    records: list[str] | None = None,
    reason: str | None = None,
) -> Run:
    return pipeline.begin(
        work.services.database,
        integration,
        EntityType(stream.entity_type),
        mode=mode,
        sync_type=SyncType.WEBHOOK,
        run_id=work.run_id,
        reason=reason,
        records=records,
        part=next(work.parts),
    )


def _not_synced(integration: Integration, entity_type: str) -> str | None:
    """Return why events of this entity type are settled without a fetch; None if they are fetched."""
    table = f"{entity_type.lower()}s"
    if entity_type not in integration.entity_types():
        return f"The sync of {table} is switched off"
    if not integration.sync_enabled:
        return "The sync is switched off"
    if integration.status == "DISCONNECTED":
        return "The integration is disconnected"
    return None


def _has_cursor(connection: Connection, stream: DueStream) -> bool:
    """Return whether a list returns only changes: it was read to its end before, and no sweep is in progress."""
    return bool(
        connection.execute(
            """
            select from softpro.cursors
            where integration_id = %(integration_id)s and entity_type = %(entity_type)s
              and last_synced_at is not null and sweep_mode is null
            """,
            stream.parameters,
        ).rowcount
    )


def try_later(connection: Connection, stream: DueStream, error: Exception) -> None:
    """Postpone the stream's events and load without counting an attempt, because SoftPro or the database is away."""
    usual = RATE_LIMIT_SECONDS if isinstance(error, RateLimitError) else UNAVAILABLE_SECONDS
    seconds = getattr(error, "retry_after", None) or usual
    queue.postpone(connection, stream, seconds, str(error))
    queue.postpone_load(connection, stream, seconds)
