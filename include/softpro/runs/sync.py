"""Run the steps of `softpro.runs.pipeline` over one stream, one after the other to the end."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from softpro.db.database import Database
from softpro.db.integrations import Integration
from softpro.db.sync_logs import SyncLog
from softpro.entities import EntityType, Mode, SyncType
from softpro.errors import UsageError
from softpro.mapping.rules.account import RuleBudget
from softpro.runs.background_load import background_load
from softpro.runs.pipeline import (
    SLICE_SECONDS,
    Stage,
    apply,
    begin,
    extract,
    fetch_all,
    ignore_stages,
    mark,
    mark_cases,
    run_and_close,
)
from softpro.services import Services
from softpro.settings import QualitySettings
from softpro.sync.extract import Progress


def sync(
    services: Services,
    integration: Integration,
    entity_type: EntityType,
    *,
    mode: Mode,
    sync_type: SyncType,
    run_id: str,
    progress: Progress = lambda fetched, total: None,
    stage: Stage = ignore_stages,
) -> SyncLog:
    """Run all steps, slice by slice, until the stream is up to date, and return the finished log.

    After each slice, and after many records, a background thread transforms, checks and loads the pending records
    while this one fetches more. An error ends the run as FAILED in the log that is returned.

    Raises:
        LeaseHeld: another run works on the stream.
    """
    database = services.database
    run = begin(database, integration, entity_type, mode=mode, sync_type=sync_type, run_id=run_id)

    def work() -> None:
        budget = RuleBudget()  # of all parts together
        with background_load(lambda: apply(database, run, services.quality, budget=budget)) as parts:
            fetched, first, backlog = 0, True, True

            def advanced(in_slice: int, total: int) -> None:
                parts.follow(fetched + in_slice, fetched + total)
                progress(in_slice, total)

            while backlog:
                stage("extract", "")
                extracted = extract(
                    services,
                    run,
                    first_slice=first,
                    progress=advanced,
                    waiting=lambda seconds: stage("extract", f"waits for the rate limit: {seconds:.0f} s left"),
                )
                fetched, first, backlog = fetched + extracted.fetched, False, extracted.backlog
                if backlog:
                    parts.begin(fetched)
            stage("transform", f"{fetched} fetched")
            parts.wait()
        apply(database, run, services.quality, stage, budget)

    return run_and_close(database, run, work)


def sync_records(
    services: Services,
    integration: Integration,
    entity_type: EntityType,
    records: Sequence[str],
    *,
    sync_type: SyncType,
    run_id: str,
    stage: Stage = ignore_stages,
) -> SyncLog:
    """Fetch the records of these ids, and map, check and load them even if they did not change.

    It takes no lease, so it runs in parallel with other runs. It ends as `sync` does.
    """
    database = services.database
    run = begin(
        database, integration, entity_type, mode=Mode.RECORDS, sync_type=sync_type, run_id=run_id, records=records
    )

    def work() -> None:
        stage("fetch", "")
        fetched = fetch_all(services, run, seconds=SLICE_SECONDS * max(1, len(records) // 50))
        stage("transform", f"{len(fetched.landed)} fetched")
        apply(database, run, services.quality, stage)

    return run_and_close(database, run, work)


def remap(
    database: Database,
    integration: Integration,
    entity_type: EntityType,
    *,
    sync_type: SyncType,
    run_id: str,
    quality: QualitySettings,
    stage: Stage = ignore_stages,
) -> SyncLog:
    """Map, check and load every stored record again, without asking SoftPro. It ends as `sync` does."""
    run = begin(database, integration, entity_type, mode=Mode.REMAP, sync_type=sync_type, run_id=run_id)

    def work() -> None:
        stage("mark", "")
        marked = mark(database, run)
        stage("transform", f"{marked.records} marked")
        apply(database, run, quality, stage)

    return run_and_close(database, run, work)


def replay(
    database: Database,
    integration: Integration,
    entity_type: EntityType,
    *,
    cases: Collection[UUID] | None = None,
    sync_type: SyncType,
    run_id: str,
    quality: QualitySettings,
    stage: Stage = ignore_stages,
) -> SyncLog:
    """Map, check and load the records of open quarantine cases again, without asking SoftPro.

    It ends as `sync` does. The log's reason says how many cases were left out because their records could not land.

    Args:
        cases: the cases to replay; None for all of them.
    """
    run = begin(database, integration, entity_type, mode=Mode.REPLAY, sync_type=sync_type, run_id=run_id)

    def work() -> None:
        stage("mark", "")
        marked = mark_cases(database, run, cases)
        stage("transform", f"{marked.records} marked")
        apply(database, run, quality, stage)

    return run_and_close(database, run, work)


def organization_streams(integration: Integration, wanted: list[EntityType] | None) -> list[EntityType]:
    """Return the entity types to sync: the wanted ones or all enabled ones. Raises UsageError for a disabled one."""
    enabled = integration.entity_types()
    off = [entity_type.table for entity_type in wanted or [] if entity_type not in enabled]
    if off:
        raise UsageError(f"The sync of {', '.join(off)} is switched off for {integration.organization_id}")
    return [entity_type for entity_type in enabled if wanted is None or entity_type in wanted]
