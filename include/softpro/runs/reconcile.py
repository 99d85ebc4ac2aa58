"""Define the steps of a reconcile in order. Each takes a slice of time and can be run again at any time.

    sweep → confirm → (a user decides →) delete

* sweep      lists the whole stream through `pipeline.extract`, as a delta sync does, and stores the differences
* confirm    asks SoftPro twice for each record that the sweep missed; above the limit the audit waits for a user
* delete     soft-deletes the confirmed records, and closes the audit

`reconcile` runs them one after the other, and the DAG runs the same functions as tasks. A sweep holds the stream's
lease, and so does each step that lands or deletes records. Single reads and decisions need no lease.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from softpro.db import integrations, leases, sync_logs
from softpro.db.database import Connection, Database
from softpro.db.integrations import Integration
from softpro.db.leases import Run, keeping
from softpro.delete_limit import DeleteLimit
from softpro.entities import EntityType, Mode, SyncType
from softpro.errors import LeaseHeld, SoftProError
from softpro.reconcile import audits
from softpro.reconcile.audits import Audit, AuditDecision, AuditStatus
from softpro.runs import pipeline
from softpro.runs.pipeline import SLICE_SECONDS, Stage
from softpro.services import Services
from softpro.settings import QualitySettings
from softpro.sync.extract import Progress

REASON = "reconciles: lists every record to find those that SoftPro has deleted"
LEASE_TIMEOUT_SECONDS, PAUSE_SECONDS = 600.0, 2.0
"""How long `reconcile` waits for a sync that holds the lease, and the pause between two attempts."""


def sweep(
    services: Services,
    integration: Integration,
    entity_type: EntityType,
    *,
    sync_type: SyncType,
    run_id: str,
    seconds: float = SLICE_SECONDS,
    approving: bool = False,
    progress: Progress = lambda fetched, total: None,
    stage: Stage = lambda name, result: None,
) -> Audit:
    """Continue the stream's audit, or begin one, for at most `seconds`; a page in progress is finished.

    An error leaves the audit as it is, for a later run to continue.

    Args:
        approving: also continue an audit that waits for approval.

    Returns:
        The audit, SWEEPING if more is left to list.

    Raises:
        LeaseHeld: another run works on the stream.
        SoftProError: see `pipeline.extract`.
    """
    database, deadline = services.database, time.monotonic() + seconds
    with _run(database, integration, entity_type, sync_type, run_id, synced=True) as run:
        with database.connect() as connection, connection.transaction():
            leases.fence(connection, run)
            audit = audits.begin(connection, run, run_id, approving=approving)
        while audit.status == AuditStatus.SWEEPING:
            stage("sweep", "")
            extracted = pipeline.extract(
                services,
                run,
                seconds=min(SLICE_SECONDS, deadline - time.monotonic()),
                first_slice=False,  # the cursor holds the sweep's position: the audit's begin or a later run stored it
                progress=progress,
                waiting=lambda wait: stage("sweep", f"waits for the rate limit: {wait:.0f} s left"),
            )
            stage("transform", f"{extracted.fetched} fetched")
            pipeline.apply(database, run, services.quality, stage)
            audit = _now(database, audit)
            if time.monotonic() >= deadline:
                break
        if audit.status == AuditStatus.SWEPT:
            audit = _compared(database, run, audit, services.quality, stage)
    return audit


def confirm(
    services: Services,
    audit: Audit,
    limit: DeleteLimit,
    *,
    sync_type: SyncType,
    seconds: float = SLICE_SECONDS,
    progress: Progress = lambda asked, total: None,
    waiting: Callable[[float], None] = lambda seconds: None,
) -> Audit:
    """Request the records that the sweep missed, for at most `seconds`, and land those that still exist.

    Returns:
        The audit. CONFIRMING: more requests are left. WAITING: a user has to approve. DELETING: the confirmed records
        may be deleted. COMPLETED: no record is confirmed.

    Raises:
        LeaseHeld: another run works on the stream.
        LeaseLost: a later audit has replaced this one.
        SoftProAPIError: SoftPro refused a request or did not answer.
    """
    from softpro.reconcile import confirm_deletes
    from softpro.reconcile.compare import apply_limit, conclude

    with services.database.connect() as connection:
        if _ask(services, connection, audit, "SYNC", sync_type, seconds, progress, waiting):
            return audits.get(connection, audit.id)
        audit = apply_limit(connection, audit, limit)
        if audit.status == AuditStatus.DELETING and not confirm_deletes.count_confirmed(connection, audit):
            audit = conclude(connection, audit)
    return audit


def decide(database: Database, audit: Audit, decision: AuditDecision, by: str | None) -> Audit:
    """Record the decision about a waiting audit and return the audit: DELETING if approved, otherwise COMPLETED.

    Args:
        decision: what a user decided, or that no user did.
        by: the user who decided.

    Raises:
        LeaseLost: a later audit has replaced this one.
    """
    from softpro.reconcile.compare import conclude

    with database.connect() as connection:
        audit = audits.decide(connection, audit, decision, by)
        return audit if decision is AuditDecision.APPROVED else conclude(connection, audit)


def delete(
    services: Services,
    audit: Audit,
    *,
    sync_type: SyncType,
    seconds: float = SLICE_SECONDS,
    progress: Progress = lambda asked, total: None,
    waiting: Callable[[float], None] = lambda seconds: None,
) -> Audit:
    """Soft-delete the confirmed records. SoftPro is asked again about confirmations more than an hour old.

    Raises the same errors as `confirm`.

    Returns:
        The audit: COMPLETED, or DELETING if `seconds` were not enough.
    """
    from softpro.reconcile import confirm_deletes
    from softpro.reconcile.compare import conclude

    with services.database.connect() as connection:
        _ask(services, connection, audit, "DELETE", sync_type, seconds, progress, waiting)
        integration = integrations.get(connection, audit.integration_id)
        with _run_of(services.database, integration, audit, sync_type, "DELETE") as run:
            confirm_deletes.delete(connection, run, audit)
        if confirm_deletes.count_confirmed(connection, audit):
            return audits.get(connection, audit.id)
        return conclude(connection, audit)


def reconcile(
    services: Services,
    integration: Integration,
    entity_type: EntityType,
    *,
    limit: DeleteLimit,
    sync_type: SyncType,
    run_id: str,
    approved_by: str | None = None,
    progress: Progress = lambda fetched, total: None,
    stage: Stage = lambda name, result: None,
) -> Audit:
    """Run all steps in this process and return the audit. Raises the same errors as the steps.

    Args:
        approved_by: the user who approves a mass delete in advance, also that of an audit that already waits.

    Returns:
        The audit: COMPLETED, WAITING for a user, or FAILED (see its message).
    """
    audit = sweep(
        services,
        integration,
        entity_type,
        sync_type=sync_type,
        run_id=run_id,
        seconds=math.inf,
        approving=approved_by is not None,
        progress=progress,
        stage=stage,
    )

    def waiting(wait: float) -> None:
        stage("confirm", f"waits for the rate limit: {wait:.0f} s left")

    def confirming(audit: Audit) -> Audit:
        stage("confirm", f"{audit.missing_there} are missing at SoftPro: each is requested twice")
        return confirm(services, audit, limit, sync_type=sync_type, progress=progress, waiting=waiting)

    def deleting(audit: Audit) -> Audit:
        stage("delete", "")
        return delete(services, audit, sync_type=sync_type, progress=progress, waiting=waiting)

    while audit.status == AuditStatus.CONFIRMING:
        audit = _retry_while_held(confirming, audit)
    if audit.status == AuditStatus.WAITING and approved_by is not None:
        audit = decide(services.database, audit, AuditDecision.APPROVED, approved_by)
    while audit.status == AuditStatus.DELETING:
        audit = _retry_while_held(deleting, audit)
    return audit


def _compared(database: Database, run: Run, audit: Audit, quality: QualitySettings, stage: Stage) -> Audit:
    from softpro.reconcile.compare import compare

    with database.connect() as connection:
        audit = compare(connection, audit)
    if audit.not_loaded:
        stage("transform", f"{audit.not_loaded} had not been loaded")
        pipeline.apply(database, run, quality, stage)
    return audit


def _ask(
    services: Services,
    connection: Connection,
    audit: Audit,
    operation: str,
    sync_type: SyncType,
    seconds: float,
    progress: Progress,
    waiting: Callable[[float], None],
) -> bool:
    """Ask SoftPro for a slice, land and load the records found, and return whether more requests are left."""
    from softpro.reconcile import confirm_deletes

    integration = integrations.get(connection, audit.integration_id)
    try:
        integrations.require_connected(integration)
        with services.client(integration, bulk=True) as client:
            client.waiting = waiting
            asked = confirm_deletes.ask(
                connection,
                client,
                audit,
                seconds=seconds,
                asking=lambda done, left: progress(done, done + left),
            )
    except SoftProError as failed:
        with _run_of(services.database, integration, audit, sync_type, operation):
            raise failed  # so that the run's log records it
    if asked.found:
        with _run_of(services.database, integration, audit, sync_type, operation) as run:
            confirm_deletes.land_found(connection, run, audit, asked)
            pipeline.apply(services.database, run, services.quality, lambda name, result: None)
    elif asked.requests:
        log_id = sync_logs.log_id_of(audit.run_id, audit.stream, operation)
        sync_logs.add_counts(connection, log_id, api_requests=asked.requests)
    return asked.backlog


@contextmanager
def _run(
    database: Database,
    integration: Integration,
    entity_type: EntityType,
    sync_type: SyncType,
    run_id: str,
    operation: str = "SYNC",
    *,
    synced: bool = False,
) -> Iterator[Run]:
    """Begin a run, keep its lease during the block, and finish it; an error in the block closes it as failed.

    Args:
        synced: the run brings the stream up to date, so the next sync is not due yet.
    """
    run = pipeline.begin(
        database,
        integration,
        entity_type,
        mode=Mode.DELTA,
        sync_type=sync_type,
        run_id=run_id,
        reason=REASON,
        operation=operation,
    )
    try:
        with keeping(database) as keeper:
            keeper.keep(run)
            yield run
            pipeline.finish(database, run, synced=synced)
    except BaseException as error:
        pipeline.fail(database, run, error)
        raise


def _run_of(
    database: Database, integration: Integration, audit: Audit, sync_type: SyncType, operation: str
) -> AbstractContextManager[Run]:
    return _run(database, integration, EntityType(audit.entity_type), sync_type, audit.run_id, operation)


def _retry_while_held(step: Callable[[Audit], Audit], audit: Audit) -> Audit:
    """Run a step, retrying while a sync holds the lease. Raises LeaseHeld if that takes too long."""
    deadline = time.monotonic() + LEASE_TIMEOUT_SECONDS
    while True:
        try:
            return step(audit)
        except LeaseHeld:
            if time.monotonic() > deadline:
                raise
            time.sleep(PAUSE_SECONDS)


def _now(database: Database, audit: Audit) -> Audit:
    with database.connect() as connection:
        return audits.get(connection, audit.id)
