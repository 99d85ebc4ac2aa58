"""Push local edits to SoftPro, record by record in the order of their first edit, until nothing is due."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import replace
from uuid import UUID

from softpro.db import integration_settings, integrations, locks, sync_logs
from softpro.db.database import Connection
from softpro.db.integrations import Integration
from softpro.db.leases import Run
from softpro.db.locks import Lock
from softpro.db.sync_logs import SyncLog
from softpro.entities import EntityType, Mode, SyncType
from softpro.mapping import repository
from softpro.runs.pipeline import Stage, apply, begin, ignore_stages, run_and_close
from softpro.runs.tenant_pool import run_by_tenant
from softpro.services import Services
from softpro.writeback import push_attempts
from softpro.writeback.delete_guard import NOT_SENT, guard, restore_deleted
from softpro.writeback.field_ownership import FieldOwnership
from softpro.writeback.push_attempts import Due
from softpro.writeback.remote_deletes import settle_remote_deletes
from softpro.writeback.send import Counts, DeleteGuard, LoadRecords, Sender

BATCH_RECORDS = 50
"""The number of records that are fetched and merged with SoftPro's changes before the first of them is sent."""

LOOKUP_LIMIT = 20 * BATCH_RECORDS
"""The number of records to look up at once; each lookup scans the whole outbox."""

RETRY_TIMEOUT_SECONDS = 30.0
"""How long a push that a user waits for also waits for retries, in all. A lost response is settled within seconds."""

MIN_WAIT_SECONDS = 0.1
"""A shorter wait counts as this long against the retry timeout."""

TURN_SECONDS = 20.0
"""How long one entity type of an organization is pushed before the next one."""

log = logging.getLogger(__name__)


def push(
    services: Services,
    integration: Integration,
    entity_type: EntityType,
    *,
    sync_type: SyncType,
    run_id: str,
    records: Collection[UUID] | None = None,
    seconds: float | None = None,
    patience: float = RETRY_TIMEOUT_SECONDS,
    stage: Stage = ignore_stages,
) -> SyncLog:
    """Push the due edits of an entity type and return the finished log.

    An error that keeps all records from being sent ends the run as FAILED.

    Args:
        records: our ids of the records to push, due or not; None for all that are due.
        seconds: the most seconds to spend; None for no limit.
        patience: how long to wait, in all, for records to be retried, in seconds.

    Returns:
        The log; its `records_failed` counts the records that could not be sent.
    """
    database = services.database
    run = begin(database, integration, entity_type, mode=Mode.PUSH, sync_type=sync_type, run_id=run_id, records=())

    def work() -> None:
        with database.connect() as connection, services.client(integration) as client:
            if records is not None and len(records) == 1:
                [record] = records
                sync_logs.name_row(connection, run.log_id, record)

            def load(entity_ids: Collection[str]) -> None:
                apply(database, replace(run, records=tuple(entity_ids)), services.quality)

            deletes = _deletes(services, connection, run, load)
            sender = Sender(connection, client, run, load, deletes)
            _push(connection, run, sender, records, seconds, patience, stage)

    return run_and_close(database, run, work, clocked=False)


def push_due(services: Services, *, run_id: str, seconds: float) -> None:
    """Push the due edits of all connected, enabled organizations in parallel, for at most `seconds`.

    Pushes in progress when the time ends are finished. Each stream's result is in its sync log.

    A stream is pushed again only if the previous push changed something or new edits arrived. Edits still due after
    that are left to the next run.
    """
    tried: dict[tuple[UUID, str], Due] = {}
    with services.database.connect() as session:
        locks.try_lock(session, Lock.OUTBOX)  # so that edits start no other push; records have their own locks

        def due() -> list[Due]:
            found = push_attempts.due_streams(session)
            return [stream for stream in found if tried.get((stream.integration_id, stream.entity_type)) != stream]

        def work(streams: list[Due]) -> None:
            for stream in streams:
                tried[stream.integration_id, stream.entity_type] = stream
                _push_stream(services, stream, run_id)

        run_by_tenant(due, work, time.monotonic() + seconds)


def _push_stream(services: Services, stream: Due, run_id: str) -> None:
    """Push a stream and log any error, so that a tenant's failure does not affect the others. Its edits stay."""
    try:
        with services.database.connect() as connection:
            integration = integrations.get(connection, stream.integration_id)
        push(
            services,
            integration,
            EntityType(stream.entity_type),
            sync_type=SyncType.EDIT,
            run_id=run_id,
            seconds=TURN_SECONDS,
            patience=0,
        )
    except Exception:
        log.exception("The edits of integration %s could not be sent", stream.integration_id)


def _push(
    connection: Connection,
    run: Run,
    sender: Sender,
    records: Collection[UUID] | None,
    seconds: float | None,
    patience: float,
    stage: Stage,
) -> None:
    owners = FieldOwnership.of(run.entity_type, repository.current(connection, run.stream).mappings)
    deadline = None if seconds is None else time.monotonic() + seconds
    tried: set[UUID] = set()
    stage("push", "")
    while deadline is None or time.monotonic() < deadline:
        settle_remote_deletes(connection, run)
        ids = push_attempts.due_records(connection, run.stream, owners.sent, ids=records, but=tried, limit=LOOKUP_LIMIT)
        for some in (ids[number : number + BATCH_RECORDS] for number in range(0, len(ids), BATCH_RECORDS)):
            if deadline is not None and time.monotonic() >= deadline:
                break
            sender.send(some)
            tried.update(some)
            stage("push", summary(sender.counts))
        if ids:
            continue
        again = push_attempts.next_due_in(connection, run.stream, sender.counts.waiting)
        if again is None or again > patience:
            break
        patience -= max(again, MIN_WAIT_SECONDS)
        time.sleep(again)
        tried -= sender.counts.waiting
    stage("", summary(sender.counts))


def summary(counts: Counts) -> str:
    """Return a push's counts in one line for a user."""
    return (
        f"{counts.sent} sent, {counts.deleted} deleted, {counts.agreed} already in sync, {len(counts.waiting)} wait, "
        f"{len(counts.failed)} failed"
    )


def _deletes(services: Services, connection: Connection, run: Run, load: LoadRecords) -> DeleteGuard:
    """Return the function that says why a delete is not sent. If deletes are disabled, restore the rows first."""
    if not (integration_settings.read(connection, run.integration_id).push_deletes and run.entity_type.deletable):
        if entity_ids := restore_deleted(connection, run.stream):
            load(entity_ids)
        return lambda record: NOT_SENT
    return guard(connection, run.stream, services.delete_limit)
