"""Ask users about held batches, and apply their answers: the tasks of the DAG `softpro_holds`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from airflow.sdk.exceptions import AirflowSkipException

from softpro.entities import EntityType
from softpro.errors import AlreadyDecided, LeaseHeld
from softpro.orchestration.authority import acting, may_decide
from softpro.orchestration.hook import database
from softpro.orchestration.markdown import code
from softpro.orchestration.reconcile import APPROVE, REJECT
from softpro.quality import holds
from softpro.quality.holds import Hold

MAX_QUESTIONS = 1000
"""Maximum number of holds that one run asks about. Airflow limits task mapping to 1024."""

log = logging.getLogger(__name__)


def questions(run_id: str, answer_timeout: timedelta) -> list[dict[str, Any]]:
    """Return the questions to ask, one per hold: its ids, and the subject and body of the question.

    A question that is unanswered for longer than `answer_timeout` is asked again.

    Raises:
        AirflowSkipException: No hold is waiting for a question.
    """
    with database().connect() as connection:
        found = holds.claim_unasked(connection, run_id, answer_timeout, MAX_QUESTIONS)
    if not found:
        raise AirflowSkipException("Users have been asked about every waiting batch")
    return [
        {
            "hold_id": str(hold.id),
            "integration_id": str(hold.integration_id),
            "subject": f"Load {hold.records} {EntityType(hold.entity_type).table} of {code(hold.organization_id)}?",
            "body": _body(hold),
        }
        for hold in found
    ]


def apply_answer(hold_id: str, integration_id: str, answer: Mapping[str, Any]) -> bool:
    """Apply the answer, and return whether it is done. It is not while a run works on the records.

    Raises:
        AirflowSkipException: No user answered, or the hold was decided or cleared before.
    """
    user = answer.get("responded_by_user")
    if not user:  # Airflow itself answers after the timeout
        raise AirflowSkipException("No user answered in time: the batch still waits, and the question is asked again")
    decide = holds.approve if answer["chosen_options"] == [APPROVE] else holds.reject
    reason = (answer.get("params_input") or {}).get("reason") or None
    with database().connect() as connection:
        hold = holds.get(connection, UUID(integration_id), UUID(hold_id))
        if not may_decide(connection, user["name"], hold.organization_id):
            holds.ask_again(connection, hold.id)
            raise AirflowSkipException(
                f"{user['name']} may not decide about this organization: the batch still waits, and the next run asks"
            )
        try:
            with acting(user["name"]):
                hold = decide(connection, hold.integration_id, hold.id, user["name"], reason)
        except AlreadyDecided as decided:
            raise AirflowSkipException(str(decided)) from None
        except LeaseHeld as busy:
            log.info("%s", busy)
            return False
    log.info("%s", hold.line())
    return True


def _body(hold: Hold) -> str:
    table = EntityType(hold.entity_type).table
    findings = "\n".join(f"* {code(finding['message'])}" for finding in hold.findings)
    return (
        f"A batch of {hold.records} {table} of {code(hold.organization_id)} is held. Nothing of it was loaded:\n\n"
        f"{findings}\n\n"
        f"**{APPROVE}**: the batch is correct, and the next run loads it.\n\n"
        f"**{REJECT}**: the batch is not loaded, and its records go to quarantine. They are loaded once SoftPro "
        "changes them, or by a replay, a full sync or a remap.\n\n"
        "No answer: the batch still waits. If its data are corrected first, the next run loads it."
    )
