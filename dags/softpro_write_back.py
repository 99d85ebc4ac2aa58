"""ROI Systems → SoftPro 360, as soon as somebody changes a row of `roi`. Wiring only."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import Param, dag, get_current_context, task

from softpro.orchestration.assets import CHANGED
from softpro.orchestration.steps import DEFAULTS, STREAMS
from softpro.orchestration.triggers import OUTBOX

DOC = """
### Sends to SoftPro what was changed in `roi`

Triggers on the `roi` tables note each change that the sync did not make, field by field, in `softpro.outbox`, and
this DAG is woken: it sends the fields that changed and that a mapping sends, record by record, each only if nobody has
changed it at SoftPro meanwhile; else both sides are brought together first.

| step | does |
|---|---|
| **write_back** | sends what is due, tenants side by side, for 60 s; what is due then is the next run's |

The run stays green where single records can't be sent: they are tried again, each time after a longer wait, or wait
for a person or the next change; the sync logs and `python -m softpro push ORG --dry-run` say why. What both sides
changed is decided by the organization's conflict strategy; under MANUAL_REVIEW a person decides.

Organizations that are not connected, or switched off, wait; so do entity types that are switched off.

It is woken by the asset `softpro://outbox`, whose trigger listens to PostgreSQL and looks every 30 s by itself.
Nothing is lost while it is paused or away. *Trigger* runs it at once: for all that is due, for one organization
(switched off or not), or for some records, due or not.

**Without Airflow**: `python -m softpro push ORG`. **Results**: `softpro.sync_logs` of mode `push`.
"""

PARAMS = {
    **STREAMS,
    "organization": Param(
        None,
        type=["null", "string"],
        title="Organization",
        description="Its id in ROI Systems. Empty: every organization with something to send.",
        maxLength=128,
    ),
    "records": Param(
        [],
        type="array",
        title="Records",
        description="Ids of roi rows, of one organization and entity type: these alone, due or not. Empty: all.",
        items={"type": "string", "format": "uuid"},
        maxItems=100,
    ),
}


@task(outlets=[CHANGED])
def write_back() -> dict[str, int]:
    """Sends to SoftPro what was changed in `roi` and is due."""
    from softpro.orchestration import write_back

    context = get_current_context()
    return write_back.write_back(context["params"], context["run_id"], context["outlet_events"])


@dag(
    schedule=[OUTBOX],
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params=PARAMS,
    doc_md=DOC,
    tags=["softpro", "write-back"],
    default_args=DEFAULTS,
)
def softpro_write_back() -> None:
    write_back()


softpro_write_back()
