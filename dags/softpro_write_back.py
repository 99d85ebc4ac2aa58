"""Push edits of `roi` rows to SoftPro 360 as soon as they are made. Wiring only."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import Param, dag, get_current_context, task

from softpro.orchestration.assets import CHANGED
from softpro.orchestration.shared_tasks import DEFAULT_ARGS, STREAM_PARAMS
from softpro.orchestration.triggers import OUTBOX

DOC = """
### Sends edits of `roi` to SoftPro

Triggers on the `roi` tables record each edit, field by field, in `softpro.outbox`, except the sync's own writes. This
DAG then sends the changed fields that a mapping sends, record by record. If SoftPro's record has changed too, it first
merges both sides.

| step | does |
|---|---|
| **write_back** | sends the due edits of all tenants concurrently for 60 s; the rest is left to the next run |

The run stays green if single records can't be sent. They are retried with growing waits, or wait for a user or the next
edit. The sync logs and `python -m softpro push ORG --dry-run` say why. The organization's conflict strategy decides
about fields that both sides changed; under MANUAL_REVIEW a user decides.

Edits wait while their organization is not connected or disabled, or their entity type is disabled.

The asset `softpro://outbox` wakes this DAG. Its trigger listens to PostgreSQL and also checks every 30 s. No edit is
lost while it is paused or down. *Trigger* runs it at once: for all due edits, for one organization (disabled or not),
or for single records, due or not.

**Without Airflow**: `python -m softpro push ORG`. **Results**: `softpro.sync_logs` of mode `push`.
"""

PARAMS = {
    **STREAM_PARAMS,
    "organization": Param(
        None,
        type=["null", "string"],
        title="Organization",
        description="Its id in ROI Systems. Empty: every organization with due edits.",
        maxLength=128,
    ),
    "records": Param(
        [],
        type="array",
        title="Records",
        description="Ids of roi rows of one organization and entity type. Only these are sent, due or not. Empty: all.",
        items={"type": "string", "format": "uuid"},
        maxItems=100,
    ),
}


@task(outlets=[CHANGED])
def write_back() -> dict[str, int]:
    """Push the due edits of `roi` to SoftPro."""
    from softpro.orchestration import write_back
    from softpro.orchestration.authority import Start

    context = get_current_context()
    return write_back.write_back(context["params"], Start.of(context), context["outlet_events"])


@dag(
    schedule=[OUTBOX],
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params=PARAMS,
    doc_md=DOC,
    tags=["softpro", "write-back"],
    default_args=DEFAULT_ARGS,
)
def softpro_write_back() -> None:
    write_back()


softpro_write_back()
