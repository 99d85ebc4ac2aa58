"""Webhook events, as soon as they come: what each hints at is fetched and loaded. Wiring only."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

from softpro.orchestration.assets import CHANGED
from softpro.orchestration.steps import DEFAULTS
from softpro.orchestration.triggers import WEBHOOKS

DOC = """
### Brings a change at SoftPro into `roi` within seconds

SoftPro tells of each change by a webhook. The API server stores it, and this DAG is woken: it fetches the records that
the events name, and maps, checks and loads them as any sync does.

| step | does |
|---|---|
| **process** | works off the events that are due, for 60 s at most; what is due then is the next run's |

Events are hints: one is settled by any fetch that returns its record, also a sync's. Where many wait, a list brings
their records, 200 a request. What fails is tried again later, each time after a longer wait; after the last try the
event is FAILED, and waits for a person. The run stays green: what went wrong stands in the events and the sync logs.

It is woken by the asset `softpro://webhooks`, whose trigger listens to PostgreSQL and looks every 30 s by itself.
Nothing is lost while it is paused or away. *Trigger* runs it at once, for one organization or all.

**Without Airflow**: `python -m softpro webhooks process`. **Results**: the table `softpro.webhook_events`.
"""

PARAMS = {
    "organization": Param(
        None,
        type=["null", "string"],
        title="Organization",
        description="Its id in ROI Systems. Empty: every organization whose events are due.",
        maxLength=128,
    )
}


@task(outlets=[CHANGED])
def process() -> dict[str, Any]:
    """Fetches and loads what the events that are due hint at."""
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
    default_args=DEFAULTS,
)
def softpro_webhooks() -> None:
    process()


softpro_webhooks()
