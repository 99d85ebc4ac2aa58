"""What the tasks of the reconcile DAG do: the steps of `softpro.runs.reconcile`, for a shard of streams at a time.

Where each stream stands is in its audit, so a task can be tried, or poked, again at any time. A stream that fails is
closed in its own log and leaves the run; the others go on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from airflow.sdk.exceptions import AirflowException, AirflowSkipException

from softpro.db import integrations, schedule, sync_logs
from softpro.db.database import Connection, Database
from softpro.db.sync_logs import SyncLog
from softpro.delete_limit import DeleteLimit
from softpro.entities import EntityType, Mode, Stream, SyncType
from softpro.errors import LeaseHeld, LeaseLost
from softpro.orchestration.assets import notify
from softpro.orchestration.hook import database
from softpro.orchestration.tasks import MIN_STREAMS_PER_SHARD, SHARDS
from softpro.reconcile import audits
from softpro.reconcile.audits import Audit, Decision, Status
from softpro.runs import reconcile as runs_reconcile
from softpro.runs.tenant_pool import map_tenants, shards
from softpro.services import Services, services

SWEEP_SECONDS, READ_SECONDS = 240.0, 60.0
"""A stream's slices of a sweep, and of single reads; between two, its syncs have their turn."""

GIVE_UP_AFTER = timedelta(hours=6)
"""A stream that is not done by then leaves the run, so that nobody waits for it; the next run goes on with it."""

APPROVE, REJECT = "Approve", "Reject"
MAX_QUESTIONS = 1000
"""Streams that people are asked about in one run; Airflow maps a task to 1024 at most."""
MAX_IDS_SHOWN = 20
MARKDOWN_ESCAPES = str.maketrans("`\r\n", "'  ")
"""An id is the vendor's text: it may not end the Markdown that it stands in."""

log = logging.getLogger(__name__)

Shard = list[dict[str, Any]]


def plan(params: Mapping[str, Any], *, manual: bool) -> list[Shard]:
    """Deals the streams to a few shards. Raises AirflowSkipException where there is none, AirflowException where the
    named organization has none.

    By schedule: those whose schedule is not paused and whose first load is done.
    """
    with database().connect() as connection:
        organization = (params["organization"] or None) if manual else None
        wanted = [kind for kind in EntityType if not manual or kind.table in params["entity_types"]]
        streams = schedule.of_organization(connection, organization, wanted)
        if not manual:
            loaded = _scheduled_and_loaded(connection)
            streams = [stream for stream in streams if (stream.integration_id, stream.entity_type) in loaded]
    if organization and not streams:
        raise AirflowException(f"{organization} is not connected, or these entity types are switched off for it")
    if not streams:
        raise AirflowSkipException("There is nothing to reconcile")
    return [[stream.as_json() for stream in shard] for shard in shards(streams, SHARDS, MIN_STREAMS_PER_SHARD)]


def reconcile(
    shard: Shard, params: Mapping[str, Any], run_id: str, began_at: datetime, outlet_events: Any, *, manual: bool
) -> bool:
    """Works on each of the shard's streams for a slice; tenants side by side, a tenant's in order.

    Returns whether all are done: completed, waiting for a person, or out of the run.
    """
    services_ = services(database())
    limit = delete_limit(services_.delete_limit, params)
    sync_type = SyncType.MANUAL if manual else SyncType.SCHEDULED
    late = datetime.now(UTC) - began_at > GIVE_UP_AFTER

    def work(streams: Shard) -> list[bool]:
        return [_work(services_, Stream.from_json(each), limit, sync_type, run_id, late=late) for each in streams]

    results: list[bool] = map_tenants(shard, work, lambda stream: stream["integration_id"])
    done = all(results)
    if done:
        mine = {(UUID(stream["integration_id"]), stream["entity_type"]) for stream in shard}
        entries = _logs_of(services_.database, run_id)
        notify(outlet_events, [entry for entry in entries if (entry.integration_id, entry.entity_type) in mine])
    return done


def delete_limit(usual: DeleteLimit, params: Mapping[str, Any]) -> DeleteLimit:
    """The limit of the form; what it leaves empty is the settings'."""
    percent, records = params["limit_percent"], params["limit_records"]
    return DeleteLimit(usual.percent if percent is None else percent, usual.records if records is None else records)


def questions(run_id: str) -> list[dict[str, Any]]:
    """What people are to be asked, a mass delete each: the audit, and the question's subject and body.

    Raises AirflowSkipException where there is none.
    """
    with database().connect() as connection:
        found = [audit for audit in audits.of_run(connection, run_id) if audit.status == Status.WAITING]
        if len(found) > MAX_QUESTIONS:
            log.warning("%d streams wait for a person: the others are asked about by the next run", len(found))
        if not found:
            raise AirflowSkipException("No stream has more to delete than its limit allows")
        return [
            {
                "audit_id": str(audit.id),
                "subject": f"Delete {audit.waiting} {EntityType(audit.entity_type).table} of {audit.organization_id}?",
                "body": _body(audit, audits.waiting_ids(connection, audit, MAX_IDS_SHOWN)),
            }
            for audit in found[:MAX_QUESTIONS]
        ]


def apply_answer(audit_id: str, answer: Mapping[str, Any], run_id: str, outlet_events: Any, *, manual: bool) -> bool:
    """Does what was answered, for a slice of time. Returns whether all is deleted.

    Raises AirflowSkipException where nothing is: it was rejected, nobody answered, or a later run asks anew.
    """
    services_ = services(database())
    with services_.database.connect() as connection:
        audit = audits.get(connection, UUID(audit_id))
    if audit.run_id != run_id or audit.status == Status.SUPERSEDED:
        raise AirflowSkipException("A later reconcile of the stream has taken over: this one deletes nothing")
    if audit.status == Status.WAITING:
        decision, by = _decision(answer)
        try:
            audit = runs_reconcile.decide(services_.database, audit, decision, by)
        except LeaseLost as taken:
            raise AirflowSkipException(str(taken)) from None
    if audit.decision != Decision.APPROVED:
        raise AirflowSkipException(f"{audit.decision} ({audit.decided_by or 'nobody'}): nothing was deleted")
    if audit.status == Status.DELETING:
        sync_type = SyncType.MANUAL if manual else SyncType.SCHEDULED
        try:
            audit = runs_reconcile.delete(services_, audit, sync_type=sync_type, seconds=READ_SECONDS)
        except LeaseHeld as busy:
            log.info("%s", busy)
            return False
    if audit.status != Status.COMPLETED:
        return False
    log.info("%s", audit.line())
    log_id = sync_logs.log_id_of(run_id, audit.stream, "DELETE")
    notify(outlet_events, [entry for entry in _logs_of(services_.database, run_id) if entry.id == log_id])
    return True


def report(run_id: str, shards: Sequence[Shard] | None, failed_tasks: Sequence[str]) -> list[dict[str, Any]]:
    """Sums up the run, stream by stream. Raises AirflowException, so that it shows red, where a stream or task failed.

    What waits for a person is told as such: its own task tells what became of it.
    """
    planned = {(UUID(each["integration_id"]), each["entity_type"]) for shard in shards or [] for each in shard}
    with database().connect() as connection:
        found = audits.of_run(connection, run_id)
        entries = sync_logs.of_run(connection, run_id)
        names = {each.id: each.organization_id for each in integrations.list_all(connection)}
    for audit in found:
        log.info("%s %s", audit.organization_id, audit.line())
        for problem in audit.problems():
            log.warning("%s %s: %s", audit.organization_id, EntityType(audit.entity_type).table, problem)
    ended = {(a.integration_id, a.entity_type) for a in found if a.status in (Status.COMPLETED, Status.WAITING)}
    errors = {(entry.integration_id, entry.entity_type): entry.error_message for entry in entries}
    errors |= {(a.integration_id, a.entity_type): a.error_message for a in found if a.error_message}
    failed = [
        f"{names[stream[0]]} {EntityType(stream[1]).table}: {errors.get(stream) or 'not done; the next run goes on'}"
        for stream in sorted(planned - ended)
    ]
    if failed or failed_tasks:
        raise AirflowException("; ".join([*failed, *(f"task {task_id} failed" for task_id in failed_tasks)]))
    return [
        {
            "organization_id": audit.organization_id,
            "entity_type": audit.entity_type,
            "status": audit.status,
            "converged": audit.converged,
            **audit.counts(),
        }
        for audit in found
    ]


def _work(
    services_: Services, stream: Stream, limit: DeleteLimit, sync_type: SyncType, run_id: str, *, late: bool
) -> bool:
    """A slice of work on one stream. Returns whether it needs no more."""
    entity_type = stream.entity_type
    with services_.database.connect() as connection:
        integration = integrations.get(connection, stream.integration_id)
        audit = _audit_of(connection, run_id, stream)
        entries = [
            entry
            for entry in sync_logs.of_run(connection, run_id)
            if (entry.integration_id, entry.entity_type) == (stream.integration_id, stream.entity_type)
        ]
    if late or any(entry.status == "FAILED" for entry in entries):
        return True
    try:
        if audit is None or audit.status in (Status.SWEEPING, Status.SWEPT):
            audit = runs_reconcile.sweep(
                services_, integration, entity_type, sync_type=sync_type, run_id=run_id, seconds=SWEEP_SECONDS
            )
        if audit.status == Status.CONFIRMING:
            audit = runs_reconcile.confirm(services_, audit, limit, sync_type=sync_type, seconds=READ_SECONDS)
        if audit.status == Status.DELETING:
            audit = runs_reconcile.delete(services_, audit, sync_type=sync_type, seconds=READ_SECONDS)
        return audit.status not in (Status.SWEEPING, Status.SWEPT, Status.CONFIRMING, Status.DELETING)
    except LeaseHeld as busy:
        log.info("%s %s: %s", integration.organization_id, entity_type.table, busy)
        return False
    except Exception as error:
        # One bad tenant stops nobody: its own log says what happened, and the others go on.
        log.exception("%s of %s failed", entity_type.table, integration.organization_id)
        with services_.database.connect() as connection:
            log_id = sync_logs.announce(connection, stream, run_id=run_id, mode=Mode.DELTA, sync_type=sync_type)
            sync_logs.fail(connection, log_id, error)  # unless that was done where it happened
        return True


def _audit_of(connection: Connection, run_id: str, stream: Stream) -> Audit | None:
    found = [
        audit
        for audit in audits.of_run(connection, run_id)
        if (audit.integration_id, audit.entity_type) == (stream.integration_id, stream.entity_type)
    ]
    return max(found, key=lambda audit: audit.started_at, default=None)


def _scheduled_and_loaded(connection: Connection) -> set[tuple[UUID, str]]:
    rows = connection.execute(
        """
        select c.integration_id, c.entity_type
        from softpro.cursors c
        join softpro.integrations i on i.id = c.integration_id
        where i.sync_enabled and c.last_synced_at is not null and (c.sweep_mode is not null or not c.backlog)
        """
    ).fetchall()
    return {(row["integration_id"], row["entity_type"]) for row in rows}


def _logs_of(database_: Database, run_id: str) -> list[SyncLog]:
    with database_.connect() as connection:
        return sync_logs.of_run(connection, run_id)


def _decision(answer: Mapping[str, Any]) -> tuple[Decision, str | None]:
    """Airflow answers in a person's place when the time is over: then nobody has."""
    person = answer.get("responded_by_user")
    if not person:
        return Decision.NO_ANSWER, None
    return (Decision.APPROVED if answer["chosen_options"] == [APPROVE] else Decision.REJECTED), person["name"]


def _body(audit: Audit, ids: Sequence[str]) -> str:
    table = EntityType(audit.entity_type).table
    shown = ", ".join(f"`{each[:100].translate(MARKDOWN_ESCAPES)}`" for each in ids)
    return (
        f"SoftPro no longer has {audit.waiting} of the {audit.our_count_after} {table} of **{audit.organization_id}**: "
        "its complete list does not hold them, and each was asked for twice and answered 404. That is more than may be "
        "deleted without a person.\n\n"
        f"{shown}{', …' if audit.waiting > len(ids) else ''}\n\n"
        f"All of them are in the table `softpro.audit_differences`, `audit_id` `{audit.id}`.\n\n"
        f"**{APPROVE}**: they are marked as deleted in `roi.{table}`, with history; any that SoftPro has again by then "
        f"stays. **{REJECT}**, or no answer: nothing is deleted."
    )
