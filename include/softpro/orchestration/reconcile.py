"""Run the steps of `softpro.runs.reconcile` for a shard of streams: the tasks of the DAG `softpro_reconcile`.

The audit of each stream holds its progress, so a task can be retried or poked at any time. A stream that fails is
closed in its own log and leaves the run; the others continue.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
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
from softpro.orchestration.authority import Start, acting, may_decide
from softpro.orchestration.hook import database
from softpro.orchestration.markdown import code
from softpro.orchestration.sync import MIN_STREAMS_PER_SHARD, SHARDS, requested_streams
from softpro.reconcile import audits
from softpro.reconcile.audits import Audit, AuditDecision, AuditStatus
from softpro.runs import reconcile as runs_reconcile
from softpro.runs.tenant_pool import map_tenants, shards
from softpro.services import Services, services
from softpro.settings import ReconcileSettings, load

SWEEP_SECONDS, READ_SECONDS = 240.0, 60.0
"""The slices of a stream: a sweep, and single reads. Syncs of the stream can run between two slices."""

GIVE_UP_AFTER = timedelta(hours=6)
"""Age of a run at which unfinished streams leave it, so that others do not wait. The next run resumes them."""

APPROVE, REJECT = "Approve", "Reject"
MAX_QUESTIONS = 1000
"""Maximum number of streams that one run asks about. Airflow limits task mapping to 1024."""
MAX_IDS_SHOWN = 20

log = logging.getLogger(__name__)

Shard = list[dict[str, Any]]

IN_PROGRESS = (AuditStatus.SWEEPING, AuditStatus.SWEPT, AuditStatus.CONFIRMING, AuditStatus.DELETING)
"""What a further slice of work advances."""


def plan(params: Mapping[str, Any], start: Start) -> list[Shard]:
    """Return the shards of this run.

    A scheduled run takes the streams whose schedule is not paused and whose first load is done. A manual run takes
    those of the form.

    Raises:
        AirflowSkipException: No stream is to be reconciled.
        AirflowException: The form names an organization that has no such stream or that the user may not see, or a
            limit that the user may not raise, or the user starts too many runs.
    """
    with database().connect() as connection:
        if start.manual:
            scope = start.scope(connection)
            if not scope.may_configure:
                _require_no_higher_limit(params)
            streams = requested_streams(connection, params, scope)
        else:
            loaded = _scheduled_and_loaded(connection)
            streams = [
                stream
                for stream in schedule.of_organization(connection, None, list(EntityType))
                if (stream.integration_id, stream.entity_type) in loaded
            ]
    if not streams:
        raise AirflowSkipException("No stream is to be reconciled")
    return [[stream.as_json() for stream in shard] for shard in shards(streams, SHARDS, MIN_STREAMS_PER_SHARD)]


def reconcile(
    shard: Shard, params: Mapping[str, Any], run_id: str, began_at: datetime, outlet_events: Any, *, manual: bool
) -> bool:
    """Work on each stream of the shard for a slice. Tenants run in parallel, their streams in order.

    Returns:
        True if all streams are completed, wait for a decision, or have left the run.
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
        in_shard = {(UUID(stream["integration_id"]), stream["entity_type"]) for stream in shard}
        entries = _logs_of(services_.database, run_id)
        notify(outlet_events, [entry for entry in entries if (entry.integration_id, entry.entity_type) in in_shard])
    return done


def delete_limit(defaults: DeleteLimit, params: Mapping[str, Any]) -> DeleteLimit:
    """Return the delete limit of the form, with the values of the settings in place of empty fields."""
    percent, records = params["limit_percent"], params["limit_records"]
    return DeleteLimit(
        defaults.percent if percent is None else percent, defaults.records if records is None else records
    )


def _require_no_higher_limit(params: Mapping[str, Any]) -> None:
    """Check the form of a user without the right to configure.

    Raises:
        AirflowException: It raises a limit for deletes without approval.
    """
    (settings,) = load(ReconcileSettings)
    own, wanted = settings.delete_limit, delete_limit(settings.delete_limit, params)
    if wanted.percent > own.percent or wanted.records > own.records:
        raise AirflowException("Raising a limit for deletes requires the right to configure")


def questions(run_id: str) -> list[dict[str, Any]]:
    """Return the questions to ask, one per mass delete: the audit, and the subject and body of the question.

    Raises:
        AirflowSkipException: No stream exceeds its limit.
    """
    with database().connect() as connection:
        found = [audit for audit in audits.of_run(connection, run_id) if audit.status == AuditStatus.WAITING]
        if len(found) > MAX_QUESTIONS:
            log.warning("%d streams wait for a decision; the next run asks about those beyond the maximum", len(found))
        if not found:
            raise AirflowSkipException("No stream has more deletes than its limit allows")
        return [
            {
                "audit_id": str(audit.id),
                "subject": f"Delete {audit.waiting} {EntityType(audit.entity_type).table} "
                f"of {code(audit.organization_id)}?",
                "body": _body(audit, audits.waiting_ids(connection, audit, MAX_IDS_SHOWN)),
            }
            for audit in found[:MAX_QUESTIONS]
        ]


def apply_answer(audit_id: str, answer: Mapping[str, Any], run_id: str, outlet_events: Any, *, manual: bool) -> bool:
    """Apply the answer for a slice of time, and return whether all records are deleted.

    Raises:
        AirflowSkipException: Nothing is deleted: the answer was Reject, no user answered, or a later run asks again.
    """
    services_ = services(database())
    with services_.database.connect() as connection:
        audit = audits.get(connection, UUID(audit_id))
    if audit.run_id != run_id or audit.status == AuditStatus.SUPERSEDED:
        raise AirflowSkipException("A later reconcile of the stream has replaced this one, which deletes nothing")
    if audit.status == AuditStatus.WAITING:
        decision, by = _decision(answer)
        with services_.database.connect() as connection:
            if by is not None and not may_decide(connection, by, audit.organization_id):
                log.warning("%s may not decide about %s: the answer does not count", by, audit.organization_id)
                decision, by = AuditDecision.NO_ANSWER, None
        try:
            with acting(by) if by is not None else nullcontext():
                audit = runs_reconcile.decide(services_.database, audit, decision, by)
        except LeaseLost as taken:
            raise AirflowSkipException(str(taken)) from None
    if audit.decision != AuditDecision.APPROVED:
        raise AirflowSkipException(f"{audit.decision} ({audit.decided_by or 'no user'}): nothing was deleted")
    if audit.status == AuditStatus.DELETING:
        sync_type = SyncType.MANUAL if manual else SyncType.SCHEDULED
        try:
            audit = runs_reconcile.delete(services_, audit, sync_type=sync_type, seconds=READ_SECONDS)
        except LeaseHeld as busy:
            log.info("%s", busy)
            return False
    if audit.status != AuditStatus.COMPLETED:
        return False
    log.info("%s", audit.line())
    log_id = sync_logs.log_id_of(run_id, audit.stream, "DELETE")
    notify(outlet_events, [entry for entry in _logs_of(services_.database, run_id) if entry.id == log_id])
    return True


def report(run_id: str, shards: Sequence[Shard] | None, failed_tasks: Sequence[str]) -> list[dict[str, Any]]:
    """Return the result of each stream.

    A stream that waits for a decision is reported as waiting. Its own task reports the outcome.

    Raises:
        AirflowException: A stream or a task failed, so that Airflow shows the run as failed.
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
    ended = {
        (a.integration_id, a.entity_type) for a in found if a.status in (AuditStatus.COMPLETED, AuditStatus.WAITING)
    }
    errors = {(entry.integration_id, entry.entity_type): entry.error_message for entry in entries}
    errors |= {(a.integration_id, a.entity_type): a.error_message for a in found if a.error_message}
    failed = [
        f"{names[stream[0]]} {EntityType(stream[1]).table}: {errors.get(stream) or 'unfinished; the next run resumes'}"
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
    """Work on one stream for a slice, and return whether it needs no more slices."""
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
        if audit is None or audit.status in (AuditStatus.SWEEPING, AuditStatus.SWEPT):
            audit = runs_reconcile.sweep(
                services_, integration, entity_type, sync_type=sync_type, run_id=run_id, seconds=SWEEP_SECONDS
            )
        if audit.status == AuditStatus.CONFIRMING:
            audit = runs_reconcile.confirm(services_, audit, limit, sync_type=sync_type, seconds=READ_SECONDS)
        if audit.status == AuditStatus.DELETING:
            audit = runs_reconcile.delete(services_, audit, sync_type=sync_type, seconds=READ_SECONDS)
        return audit.status not in (
            AuditStatus.SWEEPING,
            AuditStatus.SWEPT,
            AuditStatus.CONFIRMING,
            AuditStatus.DELETING,
        )
    except LeaseHeld as busy:
        log.info("%s %s: %s", integration.organization_id, entity_type.table, busy)
        return False
    except Exception as error:
        # A tenant that fails does not stop the others. Its own log holds the error.
        log.exception("%s of %s failed", entity_type.table, integration.organization_id)
        with services_.database.connect() as connection:
            log_id = sync_logs.announce(connection, stream, run_id=run_id, mode=Mode.DELTA, sync_type=sync_type)
            sync_logs.fail(connection, log_id, error)  # no effect if the failed step has closed the log
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


def _decision(answer: Mapping[str, Any]) -> tuple[AuditDecision, str | None]:
    """Return the decision and the user. Airflow itself answers after the timeout, without a user."""
    user = answer.get("responded_by_user")
    if not user:
        return AuditDecision.NO_ANSWER, None
    return (AuditDecision.APPROVED if answer["chosen_options"] == [APPROVE] else AuditDecision.REJECTED), user["name"]


def _body(audit: Audit, ids: Sequence[str]) -> str:
    table = EntityType(audit.entity_type).table
    shown = ", ".join(code(each[:100]) for each in ids)
    return (
        f"SoftPro no longer has {audit.waiting} of the {audit.our_count_after} {table} of "
        f"{code(audit.organization_id)}: its complete list does not contain them, and two requests for each returned "
        "404. The number exceeds the limit for deletes without approval.\n\n"
        f"{shown}{', …' if audit.waiting > len(ids) else ''}\n\n"
        f"The table `softpro.audit_differences` lists all of them, with `audit_id` `{audit.id}`.\n\n"
        f"**{APPROVE}**: they are marked as deleted in `roi.{table}`, with history. A record that SoftPro has again by "
        f"then stays.\n\n**{REJECT}**, or no answer: nothing is deleted."
    )
