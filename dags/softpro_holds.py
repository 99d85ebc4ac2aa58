"""Batches that were not loaded, because something is wrong with them as a whole: asks people. Wiring only."""

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
from softpro.orchestration.steps import DEFAULTS

DOC = """
### Asks people about batches that are held

A sync loads nothing of a batch in which keys are there twice, a column is suddenly null in all records, or, in a full
sync, the list at SoftPro is much shorter than what is here. It fails, tries again later, and tells this DAG, which asks
a person. No sync waits for the answer.

| step | does |
|---|---|
| **waiting** | which batches wait for a person whom nobody has asked yet |
| **decision.ask** | asks about each of them: *Required Actions* shows what was found |
| **decision.carry_out** | notes the answer; skipped where it came too late, or nobody answered |

*Approve*: the next run loads the batch. *Reject*: it is not loaded; its records go to quarantine. Without an answer
within three days the batch waits on, and the daily run asks again; so it does about holds of the command line.

**Without Airflow**: `python -m softpro holds`. **Results**: the table `softpro.holds`.
"""

ANSWER_WITHIN = timedelta(days=3)


@task(retries=0)
def waiting() -> list[dict[str, Any]]:
    """Which batches wait for a person. Skipped where none does, or all are asked about already."""
    from softpro.orchestration import holds as tasks

    return tasks.waiting(get_current_context()["run_id"], ANSWER_WITHIN)


@task.sensor(mode="reschedule", poke_interval=15, timeout=3600)
def carry_out(hold_id: str, integration_id: str, answer: Any) -> PokeReturnValue:
    """Notes what a person decided. Skipped where the hold was decided or cleared meanwhile, or nobody answered."""
    from softpro.orchestration import holds as tasks

    return PokeReturnValue(is_done=tasks.carry_out(hold_id, integration_id, answer))


@task_group
def decision(hold_id: Any, integration_id: Any, subject: Any, body: Any) -> None:
    """About one stream's batch."""
    # Not an ApprovalOperator: in a mapped group a rejected one lets the next task run, which has to note the answer.
    ask = HITLOperator(
        task_id="ask",
        subject=subject,
        body=body,
        options=["Approve", "Reject"],
        defaults="Reject",
        params={"reason": Param("", type="string", title="Reason", maxLength=1_000)},
        response_timeout=ANSWER_WITHIN,
        doc_md="Asks a person whether a batch that is held may be loaded; without an answer it waits on.",
    )
    carry_out(hold_id, integration_id, ask.output)


@dag(
    schedule=AssetOrTimeSchedule(timetable=CronTriggerTimetable("29 5 * * *", timezone="UTC"), assets=[HOLDS]),
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=200,  # each lasts as long as its questions: few would block new ones
    doc_md=DOC,
    tags=["softpro", "quality"],
    default_args=DEFAULTS,
)
def softpro_holds() -> None:
    asked: Any = waiting()
    decision.expand_kwargs(asked)


softpro_holds()
