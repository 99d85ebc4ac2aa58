"""Process webhook events as they arrive: fetch and load the records they name. Wiring only."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

from softpro.orchestration.assets import CHANGED
from softpro.orchestration.shared_tasks import DEFAULT_ARGS
from softpro.orchestration.triggers import WEBHOOKS

DOC = """
### Brings a change at SoftPro into `roi` within seconds

SoftPro announces each change by a webhook. The API server stores it and wakes this DAG. It fetches the records that the
events name, and maps, checks and loads them as any sync does.

| step | does |
|---|---|
| **process** | processes the due events for at most 60 s; the rest is left to the next run |

Events are hints: any fetch that returns the record settles the event, also that of a sync. If many are pending, lists
fetch their records, 200 a request. A failed event is retried with growing waits. After the last attempt it is FAILED
and needs a user. The run stays green; errors are in the events and the sync logs.

The asset `softpro://webhooks` wakes this DAG. Its trigger listens to PostgreSQL and also checks every 30 s. No event is
lost while it is paused or down. *Trigger* runs it at once, for one organization or all.

**Without Airflow**: `python -m softpro webhooks process`. **Results**: the table `softpro.webhook_events`.
"""

PARAMS = {
    "organization": Param(
        None,
        type=["null", "string"],
        title="Organization",
        description="Its id in ROI Systems. Empty: every organization with due events.",
        maxLength=128,
    )
}


@task(outlets=[CHANGED])
def process() -> dict[str, Any]:
    """Fetch and load the records of the due events."""
    from softpro.orchestration import webhooks

    context = get_current_context()
    return webhooks.process(context["params"], context["run_id"], context["outlet_events"])


@dag(
    schedule=[WEBHOOKS],
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params=PARAMS,
    doc_md=DOC,
    tags=["softpro", "webhooks"],
    default_args=DEFAULT_ARGS,
)
def softpro_webhooks() -> None:
    process()


softpro_webhooks()
