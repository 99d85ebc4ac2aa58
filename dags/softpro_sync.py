"""Sync all due streams from SoftPro 360 every minute. Wiring only: the work is in `softpro.runs.pipeline`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Context, Param, chain, dag, get_current_context, task, task_group

from softpro.db.schedule import Lane
from softpro.entities import LISTING_MODES, MAX_ID_LENGTH, Mode
from softpro.orchestration.shared_tasks import DEFAULT_ARGS, NO_BACKFILL, STREAM_PARAMS, check, load, report, transform

DOC = """
### Keeps the `roi` tables in step with SoftPro 360

Every minute it finds the due organizations: their `sync_frequency` has passed, or their retry time has come. For each
it fetches the changes, maps, checks and merges them. Runs may overlap, but only one at a time works on a stream.

| step | does |
|---|---|
| **plan** | splits the due streams into a few shards |
| **extract** | fetches page by page and lands each page in `raw` with its cursor; at most 60 s a tenant |
| **transform** | maps pending records into `staging`, by the organization's mappings |
| **check** | Great Expectations: quarantines invalid records, counts unlikely ones, holds a bad batch |
| **load** | one merge into `roi` that writes only changed rows, with history |
| **report** | sums up; the run is red when a stream failed, and its log says why |

A tenant with work left after its 60 s (a first load) continues in the **backlog** lane, so other tenants do not wait.

**By hand**: *Trigger* opens a form: organization, entity types and mode, or single records.
**By HTTP**: `POST /api/v1/integrations/softpro/sync/transactions`.
**For analysts**: schedule a DAG on the assets `softpro://roi/transactions` and `softpro://roi/contacts`. They are
updated only when rows changed.
"""

PARAMS = {
    **STREAM_PARAMS,
    "mode": Param(
        Mode.INCREMENTAL.value,
        type="string",
        title="Mode",
        enum=[mode.value for mode in LISTING_MODES],
        description="incremental: changes only. delta: lists all, loads differences. full: lists and maps all again.",
    ),
    "records": Param(
        [],
        type="array",
        title="Records",
        description="SoftPro ids of one organization and entity type. Only these are synced. Empty: by the mode.",
        items={"type": "string", "minLength": 1, "maxLength": MAX_ID_LENGTH},
        maxItems=100,
    ),
}


@task(retries=0)
def plan(lane: str) -> list[list[dict[str, Any]]]:
    """Split the due streams of this lane into a few shards. Skipped if none is due."""
    from softpro.orchestration import sync
    from softpro.orchestration.authority import Start

    context = get_current_context()
    return sync.plan(Lane(lane), context["params"], Start.of(context))


@task
def extract(shard: list[dict[str, Any]], lane: str) -> list[dict[str, Any]]:
    """Fetch the changes from SoftPro and land each page in `raw` with its cursor."""
    from softpro.orchestration import sync

    context = get_current_context()
    mode = Mode(context["params"]["mode"]) if _by_hand(context) else Mode.INCREMENTAL
    return sync.extract(shard, Lane(lane), mode, context["run_id"], manual=_by_hand(context))


def _by_hand(context: Context) -> bool:
    return context["dag_run"].run_type != "scheduled"


@dag(
    schedule="* * * * *",
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    allowed_run_types=NO_BACKFILL,
    max_active_runs=16,
    params=PARAMS,
    doc_md=DOC,
    tags=["softpro", "sync"],
    default_args=DEFAULT_ARGS,
)
def softpro_sync() -> None:
    lanes = []
    for lane, extractors in ((Lane.FRESH, 8), (Lane.BACKLOG, 2)):

        @task_group(group_id=lane.value)
        def steps(shard: Any, lane: str = lane.value, extractors: int = extractors) -> None:
            fetched: Any = extract.override(max_active_tis_per_dag=extractors)(shard, lane)
            staged: Any = transform(fetched)
            good: Any = check(staged)
            load(good)

        shards = plan.override(task_id=f"plan_{lane.value}")(lane.value)
        lanes.append(steps.expand(shard=shards))
    chain(lanes, report())


softpro_sync()
