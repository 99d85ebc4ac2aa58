"""Apply changed mappings or suites to all landed or quarantined records. Wiring only."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Param, chain, dag, get_current_context, task, task_group

from softpro.orchestration.shared_tasks import DEFAULT_ARGS, STREAM_PARAMS, check, load, report, transform

DOC = """
### Maps all records again

Run it after mappings or quality suites changed, because a sync applies them only to later changes at SoftPro. It sends
no request to SoftPro. Unchanged rows are not written; changed rows get a history entry. Records that are valid now
leave the quarantine, and records that no longer are go there.

| step | does |
|---|---|
| **plan** | splits the streams of the form into a few shards |
| **mark** | marks as pending every record in `raw` that SoftPro did not delete, or those in quarantine |
| **transform** | maps pending records into `staging`, by the organization's mappings |
| **check** | Great Expectations: quarantines invalid records, counts unlikely ones, holds a bad batch |
| **load** | one merge into `roi` that writes only changed rows, with history |
| **report** | sums up; the run is red when a stream failed, and its log says why |

**By hand** only: *Trigger* opens a form, and `POST /mappings/remap` starts it for one entity type. The response to a
change of mappings says what to start. Changed rows and the log name the version of their mappings. Syncs of the same
organization wait until it has ended. With *Records* as `quarantined` it is a replay: it maps only quarantined records,
or the given cases.
"""

RECORDS = {
    "records": Param(
        "everything",
        type="string",
        enum=["everything", "quarantined"],
        title="Records",
        description="All landed records, or those in quarantine.",
    ),
    "cases": Param(
        [],
        type="array",
        title="Cases",
        description="Ids of quarantine cases to replay. Empty: all open cases.",
        items={"type": "string", "format": "uuid"},
    ),
}


@task(retries=0)
def plan() -> list[list[dict[str, Any]]]:
    """Split the streams of the form into a few shards."""
    from softpro.orchestration import sync
    from softpro.orchestration.authority import Start

    context = get_current_context()
    return sync.plan_remap(context["params"], Start.of(context))


@task
def mark(shard: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mark records as pending: those in `raw` that SoftPro did not delete, or those in quarantine."""
    from softpro.orchestration import sync

    context = get_current_context()
    return sync.mark_pending(shard, context["run_id"], context["params"])


@dag(
    schedule=None,
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=4,
    params={**STREAM_PARAMS, **RECORDS},
    doc_md=DOC,
    tags=["softpro", "mappings"],
    default_args=DEFAULT_ARGS,
)
def softpro_remap() -> None:
    @task_group(group_id="streams")
    def steps(shard: Any) -> None:
        marked: Any = mark(shard)
        staged: Any = transform(marked)
        good: Any = check(staged)
        load(good)

    chain(steps.expand(shard=plan()), report())


softpro_remap()
