"""The steps of a reconcile in order, each a slice of time; any of them can be run again at any time.

    sweep → confirm → (a person decides →) delete

* sweep      lists the whole stream through `pipeline.extract`, as a delta sync does, and lists the differences
* confirm    asks SoftPro for each record that the sweep missed, twice; above the limit the audit waits for a person
* delete     soft-deletes what is confirmed, and closes the audit

`reconcile` runs them one after the other; the DAG runs the same functions as tasks. The stream's lease is held by a
sweep, and for a moment where records are landed or deleted: not while SoftPro is asked, nor while a person thinks.
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
from softpro.reconcile.audits import Audit, Decision, Status
from softpro.runs import pipeline
from softpro.runs.pipeline import SLICE_SECONDS, Stage
from softpro.services import Services
from softpro.sync.extract import Progress

REASON = "reconciles: lists everything, so that what SoftPro has no more is noticed"
LEASE_TIMEOUT_SECONDS, PAUSE_SECONDS = 600.0, 2.0
"""So long `reconcile` waits for a sync that holds the stream, looking again after each pause."""


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
    stage: Stage = lambda name, came_to: None,
) -> Audit:
    """Goes on with the stream's audit, or begins one, for at most `seconds` (the page under way is finished).

    Returns it SWEEPING where there is more to list. Raises LeaseHeld while another run works on the stream, and what
    `pipeline.extract` does: then the audit stays as it is, and believes nothing yet.
    """
    database, deadline = services.database, time.monotonic() + seconds
    with _run(database, integration, entity_type, sync_type, run_id, synced=True) as run:
        with database.connect() as connection, connection.transaction():
            leases.fence(connection, run)
            audit = audits.begin(connection, run, run_id, approving=approving)
        while audit.status == Status.SWEEPING:
            stage("sweep", "")
            extracted = pipeline.extract(
                services,
                run,
                seconds=min(SLICE_SECONDS, deadline - time.monotonic()),
                first_slice=False,  # where the sweep stands, the audit's beginning and all later runs wrote down
                progress=progress,
                waiting=lambda wait: stage("sweep", f"{wait:.0f} s until the rate limit lets more through"),
            )
            stage("transform", f"{extracted.fetched} fetched")
            pipeline.apply(database, run, stage)
            audit = _now(database, audit)
            if time.monotonic() >= deadline:
                break
        if audit.status == Status.SWEPT:
            audit = _compared(database, run, audit, stage)
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
    """Asks for the records that the sweep missed, for at most `seconds`; heals those that are there after all.

    Returns the audit CONFIRMING where there is more to ask, WAITING where a person has to approve, DELETING where what
    is confirmed may be deleted, COMPLETED where nothing is. Raises LeaseHeld, LeaseLost, SoftProAPIError.
    """
    from softpro.reconcile import confirm_deletes
    from softpro.reconcile.compare import conclude, judge

    with services.database.connect() as connection:
        if _ask(services, connection, audit, "SYNC", sync_type, seconds, progress, waiting):
            return audits.get(connection, audit.id)
        audit = judge(connection, audit, limit)
        if audit.status == Status.DELETING and not confirm_deletes.confirmed(connection, audit):
            audit = conclude(connection, audit)
    return audit


def decide(database: Database, audit: Audit, decision: Decision, by: str | None) -> Audit:
    """What a person decided about an audit that waits, or that nobody did: approved, it is DELETING, else COMPLETED.

    `by`: who it was. Raises LeaseLost where a later audit has taken its place.
    """
    from softpro.reconcile.compare import conclude

    with database.connect() as connection:
        audit = audits.decide(connection, audit, decision, by)
        return audit if decision is Decision.APPROVED else conclude(connection, audit)


def delete(
    services: Services,
    audit: Audit,
    *,
    sync_type: SyncType,
    seconds: float = SLICE_SECONDS,
    progress: Progress = lambda asked, total: None,
    waiting: Callable[[float], None] = lambda seconds: None,
) -> Audit:
    """Soft-deletes what is confirmed; where that is more than an hour old, once SoftPro was asked again.

    Returns the audit COMPLETED, or DELETING where `seconds` were not enough. Raises as `confirm` does.
    """
    from softpro.reconcile import confirm_deletes
    from softpro.reconcile.compare import conclude

    with services.database.connect() as connection:
        _ask(services, connection, audit, "DELETE", sync_type, seconds, progress, waiting)
        integration = integrations.get(connection, audit.integration_id)
        with _run_of(services.database, integration, audit, sync_type, "DELETE") as run:
            confirm_deletes.delete(connection, run, audit)
        if confirm_deletes.confirmed(connection, audit):
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
    stage: Stage = lambda name, came_to: None,
) -> Audit:
    """Runs all steps in this process. Returns the audit: COMPLETED, WAITING for a person, or FAILED (see its message).

    `approved_by` approves a mass delete beforehand, also that of an audit which waits already. Raises as the steps do.
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
        stage("confirm", f"{wait:.0f} s until the rate limit lets more through")

    def confirming(audit: Audit) -> Audit:
        stage("confirm", f"{audit.missing_there} are missing at SoftPro: each is asked for twice")
        return confirm(services, audit, limit, sync_type=sync_type, progress=progress, waiting=waiting)

    def deleting(audit: Audit) -> Audit:
        stage("delete", "")
        return delete(services, audit, sync_type=sync_type, progress=progress, waiting=waiting)

    while audit.status == Status.CONFIRMING:
        audit = _retry_while_held(confirming, audit)
    if audit.status == Status.WAITING and approved_by is not None:
        audit = decide(services.database, audit, Decision.APPROVED, approved_by)
    while audit.status == Status.DELETING:
        audit = _retry_while_held(deleting, audit)
    return audit


def _compared(database: Database, run: Run, audit: Audit, stage: Stage) -> Audit:
    from softpro.reconcile.compare import compare

    with database.connect() as connection:
        audit = compare(connection, audit)
    if audit.not_loaded:
        stage("transform", f"{audit.not_loaded} had not been loaded")
        pipeline.apply(database, run, stage)
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
    """Asks SoftPro for a slice, and lands and loads what is there. Returns whether there is more to ask."""
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
            raise failed  # so that the run's log tells it
    if asked.found:
        with _run_of(services.database, integration, audit, sync_type, operation) as run:
            confirm_deletes.land_found(connection, run, audit, asked)
            pipeline.apply(services.database, run, lambda name, came_to: None)
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
    """A run from begin to finish, its lease kept; where the block raises, it is closed as failed.

    `synced`: it brings the stream up to date, so that the next sync has time.
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
    """The step's result, once the sync that holds the stream is done. Raises LeaseHeld where that takes too long."""
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
