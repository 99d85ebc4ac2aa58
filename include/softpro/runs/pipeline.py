"""Define the steps of a run in order. Start reading the project here.

    begin → extract → transform → check → load → … → finish

`softpro.runs.sync` combines them into whole runs, and the DAG runs the same functions as tasks.
Rows travel through PostgreSQL, so any step can be run again at any time:

* begin      acquires the stream's lease and opens the sync log
* extract    asks SoftPro for changes, and lands each page in `raw` together with the cursor
* transform  maps the pending records of `raw` into `staging`, by the organization's mappings
* check      rejects wrong values and counts unlikely ones (Great Expectations), and holds a batch that is wrong overall
* load       merges `staging` into `roi`, writes history, quarantines the rejected records, and settles the loaded ones
* finish     closes the log and frees the stream; `fail` does so after an error

A remap and a replay replace `extract` by `mark`: a remap marks every record in `raw` pending, a replay the quarantined
ones. A run over a few records replaces it by `fetch`, which requests them one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from uuid import UUID

from softpro.db import integrations, leases, schedule, sync_logs
from softpro.db.database import Connection, Database
from softpro.db.integrations import Integration
from softpro.db.leases import Run, keeping
from softpro.db.sync_logs import SyncLog
from softpro.entities import EntityType, Mode, Stream, SyncType
from softpro.errors import LeaseLost, SoftProError
from softpro.mapping import repository
from softpro.mapping.rules.account import RuleBudget
from softpro.quality.batch import BatchLimits
from softpro.quality.check import Checked
from softpro.services import Services
from softpro.settings import QualitySettings
from softpro.softpro360.contract import MAX_PAGE_SIZE
from softpro.sync import cursors
from softpro.sync.check_rules import value_demands
from softpro.sync.extract import Extracted, Progress
from softpro.sync.fetch import Fetched
from softpro.sync.load import Loaded
from softpro.sync.remap import Marked
from softpro.sync.replay import Marked as MarkedCases
from softpro.sync.transform import Transformed, clear_staging

SLICE_SECONDS = 60.0
RULE_SLICE_SECONDS = 5.0
"""The time for an organization's rules in a task, so that it does not delay the others."""
MAX_ATTEMPTS = 2  # the DAG retries a task that died once

Stage = Callable[[str, str], None]
"""Called with the name of each step as it begins, and the result of the step before."""


def ignore_stages(name: str, result: str) -> None:
    """Ignore the progress of the steps."""


def begin(
    database: Database,
    integration: Integration,
    entity_type: EntityType,
    *,
    mode: Mode,
    sync_type: SyncType,
    run_id: str,
    reason: str | None = None,
    operation: str = "SYNC",
    records: Sequence[str] | None = None,
    part: int = 0,
) -> Run:
    """Begin a run: acquire the stream's lease and open its sync log.

    The log of a run that died holding the lease becomes FAILED. A run over `records` takes no lease and runs in
    parallel with others.

    Args:
        reason: why the run does what it does; by default, what the cursor says.
        operation: the operation of the sync log.
        records: the ids of a few named records.
        part: a number that makes the log's id unique, if one run id begins several runs over the stream.

    Raises:
        LeaseHeld: another run works on the stream.
        NotConnected: the integration has no grant to fetch with.
    """
    if mode.fetches:
        integrations.require_connected(integration)
    stream = integration.stream(entity_type)
    with database.connect() as connection, connection.transaction():
        log_id = sync_logs.announce(
            connection,
            stream,
            run_id=run_id,
            mode=mode,
            sync_type=sync_type,
            operation=operation,
            entity_id=records[0] if records is not None and len(records) == 1 else None,
            part=part,
        )
        epoch = _acquire_lease(connection, stream, log_id) if records is None else None
        named = None if records is None else tuple(records)
        run = Run(log_id, stream, mode, epoch, named)
        if mode is not Mode.PUSH and (records is not None or sync_type is SyncType.WEBHOOK):
            cursors.mark_load_due(connection, run.stream)
        sync_logs.start(
            connection, log_id, MAX_ATTEMPTS, reason or cursors.run_reason(cursors.read(connection, run), mode)
        )
    return run


def _acquire_lease(connection: Connection, stream: Stream, log_id: UUID) -> int:
    """Acquire the lease and return its epoch."""
    epoch, orphan = leases.acquire(connection, stream, log_id)
    if orphan is not None:
        sync_logs.fail(connection, orphan, LeaseLost("The run stopped responding; the next run continued from there"))
        clear_staging(connection, stream.entity_type, orphan)
    return epoch


def mark(database: Database, run: Run) -> Marked:
    """Mark every record of the stream pending; see `softpro.sync.remap`."""
    from softpro.sync.remap import mark_pending as step

    with database.connect() as connection:
        return step(connection, run)


def mark_cases(database: Database, run: Run, cases: Collection[UUID] | None = None) -> MarkedCases:
    """Mark the records of open quarantine cases pending; see `softpro.sync.replay`."""
    from softpro.sync.replay import mark_cases as step

    with database.connect() as connection:
        return step(connection, run, cases)


def extract(
    services: Services,
    run: Run,
    *,
    seconds: float = SLICE_SECONDS,
    first_slice: bool = True,
    progress: Progress = lambda fetched, total: None,
    waiting: Callable[[float], None] = lambda seconds: None,
    urgent: bool = False,
) -> Extracted:
    """Fetch a slice and land it; see `softpro.sync.extract`.

    Args:
        waiting: called with the seconds that the rate limit makes it wait.
        urgent: use the budget's reserve, and as few requests as possible.
    """
    from softpro.sync.extract import extract as step

    with services.database.connect() as connection:
        integration = integrations.get(connection, run.integration_id)
        with services.client(integration, bulk=not urgent) as client:
            client.waiting = waiting
            return step(
                connection,
                client,
                run,
                batch_size=MAX_PAGE_SIZE if urgent else services.sync.batch_size,
                seconds=seconds,
                first_slice=first_slice,
                progress=progress,
            )


def fetch(services: Services, run: Run, *, seconds: float = SLICE_SECONDS) -> Fetched:
    """Fetch the run's records one by one and land them; see `softpro.sync.fetch`."""
    from softpro.sync.fetch import fetch as step

    with services.database.connect() as connection:
        integration = integrations.get(connection, run.integration_id)
        with services.client(integration) as client:
            return step(connection, client, run, seconds=seconds)


def fetch_all(services: Services, run: Run, *, seconds: float = SLICE_SECONDS) -> Fetched:
    """Fetch the records that a user named, to be loaded even if they did not change.

    If some can't be fetched, `finish` fails the run with the reason once the others are loaded.
    """
    from softpro.sync.fetch import fetch as step

    with services.database.connect() as connection:
        integration = integrations.get(connection, run.integration_id)
        with services.client(integration) as client:
            fetched = step(connection, client, run, seconds=seconds, again=True)
        if problem := fetched.problem(run.entity_type):
            sync_logs.record_problem(connection, run.log_id, problem)
    return fetched


def transform(database: Database, run: Run, budget: RuleBudget | None = None) -> Transformed:
    """Map the pending records into staging, within a budget for the rules; see `softpro.sync.transform`."""
    from softpro.sync.transform import transform as step

    with database.connect() as reading, database.connect() as writing:
        return step(reading, writing, run, budget)


def check(database: Database, run: Run, quality: QualitySettings) -> Checked:
    """Check the staged records by the run's mapping set and its validationRules; see `softpro.quality.check`."""
    from softpro.quality.check import check as step

    with database.connect() as connection:
        version = sync_logs.get(connection, run.log_id).mapping_version
        mappings = repository.version(connection, run.stream, version)[1] if version else []
        standard = BatchLimits(
            [mapping.roi_systems_field for mapping in mappings if mapping.inbound],
            cursors.read(connection, run).sweep_total,
            cursors.never_synced(connection, run),
            quality.row_count_fall_percent,
        )
        return step(database, connection, run, value_demands(mappings), standard)


def load(database: Database, run: Run) -> Loaded:
    """Merge the staged records into `roi` and settle them; see `softpro.sync.load`."""
    from softpro.sync.load import load as step
    from softpro.writeback.field_ownership import FieldOwnership
    from softpro.writeback.three_way_merge import ThreeWayMerge

    with database.connect() as connection:
        mappings = repository.current(connection, run.stream).mappings
        return step(
            connection, run, ThreeWayMerge(connection, run), FieldOwnership.of(run.entity_type, mappings).push_only
        )


def finish(database: Database, run: Run, *, synced: bool = True) -> SyncLog:
    """Close the log and free the stream. Raises LeaseLost.

    Args:
        synced: the stream is up to date now.
    """
    with database.connect() as connection, connection.transaction():
        leases.fence(connection, run)
        log = sync_logs.finish(connection, run.log_id)
        if synced and run.mode.lists:
            schedule.record_success(connection, run)
        leases.release(connection, run)
    return log


def fail(database: Database, run: Run, error: BaseException, *, clocked: bool = True) -> SyncLog:
    """Close the log as FAILED, or as CANCELLED when a user stopped the run, and free the stream.

    A run that lost its lease closes nothing, because its successor has closed it.

    Args:
        clocked: the schedule counts the failure and sets the time of the next attempt.
    """
    with database.connect() as connection, connection.transaction():
        try:
            leases.fence(connection, run)
        except LeaseLost:
            return sync_logs.get(connection, run.log_id)
        if isinstance(error, Exception):
            wait = getattr(error, "retry_after", None) or 0
            message = str(error) or type(error).__name__
            retry_at = schedule.record_failure(connection, run, message, wait) if clocked and run.mode.lists else None
            log = sync_logs.fail(connection, run.log_id, error, retry_at)
        else:
            log = sync_logs.cancel(connection, run.log_id, "A user stopped the run")
        clear_staging(connection, run.entity_type, run.log_id)
        leases.release(connection, run)
    return log


def apply(
    database: Database,
    run: Run,
    quality: QualitySettings,
    stage: Stage = ignore_stages,
    budget: RuleBudget | None = None,
) -> None:
    """Transform, check and load the pending records. The caller has announced the transform to `stage`.

    Args:
        database: the database.
        run: the run.
        quality: the limits of the checks.
        stage: called as each further step begins.
        budget: the limits of the rules. Default: those of a run, without a deadline.
    """
    transformed = transform(database, run, budget)
    stage("check", f"{transformed.staged} staged")
    checked = check(database, run, quality)
    stage("load", f"{checked.rejected} rejected")
    loaded = load(database, run)
    stage("", f"{loaded.loaded} loaded")


def run_and_close(database: Database, run: Run, work: Callable[[], None], *, clocked: bool = True) -> SyncLog:
    """Do the work of a run that has begun, keep its lease, close it, and return the finished log.

    Args:
        clocked: the stream's schedule counts how the run ended.
    """
    try:
        with keeping(database) as keeper:
            keeper.keep(run)
            work()
            return finish(database, run, synced=clocked)
    except SoftProError as error:
        return fail(database, run, error, clocked=clocked)
    except BaseException as error:
        fail(database, run, error, clocked=clocked)
        raise
