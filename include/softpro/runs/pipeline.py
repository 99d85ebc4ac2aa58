"""The steps in order: what a newcomer reads first.

    begin → extract → transform → check → load → … → finish

`softpro.runs.sync` makes whole runs of them; the DAG runs the same functions as tasks.
Rows travel through PostgreSQL, so any step can be run again at any time:

* begin      takes the stream's lease and opens the sync log
* extract    asks SoftPro for what changed, lands each page in `raw` together with the cursor
* transform  maps what is pending in `raw` into `staging`, by the organization's mappings
* check      rejects what is certainly wrong, counts what is merely unlikely (Great Expectations); holds a batch that is
             wrong as a whole
* load       merges staging into `roi`, writes history, quarantines what was rejected, settles what was loaded
* finish     closes the log and frees the stream; `fail` does so when a step raised

A remap has `mark` in place of `extract`: it makes everything pending that is in `raw`; a replay what is in quarantine.
A run over a few records has `fetch`: it asks for them one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from uuid import UUID

from softpro import settings
from softpro.db import integrations, leases, schedule, sync_logs
from softpro.db.database import Connection, Database
from softpro.db.integrations import Integration
from softpro.db.leases import Run, keeping
from softpro.db.sync_logs import SyncLog
from softpro.entities import EntityType, Mode, Stream, SyncType
from softpro.errors import LeaseLost, SoftProError
from softpro.mapping import repository
from softpro.quality.batch import BatchLimits
from softpro.quality.check import Checked
from softpro.services import Services
from softpro.softpro360.contract import LARGEST_PAGE
from softpro.sync import cursors
from softpro.sync.demanded import demanded
from softpro.sync.extract import Extracted, Progress
from softpro.sync.fetch import Fetched
from softpro.sync.load import Loaded
from softpro.sync.remap import Marked
from softpro.sync.replay import Marked as MarkedCases
from softpro.sync.transform import Transformed, clear

SLICE_SECONDS = 60.0
MAX_ATTEMPTS = 2  # the DAG tries a task that died once more

Stage = Callable[[str, str], None]
"""Told the name of each step as it begins, and what the one before it came to."""


def ignore_stages(name: str, came_to: str) -> None:
    """Tells nobody."""


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
    """Takes the stream's lease and opens its log; a run that died holding the lease is FAILED now. One over `records`,
    a few that are named by their ids, goes on beside others, without a lease. `part`: of what the run's id names, where
    it begins several times.

    The log's `reason` is, where none is given, what the stream's cursor comes to. Raises LeaseHeld while another run
    works on the stream, NotConnected where there is no grant to fetch with.
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
    """The epoch of the stream's lease, which this run has from now on."""
    epoch, orphan = leases.acquire(connection, stream, log_id)
    if orphan is not None:
        sync_logs.fail(connection, orphan, LeaseLost("The run ended without a word; the next one went on from there"))
        clear(connection, stream.entity_type, orphan)
    return epoch


def mark(database: Database, run: Run) -> Marked:
    """See `softpro.sync.remap`."""
    from softpro.sync.remap import mark as step

    with database.connect() as connection:
        return step(connection, run)


def mark_cases(database: Database, run: Run, cases: Collection[UUID] | None = None) -> MarkedCases:
    """See `softpro.sync.replay`."""
    from softpro.sync.replay import mark as step

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
    """See `softpro.sync.extract`; `waiting` is told the seconds that the rate limit makes it wait. `urgent`: with the
    reserve of the rate limit, and as few requests as can be."""
    from softpro.sync.extract import extract as step

    with services.database.connect() as connection:
        integration = integrations.get(connection, run.integration_id)
        with services.client(integration, bulk=not urgent) as client:
            client.waiting = waiting
            return step(
                connection,
                client,
                run,
                batch_size=LARGEST_PAGE if urgent else services.sync.batch_size,
                seconds=seconds,
                first_slice=first_slice,
                progress=progress,
            )


def fetch(services: Services, run: Run, *, seconds: float = SLICE_SECONDS) -> Fetched:
    """See `softpro.sync.fetch`."""
    from softpro.sync.fetch import fetch as step

    with services.database.connect() as connection:
        integration = integrations.get(connection, run.integration_id)
        with services.client(integration) as client:
            return step(connection, client, run, seconds=seconds)


def fetch_all(services: Services, run: Run, *, seconds: float = SLICE_SECONDS) -> Fetched:
    """Fetches records that a person named, to be loaded changed or not. Where one could not be, `finish` fails the run
    once the others are loaded, and says why."""
    from softpro.sync.fetch import fetch as step

    with services.database.connect() as connection:
        integration = integrations.get(connection, run.integration_id)
        with services.client(integration) as client:
            fetched = step(connection, client, run, seconds=seconds, again=True)
        if problem := fetched.problem(run.entity_type):
            sync_logs.record_problem(connection, run.log_id, problem)
    return fetched


def transform(database: Database, run: Run) -> Transformed:
    """See `softpro.sync.transform`."""
    from softpro.sync.transform import transform as step

    with database.connect() as reading, database.connect() as writing:
        return step(reading, writing, run)


def check(database: Database, run: Run) -> Checked:
    """See `softpro.quality.check`: by the mapping set that the run mapped by, and its validationRules."""
    from softpro.quality.check import check as step

    (quality,) = settings.load(settings.QualitySettings)
    with database.connect() as connection:
        version = sync_logs.get(connection, run.log_id).mapping_version
        mappings = repository.version(connection, run.stream, version)[1] if version else []
        standard = BatchLimits(
            [mapping.roi_systems_field for mapping in mappings if mapping.inbound],
            cursors.read(connection, run).sweep_total,
            cursors.never_synced(connection, run),
            quality.row_count_fall_percent,
        )
        return step(database, connection, run, demanded(mappings), standard)


def load(database: Database, run: Run) -> Loaded:
    """See `softpro.sync.load`."""
    from softpro.sync.load import load as step
    from softpro.writeback.field_ownership import FieldOwnership
    from softpro.writeback.three_way_merge import ThreeWayMerge

    with database.connect() as connection:
        mappings = repository.current(connection, run.stream).mappings
        return step(connection, run, ThreeWayMerge(connection, run), FieldOwnership.of(run.entity_type, mappings).kept)


def finish(database: Database, run: Run, *, synced: bool = True) -> SyncLog:
    """Closes the log and frees the stream; `synced`: it is up to date now. Raises LeaseLost."""
    with database.connect() as connection, connection.transaction():
        leases.fence(connection, run)
        log = sync_logs.finish(connection, run.log_id)
        if synced and run.mode.lists:
            schedule.record_success(connection, run)
        leases.release(connection, run)
    return log


def fail(database: Database, run: Run, error: BaseException, *, clocked: bool = True) -> SyncLog:
    """Closes the log, frees the stream, and says when it is tried again: FAILED, or CANCELLED when a person stopped it.
    `clocked`: the schedule reckons with it.

    A run that lost its lease closes nothing: its successor did.
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
            log = sync_logs.cancel(connection, run.log_id, "The run was stopped by hand")
        clear(connection, run.entity_type, run.log_id)
        leases.release(connection, run)
    return log


def apply(database: Database, run: Run, stage: Stage = ignore_stages) -> None:
    """Takes what is pending through transform, check and load; `stage` was told of the first."""
    transformed = transform(database, run)
    stage("check", f"{transformed.staged} staged")
    checked = check(database, run)
    stage("load", f"{checked.rejected} rejected")
    loaded = load(database, run)
    stage("", f"{loaded.loaded} loaded")


def run_and_close(database: Database, run: Run, work: Callable[[], None], *, clocked: bool = True) -> SyncLog:
    """Does the work of a run that was begun, its lease kept, and closes it as it ended. Returns the finished log.

    `clocked`: the stream's schedule reckons with how it ended.
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
