"""What the tasks of the sync DAG do: the steps of `softpro.runs.pipeline`, for a shard of streams at a time.

XCom carries the runs of a shard (ids, mode, epoch, counts), never rows. A tenant that fails is closed in its own log
and leaves the shard; the others go on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from uuid import UUID

from airflow.sdk.exceptions import AirflowException, AirflowSkipException

from softpro import settings
from softpro.db import integrations, schedule, sync_logs
from softpro.db.database import Connection, Database
from softpro.db.leases import Keeper, Run, keeping
from softpro.db.schedule import Lane
from softpro.db.sync_logs import SyncLog
from softpro.entities import EntityType, Mode, Stream, SyncType
from softpro.errors import LeaseHeld, SoftProError
from softpro.orchestration.assets import notify, notify_held
from softpro.orchestration.hook import database
from softpro.quality import holds
from softpro.runs import pipeline
from softpro.runs.tenant_pool import map_tenants, shards
from softpro.services import services
from softpro.sync.extract import Extracted
from softpro.sync.fetch import Fetched

SHARDS = 4
MIN_STREAMS_PER_SHARD = 8
QUARANTINED = "quarantined"  # what the form of a remap calls the records that a replay takes
SLICE_SECONDS = {Lane.FRESH: 60.0, Lane.BACKLOG: 240.0}

log = logging.getLogger(__name__)

Shard = list[dict[str, Any]]
T = TypeVar("T")


def pack_run(run: Run) -> dict[str, Any]:
    """A run on its way through the shard's tasks, as XCom carries it."""
    return {
        "log_id": str(run.log_id),
        **run.stream.as_json(),
        "mode": run.mode.value,
        "epoch": run.epoch,
        "records": run.records,
    }


def unpack_run(run: dict[str, Any]) -> Run:
    return Run(
        log_id=UUID(run["log_id"]),
        stream=Stream.from_json(run),
        mode=Mode(run["mode"]),
        epoch=run["epoch"],
        records=tuple(run["records"]) if run["records"] is not None else None,
    )


def plan(lane: Lane, params: dict[str, Any], *, manual: bool) -> list[Shard]:
    """The shards of this run: what is due in the lane or, when a person began it, what the form asks for.

    Skips where there is nothing to do. Raises AirflowException for an organization that has nothing to sync.
    """
    if manual and lane is Lane.BACKLOG:
        raise AirflowSkipException("A run that a person began goes through the fresh lane")
    with database().connect() as connection:
        if manual:
            streams = _requested_streams(connection, params)
            return _shard_of_records(streams, params["records"]) if params["records"] else _to_shards(streams)
        sync_logs.cancel_stale(connection)
        return _to_shards(schedule.due(connection, lane))


def plan_remap(params: dict[str, Any]) -> list[Shard]:
    """The shards of a run that maps again what was fetched: what the form asks for. Raises AirflowException."""
    if params["cases"] and params["records"] != QUARANTINED:
        raise AirflowException(f"Cases are those of the quarantine: choose the records that are {QUARANTINED}")
    with database().connect() as connection:
        return _to_shards(_requested_streams(connection, params))


def extract(shard: Shard, lane: Lane, mode: Mode, run_id: str, *, manual: bool) -> Shard:
    """Begins a run for each stream of the shard and fetches a slice; tenants side by side, a tenant's in order."""
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
    """Begins a run for each stream of the shard that maps again what the form asks for, and makes that pending:
    everything, what is in quarantine, or some cases of it."""
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
    """Maps what the shard's streams have pending into staging."""
    database_ = database()
    with _keeping_leases(database_, shard) as (keeper, runs):
        return [
            pack_run(run)
            for run in runs
            if _step(database_, keeper, run, lambda run: pipeline.transform(database_, run))
        ]


def check(shard: Shard, outlet_events: Any) -> Shard:
    """Runs the quality suites over what the shard staged, and tells where a batch waits for a person."""
    database_ = database()
    (quality,) = settings.load(settings.QualitySettings)
    with _keeping_leases(database_, shard) as (keeper, runs):
        checked = [
            pack_run(run)
            for run in runs
            if _step(database_, keeper, run, lambda run: pipeline.check(database_, run, quality))
        ]
    with database_.connect() as connection:
        notify_held(outlet_events, holds.count_unasked(connection, [UUID(run["log_id"]) for run in shard]))
    return checked


def load(shard: Shard, outlet_events: Any) -> None:
    """Merges the shard's staging into the roi tables, closes the runs, and tells the assets that changed."""
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
    """Sums up the run. Raises AirflowException, so that the run shows red, where a stream or a task failed."""
    database_ = database()
    with database_.connect() as connection:
        for entry in sync_logs.of_run(connection, run_id):
            if not entry.finished:
                sync_logs.fail(
                    connection, entry.id, SoftProError("A task of the run died; the next run goes on from there")
                )
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
    """A line in the task's log for each sync log."""
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


def _requested_streams(connection: Connection, params: dict[str, Any]) -> list[Stream]:
    """The streams that a form names. Raises AirflowException for an organization that has none of them."""
    organization = params["organization"] or None
    wanted = [kind for kind in EntityType if kind.table in params["entity_types"]]
    streams = schedule.of_organization(connection, organization, wanted)
    if organization and not streams:
        raise AirflowException(f"{organization} is not connected, or these entity types are switched off for it")
    return streams


def _shard_of_records(streams: Sequence[Stream], records: Sequence[str]) -> list[Shard]:
    """One shard with the records of one stream. Raises AirflowException where the form names several streams."""
    if len(streams) != 1:
        raise AirflowException("Records are those of one organization and one entity type: choose these as well")
    [stream] = streams
    named = {**stream.as_json(), "records": list(records)}
    return [[named]]


def _to_shards(streams: Sequence[Stream]) -> list[Shard]:
    if not streams:
        raise AirflowSkipException("Nothing is due")
    return [[stream.as_json() for stream in shard] for shard in shards(streams, SHARDS, MIN_STREAMS_PER_SHARD)]


def _begin(database_: Database, planned: dict[str, Any], mode: Mode, sync_type: SyncType, run_id: str) -> Run | None:
    """The stream's run, or None where it can't begin now; why stands in its log. One over the records that it names,
    if it does."""
    stream, records = Stream.from_json(planned), planned.get("records")
    entity_type = stream.entity_type
    mode = mode if records is None else Mode.RECORDS
    try:
        with database_.connect() as connection:
            integration = integrations.get(connection, stream.integration_id)
        try:
            return pipeline.begin(
                database_, integration, entity_type, mode=mode, sync_type=sync_type, run_id=run_id, records=records
            )
        except SoftProError as refused:
            log.warning("%s", refused)
            with database_.connect() as connection:
                log_id = sync_logs.announce(connection, stream, run_id=run_id, mode=mode, sync_type=sync_type)
                close = sync_logs.cancel if isinstance(refused, LeaseHeld) else sync_logs.fail
                close(connection, log_id, refused)
            return None
    except Exception:
        log.exception("The %s of integration %s can't begin", entity_type.table, stream.integration_id)
        return None


@contextmanager
def _keeping_leases(database_: Database, shard: Shard) -> Iterator[tuple[Keeper, list[Run]]]:
    """The shard's runs with their leases kept for the whole task: while one is worked on, the others wait."""
    with keeping(database_) as keeper:
        yield keeper, [run for run in map(unpack_run, shard) if _step(database_, keeper, run, lambda run: True)]


def _step(database_: Database, keeper: Keeper, run: Run, step: Callable[[Run], T]) -> T | None:
    """The step's result under the run's lease; where it raises, the run is closed as FAILED and None comes back."""
    try:
        keeper.keep(run)
        return step(run)
    except Exception as error:
        # One bad tenant stops nobody: its own log says what happened, and the others go on.
        log.exception("%s of %s failed", run.entity_type.table, run.organization_id)
        try:
            pipeline.fail(database_, run, error)
        except Exception:
            log.exception(
                "%s of %s could not be closed; the next run does it", run.entity_type.table, run.organization_id
            )
        return None
