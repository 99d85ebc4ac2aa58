"""Changed mappings or suites, applied to everything that was ever fetched, or to what is in quarantine. Wiring only."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Param, chain, dag, get_current_context, task, task_group

from softpro.orchestration.steps import DEFAULTS, STREAMS, check, load, report, transform

DOC = """
### Maps everything again

Run it after mappings or quality suites changed: a sync applies them only to what changes at SoftPro from then on. It
asks SoftPro for nothing. Rows that come out as they were are not written; the others get a history entry; what has
become good leaves the quarantine, what has become bad goes there.

| step | does |
|---|---|
| **plan** | deals what the form asks for to a few shards |
| **mark** | makes every record in `raw` pending, except those that SoftPro deleted; or those in quarantine |
| **transform** | maps what is pending into `staging`, by the organization's mappings |
| **check** | Great Expectations: certainly wrong goes to quarantine, unlikely is counted, wrong as a whole is held |
| **load** | one merge into `roi` that writes only what comes out different, with history |
| **report** | sums up; the run is red when a stream failed, and its log says why |

**By hand** only: *Trigger* opens a form, and `POST /mappings/remap` starts it for one entity type; a change of mappings
answers with what to start. Rows that change and the log name the version of the mappings that made them. Syncs of the
same organization wait meanwhile. With *Records* as `quarantined` it is a replay: only what is in quarantine is mapped
again, or the cases whose ids are given.
"""

RECORDS = {
    "records": Param(
        "everything",
        type="string",
        enum=["everything", "quarantined"],
        title="Records",
        description="Everything that was ever fetched, or what is in quarantine.",
    ),
    "cases": Param(
        [],
        type="array",
        title="Cases",
        description="Of the quarantined: the ids of some cases. Empty: all that are open.",
        items={"type": "string", "format": "uuid"},
    ),
}


@task(retries=0)
def plan() -> list[list[dict[str, Any]]]:
    """Deals the streams that the form asks for to a few shards."""
    from softpro.orchestration import tasks

    return tasks.plan_remap(get_current_context()["params"])


@task
def mark(shard: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Makes what the form asks for pending: every record in `raw` but for deleted ones, or what is in quarantine."""
    from softpro.orchestration import tasks

    context = get_current_context()
    return tasks.mark(shard, context["run_id"], context["params"])


@dag(
    schedule=None,
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=4,
    params={**STREAMS, **RECORDS},
    doc_md=DOC,
    tags=["softpro", "mappings"],
    default_args=DEFAULTS,
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
