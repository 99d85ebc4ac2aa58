"""Define the tasks, form fields and defaults that DAGs share.

The tasks import `softpro.orchestration.sync` only when they run, so that DAG files parse quickly.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, get_current_context, task

from softpro.entities import EntityType
from softpro.orchestration.assets import CHANGED, HELD

DEFAULT_ARGS = {
    "owner": "roi-systems",
    "pool": "default_pool",
    "retries": 1,
    "retry_delay": timedelta(seconds=10),
    "execution_timeout": timedelta(minutes=30),
}

NO_BACKFILL: Any = ("scheduled", "manual", "operator_triggered", "asset_triggered")
"""The run types of DAGs that read what is due now. A backfill of dates would repeat that for each date."""

STREAM_PARAMS = {
    "organization": Param(
        None,
        type=["null", "string"],
        title="Organization",
        description="The organization's id in ROI Systems. Empty: every connected organization, due or not.",
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
}


@task
def transform(shard: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Map pending records in `raw` into `staging`, by each organization's mappings."""
    from softpro.orchestration import sync

    return sync.transform(shard)


@task(outlets=[HELD])
def check(shard: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run the Great Expectations suites over staged records.

    Rejects invalid records, counts warnings, and holds batches that look wrong as a whole.
    """
    from softpro.orchestration import sync

    return sync.check(shard, get_current_context()["outlet_events"])


@task(outlets=[CHANGED])
def load(shard: list[dict[str, Any]]) -> None:
    """Merge changed rows of staging into `roi`, quarantine rejected records, and close the logs."""
    from softpro.orchestration import sync

    sync.load(shard, get_current_context()["outlet_events"])


@task(trigger_rule="all_done", retries=0)
def report() -> dict[str, int]:
    """Summarize the run, and fail if a stream or a task failed."""
    from softpro.orchestration import sync

    context = get_current_context()
    run_id = context["run_id"]
    states = context["ti"].get_task_states(dag_id=context["dag"].dag_id, run_ids=[run_id])[run_id]
    return sync.report(run_id, [task_id for task_id, state in states.items() if state == "failed"])
