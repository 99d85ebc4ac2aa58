"""Ask users about batches that were not loaded because they are wrong as a whole. Wiring only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import (
    AssetOrTimeSchedule,
    CronTriggerTimetable,
    Param,
    PokeReturnValue,
    dag,
    get_current_context,
    task,
    task_group,
)

from softpro.orchestration.assets import HOLDS
from softpro.orchestration.shared_tasks import DEFAULT_ARGS, NO_BACKFILL

DOC = """
### Asks users about held batches

A sync loads nothing of a batch if it has duplicate keys or a column that is suddenly null in all records. In a full
sync it also loads nothing if the list at SoftPro is much shorter than the table. The sync fails, retries later and
notifies this DAG, which asks a user. No sync waits for the answer.

| step | does |
|---|---|
| **waiting** | finds the batches that wait for a decision and were not asked about yet |
| **decision.ask** | asks about each of them: *Required Actions* shows what was found |
| **decision.carry_out** | records the answer; skipped if it came too late or never |

*Approve*: the next run loads the batch. *Reject*: the batch is not loaded, and its records go to quarantine. Without an
answer within three days the batch stays held, and the daily run asks again. The daily run also asks about holds that
the command line created.

**Without Airflow**: `python -m softpro holds`. **Results**: the table `softpro.holds`.
"""

ANSWER_WITHIN = timedelta(days=3)


@task(retries=0)
def waiting() -> list[dict[str, Any]]:
    """Return the batches that wait for a decision. Skipped if there is none, or all were asked about already."""
    from softpro.orchestration import holds as tasks

    return tasks.questions(get_current_context()["run_id"], ANSWER_WITHIN)


@task.sensor(mode="reschedule", poke_interval=15, timeout=3600)
def carry_out(hold_id: str, integration_id: str, answer: Any) -> PokeReturnValue:
    """Record the decision. Skipped if the hold was decided or cleared since, or without an answer."""
    from softpro.orchestration import holds as tasks

    return PokeReturnValue(is_done=tasks.apply_answer(hold_id, integration_id, answer))


@task_group
def decision(hold_id: Any, integration_id: Any, subject: Any, body: Any) -> None:
    """Ask about one stream's batch and record the answer."""
    # Not an ApprovalOperator: in a mapped group the next task runs after a rejection too, and must record the answer.
    ask = HITLOperator(
        task_id="ask",
        subject=subject,
        body=body,
        options=["Approve", "Reject"],
        defaults="Reject",
        params={"reason": Param("", type="string", title="Reason", maxLength=1_000)},
        response_timeout=ANSWER_WITHIN,
        doc_md="Asks a user whether a held batch may be loaded. Without an answer it stays held.",
    )
    carry_out(hold_id, integration_id, ask.output)


@dag(
    schedule=AssetOrTimeSchedule(timetable=CronTriggerTimetable("29 5 * * *", timezone="UTC"), assets=[HOLDS]),
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    allowed_run_types=NO_BACKFILL,
    max_active_runs=200,  # each lasts as long as its questions, so a low limit would block new ones
    doc_md=DOC,
    tags=["softpro", "quality"],
    default_args=DEFAULT_ARGS,
)
def softpro_holds() -> None:
    asked: Any = waiting()
    decision.expand_kwargs(asked)


softpro_holds()
