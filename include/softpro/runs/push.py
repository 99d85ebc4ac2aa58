"""Sends what was changed here to SoftPro: record by record, who was changed first, first, until nothing is due."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import replace
from uuid import UUID

from softpro import settings
from softpro.db import integration_settings, integrations, locks
from softpro.db.database import Connection
from softpro.db.integrations import Integration
from softpro.db.leases import Run
from softpro.db.locks import Queue
from softpro.db.sync_logs import SyncLog
from softpro.delete_limit import DeleteLimit
from softpro.entities import EntityType, Mode, SyncType
from softpro.mapping import repository
from softpro.runs.pipeline import Stage, apply, begin, ignore_stages, run_and_close
from softpro.runs.tenant_pool import run_by_tenant
from softpro.services import Services
from softpro.writeback import push_attempts
from softpro.writeback.delete_guard import NOT_SENT, guard, restore
from softpro.writeback.field_ownership import FieldOwnership
from softpro.writeback.push_attempts import Due
from softpro.writeback.remote_deletes import settle_remote_deletes
from softpro.writeback.send import Counts, Deletes, Load, Sender

AT_ONCE = 50
"""Records that are fetched, and brought together with what changed there, before the first of them is sent."""

LOOKUP_LIMIT = 20 * AT_ONCE
"""Records that are looked for at once: that goes through all that is to be sent."""

RETRY_TIMEOUT_SECONDS = 30.0
"""A person who waits for a push waits so long, in all, for what is tried again soon: a lost answer shows within
seconds."""

LEAST_WAIT_SECONDS = 0.1
"""What a wait counts at least."""

TURN_SECONDS = 20.0
"""After so long an organization's other entity type has its turn."""

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
    """Sends what is due of an entity type, or of these records of ours, due or not; for at most `seconds`.

    Returns the finished log, whose `records_failed` are those that could not be sent. Any error that keeps all records
    from being sent ends the run as FAILED. `patience`: so long it waits for what is to be tried again.
    """
    database = services.database
    run = begin(database, integration, entity_type, mode=Mode.PUSH, sync_type=sync_type, run_id=run_id, records=())

    def work() -> None:
        with database.connect() as connection, services.client(integration) as client:

            def load(entity_ids: Collection[str]) -> None:
                apply(database, replace(run, records=tuple(entity_ids)))

            deletes = _deletes(connection, run, load)
            sender = Sender(connection, client, run, load, deletes)
            _push(connection, run, sender, records, seconds, patience, stage)

    return run_and_close(database, run, work, clocked=False)


def push_due(services: Services, *, run_id: str, seconds: float) -> None:
    """Sends what is due of all organizations that are connected and switched on, tenants side by side, for so many
    seconds (what is under way is finished). What became of each stream stands in its log.

    A stream is pushed again only where the push before has got something done, or something was edited meanwhile: what
    is still due then is the next run's.
    """
    tried: dict[tuple[UUID, str], Due] = {}
    with services.database.connect() as session:
        locks.try_acquire(session, Queue.OUTBOX)  # so that nobody is woken meanwhile; records have locks of their own

        def due() -> list[Due]:
            found = push_attempts.due_streams(session)
            return [stream for stream in found if tried.get((stream.integration_id, stream.entity_type)) != stream]

        def work(streams: list[Due]) -> None:
            for stream in streams:
                tried[stream.integration_id, stream.entity_type] = stream
                _push_stream(services, stream, run_id)

        run_by_tenant(due, work, time.monotonic() + seconds)


def _push_stream(services: Services, stream: Due, run_id: str) -> None:
    """What goes wrong is this tenant's own; its edits stay where they are."""
    try:
        with services.database.connect() as connection:
            integration = integrations.get(connection, stream.integration_id)
        push(
            services,
            integration,
            EntityType(stream.entity_type),
            sync_type=SyncType.SCHEDULED,
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
        ids = push_attempts.due(connection, run.stream, owners.sent, ids=records, but=tried, limit=LOOKUP_LIMIT)
        for some in (ids[number : number + AT_ONCE] for number in range(0, len(ids), AT_ONCE)):
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
        patience -= max(again, LEAST_WAIT_SECONDS)
        time.sleep(again)
        tried -= sender.counts.waiting
    stage("", summary(sender.counts))


def summary(counts: Counts) -> str:
    """For a person who waits."""
    return (
        f"{counts.sent} sent, {counts.deleted} deleted, {counts.agreed} the same there, {len(counts.waiting)} wait, "
        f"{len(counts.failed)} failed"
    )


def _deletes(connection: Connection, run: Run, load: Load) -> Deletes:
    """Why a delete is not sent, of those that are: where deletes are not sent at all, the rows come back first."""
    if not (integration_settings.read(connection, run.integration_id).push_deletes and run.entity_type.deletable):
        if entity_ids := restore(connection, run.stream):
            load(entity_ids)
        return lambda record: NOT_SENT
    (limits,) = settings.load(settings.ReconcileSettings)
    return guard(connection, run.stream, DeleteLimit(limits.percent, limits.records))
