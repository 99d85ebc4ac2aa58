"""Run the steps of `softpro.runs.pipeline` for a shard of streams: the tasks of the sync and remap DAGs.

XCom carries the runs of a shard (ids, mode, epoch, counts), never rows. A stream that fails is closed in its own log
and leaves the shard; the others continue.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from uuid import UUID

from airflow.sdk.exceptions import AirflowException, AirflowSkipException

from softpro import settings
from softpro.db import integrations, schedule, sync_logs
from softpro.db.access_scopes import Scope
from softpro.db.database import Connection, Database
from softpro.db.leases import Keeper, Run, keeping
from softpro.db.schedule import Lane
from softpro.db.sync_logs import SyncLog
from softpro.entities import EntityType, Mode, Stream, SyncType
from softpro.errors import LeaseHeld, SoftProError
from softpro.mapping.rules.account import RuleBudget
from softpro.orchestration.assets import notify, notify_held
from softpro.orchestration.authority import Start
from softpro.orchestration.hook import database
from softpro.quality import holds
from softpro.quality.check import Checked
from softpro.runs import pipeline
from softpro.runs.tenant_pool import map_tenants, shards
from softpro.services import services
from softpro.sync.extract import Extracted
from softpro.sync.fetch import Fetched
from softpro.sync.transform import Transformed

SHARDS = 4
MIN_STREAMS_PER_SHARD = 8
MAX_TRANSFORMS = 4
"""The number of organizations that a task maps at the same time, each with a process for its rules."""
QUARANTINED = "quarantined"  # the form value of a remap that selects a replay of quarantined records
SLICE_SECONDS = {Lane.FRESH: 60.0, Lane.BACKLOG: 240.0}

log = logging.getLogger(__name__)

Shard = list[dict[str, Any]]
T = TypeVar("T")


def pack_run(run: Run) -> dict[str, Any]:
    """Convert a run to the JSON object that XCom carries between the tasks."""
    return {
        "log_id": str(run.log_id),
        **run.stream.as_json(),
        "mode": run.mode.value,
        "epoch": run.epoch,
        "records": run.records,
    }


def unpack_run(run: dict[str, Any]) -> Run:
    """Convert a JSON object from XCom to a run."""
    return Run(
        log_id=UUID(run["log_id"]),
        stream=Stream.from_json(run),
        mode=Mode(run["mode"]),
        epoch=run["epoch"],
        records=tuple(run["records"]) if run["records"] is not None else None,
    )


def plan(lane: Lane, params: dict[str, Any], start: Start) -> list[Shard]:
    """Return the shards of this run: the due streams of the lane or, if a user started it, those of the form.

    Raises:
        AirflowSkipException: Nothing is due.
        AirflowException: The form names an organization that has nothing to sync or that the user may not see, or the
            user starts too many runs.
    """
    if start.manual and lane is Lane.BACKLOG:
        raise AirflowSkipException("A run started by a user uses only the fresh lane")
    with database().connect() as connection:
        if start.manual:
            streams = requested_streams(connection, params, start.scope(connection))
            if params["records"]:
                return _shard_of_records(streams, params["records"])
            return _to_shards(connection, streams)
        sync_logs.cancel_stale(connection)
        return _to_shards(connection, schedule.due(connection, lane))


def plan_remap(params: dict[str, Any], start: Start) -> list[Shard]:
    """Return the shards of a remap: the streams of the form.

    Raises:
        AirflowException: The form contradicts itself, names an organization that has no such stream or that the user
            may not see, or the user starts too many runs.
    """
    if params["cases"] and params["records"] != QUARANTINED:
        raise AirflowException(f"Cases are only for quarantined records: set Records to {QUARANTINED}")
    with database().connect() as connection:
        return _to_shards(connection, requested_streams(connection, params, start.scope(connection)))


def extract(shard: Shard, lane: Lane, mode: Mode, run_id: str, *, manual: bool) -> Shard:
    """Begin a run for each stream of the shard, and fetch a slice. Tenants run in parallel, their streams in order."""
    services_ = services(database())
    database_ = services_.database
    sync_type = SyncType.MANUAL if manual else SyncType.SCHEDULED

    def fetch(streams: list[dict[str, Any]]) -> Shard:
        deadline = time.monotonic() + SLICE_SECONDS[lane]

        def slice_of(run: Run) -> Extracted | Fetched:
            if run.records is None:
                return pipeline.extract(services_, run, seconds=deadline - time.monotonic())
            return pipeline.fetch_all(services_, run, seconds=deadline - time.monotonic())

        runs = (_begin(database_, stream, mode, sync_type, run_id) for stream in streams)
        return [pack_run(run) for run in runs if run and _step(database_, keeper, run, slice_of)]

    with keeping(database_) as keeper:
        return map_tenants(shard, fetch, lambda stream: stream["integration_id"])


def mark_pending(shard: Shard, run_id: str, params: dict[str, Any]) -> Shard:
    """Begin a remap or replay for each stream of the shard, and mark its records as pending.

    The form selects all records, all quarantined records, or some quarantine cases.
    """
    database_ = database()
    mode = Mode.REPLAY if params["records"] == QUARANTINED else Mode.REMAP
    cases = [UUID(case) for case in params["cases"]] or None

    def step(run: Run) -> object:
        if mode is Mode.REPLAY:
            return pipeline.mark_cases(database_, run, cases)
        return pipeline.mark(database_, run)

    begun = (_begin(database_, stream, mode, SyncType.MANUAL, run_id) for stream in shard)
    with keeping(database_) as keeper:
        return [pack_run(run) for run in begun if run and _step(database_, keeper, run, step)]


def transform(shard: Shard) -> Shard:
    """Map the pending records of the shard's streams into staging.

    Tenants run in parallel, each within a time slice. What their rules have no time for stays pending.
    """
    database_ = database()

    def map_records(runs: list[Run]) -> Shard:
        deadline = time.monotonic() + pipeline.RULE_SLICE_SECONDS

        def step(run: Run) -> Transformed:
            return pipeline.transform(database_, run, RuleBudget(deadline=deadline))

        return [pack_run(run) for run in runs if _step(database_, keeper, run, step)]

    with _keeping_leases(database_, shard) as (keeper, runs):
        return map_tenants(runs, map_records, lambda run: run.integration_id, MAX_TRANSFORMS)


def check(shard: Shard, outlet_events: Any) -> Shard:
    """Run the quality suites over the staged records of the shard, and emit an event for held batches."""
    database_ = database()

    def check_run(run: Run) -> Checked:
        # Loaded here, so that a wrong setting fails each run in its own log.
        (quality,) = settings.load(settings.QualitySettings)
        return pipeline.check(database_, run, quality)

    with _keeping_leases(database_, shard) as (keeper, runs):
        checked = [pack_run(run) for run in runs if _step(database_, keeper, run, check_run)]
    with database_.connect() as connection:
        notify_held(outlet_events, holds.count_unasked(connection, [UUID(run["log_id"]) for run in shard]))
    return checked


def load(shard: Shard, outlet_events: Any) -> None:
    """Merge the shard's staging into the roi tables, close the runs, and emit events for changed tables."""
    database_ = database()

    def load_and_finish(run: Run) -> None:
        pipeline.load(database_, run)
        pipeline.finish(database_, run)

    with _keeping_leases(database_, shard) as (keeper, runs):
        for run in runs:
            _step(database_, keeper, run, load_and_finish)
    with database_.connect() as connection:
        entries = [sync_logs.get(connection, UUID(run["log_id"])) for run in shard]
    notify(outlet_events, entries)


def report(run_id: str, failed_tasks: Sequence[str]) -> dict[str, int]:
    """Return the totals of the run.

    Raises:
        AirflowException: A stream or a task failed, so that Airflow shows the run as failed.
    """
    database_ = database()
    with database_.connect() as connection:
        for entry in sync_logs.of_run(connection, run_id):
            if not entry.finished:
                sync_logs.fail(connection, entry.id, SoftProError("A task of the run died; the next run resumes there"))
        entries = sync_logs.of_run(connection, run_id)
    log_summaries(entries)
    failed = [
        f"{entry.organization_id} {entry.entity_type.lower()}s: {entry.error_message}"
        for entry in entries
        if entry.status == "FAILED"
    ]
    if failed or failed_tasks:
        raise AirflowException("; ".join([*failed, *(f"task {task_id} failed" for task_id in failed_tasks)]))
    return {
        "streams": len(entries),
        "fetched": sum(entry.records_fetched for entry in entries),
        "processed": sum(entry.records_processed for entry in entries),
        "failed": sum(entry.records_failed for entry in entries),
    }


def log_summaries(entries: Sequence[SyncLog]) -> None:
    """Log one line per sync log."""
    for entry in entries:
        log.info(
            "%s %s: %s, %d fetched, %d processed, %d failed, %d requests",
            entry.organization_id,
            entry.entity_type.lower(),
            entry.status,
            entry.records_fetched,
            entry.records_processed,
            entry.records_failed,
            entry.api_requests,
        )


def requested_streams(connection: Connection, params: Mapping[str, Any], scope: Scope) -> list[Stream]:
    """Return the streams that a form names, of the organizations that its user may see.

    Raises:
        AirflowException: The organization has none of them, or the user may not see it.
    """
    organization = params["organization"] or None
    wanted = [kind for kind in EntityType if kind.table in params["entity_types"]]
    streams = [
        stream
        for stream in schedule.of_organization(connection, organization, wanted)
        if scope.may_see(stream.organization_id)
    ]
    if organization and not streams:
        raise AirflowException(f"{organization} is not connected, or these entity types are switched off for it")
    return streams


def _shard_of_records(streams: Sequence[Stream], records: Sequence[str]) -> list[Shard]:
    """Return one shard with the named records of one stream.

    Raises:
        AirflowException: The form names several streams.
    """
    if len(streams) != 1:
        raise AirflowException("Records belong to one organization and one entity type: choose these, too")
    [stream] = streams
    return [[{**stream.as_json(), "records": list(records)}]]


def _to_shards(connection: Connection, streams: Sequence[Stream]) -> list[Shard]:
    """Return the shards of these streams. Those of integrations with slow mapping rules share no shard with others.

    Raises:
        AirflowSkipException: There are no streams.
    """
    if not streams:
        raise AirflowSkipException("Nothing is due")
    dealt = shards(streams, SHARDS, MIN_STREAMS_PER_SHARD, apart=schedule.with_slow_rules(connection))
    return [[stream.as_json() for stream in shard] for shard in dealt]


def _begin(database_: Database, planned: dict[str, Any], mode: Mode, sync_type: SyncType, run_id: str) -> Run | None:
    """Begin a run over the stream, or over the records that the plan names.

    Returns:
        The run, or None if it cannot begin now. The stream's log holds the reason.
    """
    records = planned.get("records")
    mode = mode if records is None else Mode.RECORDS
    try:
        stream = Stream.from_json(planned)
        with database_.connect() as connection:
            integration = integrations.get(connection, stream.integration_id)
        try:
            return pipeline.begin(
                database_,
                integration,
                stream.entity_type,
                mode=mode,
                sync_type=sync_type,
                run_id=run_id,
                records=records,
            )
        except SoftProError as refused:
            log.warning("%s", refused)
            with database_.connect() as connection:
                log_id = sync_logs.announce(connection, stream, run_id=run_id, mode=mode, sync_type=sync_type)
                close = sync_logs.cancel if isinstance(refused, LeaseHeld) else sync_logs.fail
                close(connection, log_id, refused)
            return None
    except Exception:
        log.exception("Cannot begin a run of %s of integration %s", planned["entity_type"], planned["integration_id"])
        return None


@contextmanager
def _keeping_leases(database_: Database, shard: Shard) -> Iterator[tuple[Keeper, list[Run]]]:
    """Keep the leases of the shard's runs for the whole task, because each waits while another is processed."""
    with keeping(database_) as keeper:
        yield keeper, [run for run in map(unpack_run, shard) if _step(database_, keeper, run, lambda run: True)]


def _step(database_: Database, keeper: Keeper, run: Run, step: Callable[[Run], T]) -> T | None:
    """Run a step under the run's lease and return its result, or close the run as FAILED and return None."""
    try:
        keeper.keep(run)
        return step(run)
    except Exception as error:
        # A tenant that fails does not stop the others. Its own log holds the error.
        log.exception("%s of %s failed", run.entity_type.table, run.organization_id)
        try:
            pipeline.fail(database_, run, error)
        except Exception:
            log.exception(
                "%s of %s could not be closed; the next run closes it", run.entity_type.table, run.organization_id
            )
        return None
