"""SoftPro 360 → ROI Systems, every minute, for whoever is due. Wiring only: the work is in `softpro.runs.pipeline`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Context, Param, chain, dag, get_current_context, task, task_group

from softpro.db.schedule import Lane
from softpro.entities import LISTING, LONGEST_ID, Mode
from softpro.orchestration.steps import DEFAULTS, STREAMS, check, load, report, transform

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
| **check** | Great Expectations: certainly wrong goes to quarantine, unlikely is counted, wrong as a whole is held |
| **load** | one merge into `roi` that writes only what changed, with history |
| **report** | sums up; the run is red when a stream failed, and its log says why |

What a tenant has left after its 60 s (a first load) goes on in the **backlog** lane, so nobody waits for it.

**By hand**: *Trigger* opens a form: organization, entity types, mode; or some records alone.
**By HTTP**: `POST /api/v1/integrations/softpro/sync/transactions`.
**For analysts**: schedule a DAG on the assets `softpro://roi/transactions` and `softpro://roi/contacts`; they change
only when rows did.
"""

PARAMS = {
    **STREAMS,
    "mode": Param(
        Mode.INCREMENTAL.value,
        type="string",
        title="Mode",
        enum=[mode.value for mode in LISTING],
        description="incremental: what changed. delta: lists all, loads what differs. full: lists and maps all again.",
    ),
    "records": Param(
        [],
        type="array",
        title="Records",
        description="Ids at SoftPro, of one organization and entity type: these alone. Empty: by the mode.",
        items={"type": "string", "minLength": 1, "maxLength": LONGEST_ID},
        maxItems=100,
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
    default_args=DEFAULTS,
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
