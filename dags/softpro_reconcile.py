"""What SoftPro has no more, and where both sides differ: every week, for every stream. Wiring only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Context, Param, PokeReturnValue, chain, dag, get_current_context, task, task_group

from softpro.orchestration.assets import CHANGED
from softpro.orchestration.steps import DEFAULTS, STREAMS

DOC = """
### Deletes here what SoftPro 360 has no more, and heals what differs

Every week each stream (an organization's entity type) is listed as a whole and compared with what is here. What
differs is landed and loaded. What the list does not hold is asked for, record by record: only what answers 404 twice,
some seconds apart, is deleted, and softly: `deleted_at` is set, and the history keeps the row.

| step | does |
|---|---|
| **plan** | deals the streams to a few shards |
| **reconcile** | lists, compares, heals, asks, deletes; in slices, so that the streams' own syncs have their turn |
| **report** | sums up; red when a stream failed, and its log says why. It waits for no person |
| **waiting** | which streams have more to delete than their limit allows |
| **approval.approve** | asks a person about each of them: *Required Actions* shows how many records, and some ids |
| **approval.carry_out** | deletes what was approved, after one more look where that took an hour; else skipped |

A mass delete is more than 5 % of a stream's records, or more than 500 (`SOFTPRO_DELETE_LIMIT_PERCENT`,
`SOFTPRO_DELETE_LIMIT_RECORDS`, or the form). Rejected, or without an answer within three days, nothing is deleted.

**By hand**: *Trigger* opens a form: organization, entity types, limits. Without Airflow: `python -m softpro reconcile`.
**Results**: the tables `softpro.audits` and `softpro.audit_differences`.
"""

PARAMS = {
    **STREAMS,
    "limit_percent": Param(
        None,
        type=["null", "number"],
        title="Limit in percent",
        description="More than this share of a stream's records is deleted only when a person approves. "
        "Empty: SOFTPRO_DELETE_LIMIT_PERCENT.",
        minimum=0,
        maximum=100,
    ),
    "limit_records": Param(
        None,
        type=["null", "integer"],
        title="Limit in records",
        description="More than so many are deleted only when a person approves. Empty: SOFTPRO_DELETE_LIMIT_RECORDS.",
        minimum=0,
    ),
}

# A poke is a slice of work. Between two, the task holds no worker, and the streams' syncs have their turn.
SLICES: dict[str, Any] = {"mode": "reschedule", "poke_interval": 15, "timeout": 7 * 3600}
ANSWER_WITHIN = timedelta(days=3)


@task(retries=0)
def plan() -> list[list[dict[str, Any]]]:
    """Deals the streams to a few shards. Skipped where there is none."""
    from softpro.orchestration import reconcile as tasks

    context = get_current_context()
    return tasks.plan(context["params"], manual=_by_hand(context))


@task.sensor(
    **SLICES,
    outlets=[CHANGED],
    doc_md="Lists, compares, heals, asks for what the list lacks; deletes what is confirmed and below the limit.",
)
def reconcile(shard: list[dict[str, Any]]) -> PokeReturnValue:
    """A slice of work on each stream of the shard."""
    from softpro.orchestration import reconcile as tasks

    context = get_current_context()
    began_at = context["dag_run"].start_date or datetime.now(UTC)
    done = tasks.reconcile(
        shard,
        context["params"],
        context["run_id"],
        began_at,
        context["outlet_events"],
        manual=_by_hand(context),
    )
    return PokeReturnValue(is_done=done)


@task(trigger_rule="all_done", retries=0)
def report(shards: list[list[dict[str, Any]]] | None) -> list[dict[str, Any]]:
    """Sums up, stream by stream; red when a stream or a task failed."""
    from softpro.orchestration import reconcile as tasks

    context = get_current_context()
    run_id = context["run_id"]
    states = context["ti"].get_task_states(dag_id=context["dag"].dag_id, run_ids=[run_id])[run_id]
    return tasks.report(run_id, shards, [task_id for task_id, state in states.items() if state == "failed"])


@task(trigger_rule="all_done", retries=0)
def waiting() -> list[dict[str, Any]]:
    """Which streams have more to delete than their limit allows. Skipped where none has."""
    from softpro.orchestration import reconcile as tasks

    return tasks.waiting(get_current_context()["run_id"])


@task.sensor(**SLICES, outlets=[CHANGED])
def carry_out(audit_id: str, answer: Any) -> PokeReturnValue:
    """Deletes what a person approved. Skipped where it was rejected, or nobody answered in time."""
    from softpro.orchestration import reconcile as tasks

    context = get_current_context()
    done = tasks.carry_out(audit_id, answer, context["run_id"], context["outlet_events"], manual=_by_hand(context))
    return PokeReturnValue(is_done=done)


@task_group
def approval(audit_id: Any, subject: Any, body: Any) -> None:
    """Of one stream's mass delete."""
    # Not an ApprovalOperator: in a mapped group a rejected one lets the next task run, which has to note the answer.
    approve = HITLOperator(
        task_id="approve",
        subject=subject,
        body=body,
        options=["Approve", "Reject"],
        defaults="Reject",
        response_timeout=ANSWER_WITHIN,
        doc_md="Asks a person whether so many records may be deleted; without an answer in three days, they may not.",
    )
    carry_out(audit_id, approve.output)


def _by_hand(context: Context) -> bool:
    return context["dag_run"].run_type != "scheduled"


@dag(
    schedule="41 4 * * 0",
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=16,
    params=PARAMS,
    doc_md=DOC,
    tags=["softpro", "reconcile"],
    default_args=DEFAULTS,
)
def softpro_reconcile() -> None:
    shards: Any = plan()
    worked = reconcile.expand(shard=shards)
    summed_up, asked = report(shards), waiting()
    chain(worked, [summed_up, asked])
    approval.expand_kwargs(asked)


softpro_reconcile()
