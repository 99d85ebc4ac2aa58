"""SoftPro 360 → ROI Systems, every minute, for whoever is due. Wiring only: the work is in `softpro.pipeline`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Context, Param, chain, dag, get_current_context, task, task_group

from softpro.entities import EntityType, Mode
from softpro.orchestration.assets import CHANGED
from softpro.store.schedule import Lane

DOC = """
### Keeps the `roi` tables in step with SoftPro 360

Every minute it looks which organizations are due (their `sync_frequency` has passed, or the time to retry has come)
and, for each, fetches what changed, maps it, checks it and merges it. Runs may overlap: a stream that one works on is
left alone by the others.

| step | does |
|---|---|
| **plan** | deals what is due to a few shards |
| **extract** | asks SoftPro page by page, lands each page in `raw` together with the cursor; 60 s a tenant at most |
| **transform** | maps what is pending into `staging`, by the organization's mappings |
| **check** | Great Expectations: certainly wrong goes to quarantine, merely unlikely is counted |
| **load** | one merge into `roi` that writes only what changed, with history |
| **report** | sums up; the run is red when a stream failed, and its log says why |

What a tenant has left after its 60 s (a first load) goes on in the **backlog** lane, so nobody waits for it.

**By hand**: *Trigger* opens a form: organization, entity types, mode.
**By HTTP**: `POST /api/v1/integrations/softpro/sync/transactions`.
**For analysts**: schedule a DAG on the assets `softpro://roi/transactions` and `softpro://roi/contacts`; they change
only when rows did.
"""

PARAMS = {
    "organization": Param(
        None,
        type=["null", "string"],
        title="Organization",
        description="Its id in ROI Systems. Empty: every connected organization, due or not.",
        maxLength=128,
    ),
    "entity_types": Param(
        [entity_type.table for entity_type in EntityType],
        type="array",
        title="Entity types",
        examples=[entity_type.table for entity_type in EntityType],
        items={"type": "string", "enum": [entity_type.table for entity_type in EntityType]},
        minItems=1,
    ),
    "mode": Param(
        Mode.INCREMENTAL.value,
        type="string",
        title="Mode",
        enum=[mode.value for mode in Mode],
        description="incremental: what changed. delta: lists all, loads what differs. full: lists and maps all again.",
    ),
}


@task(retries=0)
def plan(lane: str) -> list[list[dict[str, Any]]]:
    """Deals the streams of this lane that are due to a few shards. Skipped where nothing is due."""
    from softpro.orchestration import tasks

    context = get_current_context()
    return tasks.plan(Lane(lane), context["params"], manual=_by_hand(context))


@task
def extract(shard: list[dict[str, Any]], lane: str) -> list[dict[str, Any]]:
    """Asks SoftPro for what changed and lands each page in `raw` together with the cursor."""
    from softpro.orchestration import tasks

    context = get_current_context()
    mode = Mode(context["params"]["mode"]) if _by_hand(context) else Mode.INCREMENTAL
    return tasks.extract(shard, Lane(lane), mode, context["run_id"], manual=_by_hand(context))


@task
def transform(shard: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Maps what is pending in `raw` into `staging`, by each organization's mappings."""
    from softpro.orchestration import tasks

    return tasks.transform(shard)


@task
def check(shard: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Runs the Great Expectations suites over what was staged; rejects the certainly wrong, counts the unlikely."""
    from softpro.orchestration import tasks

    return tasks.check(shard)


@task(outlets=[CHANGED])
def load(shard: list[dict[str, Any]]) -> None:
    """Merges staging into `roi`, writing only what changed, quarantines what was rejected, closes the logs."""
    from softpro.orchestration import tasks

    tasks.load(shard, get_current_context()["outlet_events"])


@task(trigger_rule="all_done", retries=0)
def report() -> dict[str, int]:
    """Sums up what the run did; red when a stream or a task failed."""
    from softpro.orchestration import tasks

    context = get_current_context()
    run_id = context["run_id"]
    states = context["ti"].get_task_states(dag_id=context["dag"].dag_id, run_ids=[run_id])[run_id]
    return tasks.report(run_id, [task_id for task_id, state in states.items() if state == "failed"])


def _by_hand(context: Context) -> bool:
    return context["dag_run"].run_type != "scheduled"


@dag(
    schedule="* * * * *",
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=16,
    params=PARAMS,
    doc_md=DOC,
    tags=["softpro", "sync"],
    default_args={
        "owner": "roi-systems",
        "pool": "default_pool",
        "retries": 1,
        "retry_delay": timedelta(seconds=10),
        "execution_timeout": timedelta(minutes=30),
    },
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
