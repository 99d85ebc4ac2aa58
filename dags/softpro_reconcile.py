"""Reconcile every stream with SoftPro each week: delete missing records, repair differences. Wiring only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Context, Param, PokeReturnValue, chain, dag, get_current_context, task, task_group

from softpro.orchestration.assets import CHANGED
from softpro.orchestration.shared_tasks import DEFAULT_ARGS, NO_BACKFILL, STREAM_PARAMS

DOC = """
### Deletes records that SoftPro 360 no longer has, and repairs differences

Every week each stream (an organization's entity type) is listed as a whole and compared with the tables. Differing
records are landed and loaded. Records missing in the list are requested one by one. A record is deleted only after two
404 responses, some seconds apart. The delete is soft: it sets `deleted_at`, and the history keeps the row.

| step | does |
|---|---|
| **plan** | splits the streams into a few shards |
| **reconcile** | lists, compares, repairs, confirms, deletes; in slices, so that the streams' own syncs can run |
| **report** | sums up; red when a stream failed, and its log says why. It does not wait for approvals |
| **waiting** | finds the streams with more deletes than their limit allows |
| **approval.approve** | asks a user about each of them: *Required Actions* shows how many records, and some ids |
| **approval.carry_out** | deletes the approved records; after an hour it checks them again first |

A mass delete is more than 5 % of a stream's records, or more than 500 (`SOFTPRO_DELETE_LIMIT_PERCENT`,
`SOFTPRO_DELETE_LIMIT_RECORDS`, or the form). After a rejection, or three days without an answer, nothing is deleted.

**By hand**: *Trigger* opens a form: organization, entity types, limits. Without Airflow: `python -m softpro reconcile`.
**Results**: the tables `softpro.audits` and `softpro.audit_differences`.
"""

PARAMS = {
    **STREAM_PARAMS,
    "limit_percent": Param(
        None,
        type=["null", "number"],
        title="Limit in percent",
        description="Deletes above this share of a stream's records need approval. "
        "Empty: SOFTPRO_DELETE_LIMIT_PERCENT.",
        minimum=0,
        maximum=100,
    ),
    "limit_records": Param(
        None,
        type=["null", "integer"],
        title="Limit in records",
        description="Deletes above this number of records need approval. Empty: SOFTPRO_DELETE_LIMIT_RECORDS.",
        minimum=0,
    ),
}

# Each poke does a slice of work. Between two, the task holds no worker, and the streams' syncs can run.
SLICES: dict[str, Any] = {"mode": "reschedule", "poke_interval": 15, "timeout": 7 * 3600}
ANSWER_WITHIN = timedelta(days=3)


@task(retries=0)
def plan() -> list[list[dict[str, Any]]]:
    """Split the streams into a few shards. Skipped if there is none."""
    from softpro.orchestration import reconcile as tasks
    from softpro.orchestration.authority import Start

    context = get_current_context()
    return tasks.plan(context["params"], Start.of(context))


@task.sensor(
    **SLICES,
    outlets=[CHANGED],
    doc_md="Lists, compares, repairs, requests missing records; deletes confirmed ones below the limit.",
)
def reconcile(shard: list[dict[str, Any]]) -> PokeReturnValue:
    """Do a slice of work on each stream of the shard."""
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
    """Return a summary for each stream. The task fails if a stream or a task failed."""
    from softpro.orchestration import reconcile as tasks

    context = get_current_context()
    run_id = context["run_id"]
    states = context["ti"].get_task_states(dag_id=context["dag"].dag_id, run_ids=[run_id])[run_id]
    return tasks.report(run_id, shards, [task_id for task_id, state in states.items() if state == "failed"])


@task(trigger_rule="all_done", retries=0)
def waiting() -> list[dict[str, Any]]:
    """Return the streams with more deletes than their limit allows. Skipped if there is none."""
    from softpro.orchestration import reconcile as tasks

    return tasks.questions(get_current_context()["run_id"])


@task.sensor(**SLICES, outlets=[CHANGED])
def carry_out(audit_id: str, answer: Any) -> PokeReturnValue:
    """Delete the approved records. Skipped after a rejection, or without an answer in time."""
    from softpro.orchestration import reconcile as tasks

    context = get_current_context()
    done = tasks.apply_answer(audit_id, answer, context["run_id"], context["outlet_events"], manual=_by_hand(context))
    return PokeReturnValue(is_done=done)


@task_group
def approval(audit_id: Any, subject: Any, body: Any) -> None:
    """Ask about one stream's mass delete and carry out the answer."""
    # Not an ApprovalOperator: in a mapped group the next task runs after a rejection too, and must record the answer.
    approve = HITLOperator(
        task_id="approve",
        subject=subject,
        body=body,
        options=["Approve", "Reject"],
        defaults="Reject",
        response_timeout=ANSWER_WITHIN,
        doc_md="Asks a user whether a mass delete may proceed. Without an answer in three days nothing is deleted.",
    )
    carry_out(audit_id, approve.output)


def _by_hand(context: Context) -> bool:
    return context["dag_run"].run_type != "scheduled"


@dag(
    schedule="41 4 * * 0",
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    allowed_run_types=NO_BACKFILL,
    max_active_runs=16,
    params=PARAMS,
    doc_md=DOC,
    tags=["softpro", "reconcile"],
    default_args=DEFAULT_ARGS,
)
def softpro_reconcile() -> None:
    shards: Any = plan()
    worked = reconcile.expand(shard=shards)
    summed_up, asked = report(shards), waiting()
    chain(worked, [summed_up, asked])
    approval.expand_kwargs(asked)


softpro_reconcile()
