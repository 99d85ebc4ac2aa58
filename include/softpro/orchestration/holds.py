"""What the tasks of the holds DAG do: a person is asked about each batch that is held, and the answer carried out."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from airflow.sdk.exceptions import AirflowSkipException

from softpro.entities import EntityType
from softpro.errors import AlreadyDecided, LeaseHeld
from softpro.orchestration.hook import database
from softpro.orchestration.reconcile import APPROVE, MARKDOWN_ESCAPES, REJECT
from softpro.quality import holds
from softpro.quality.holds import Hold

MAX_QUESTIONS = 1000
"""Holds that people are asked about in one run; Airflow maps a task to 1024 at most."""

log = logging.getLogger(__name__)


def questions(run_id: str, patience: timedelta) -> list[dict[str, Any]]:
    """What people are to be asked, a hold each: its ids, and the question's subject and body.

    A question that was left unanswered for longer than `patience` has lapsed, and is asked anew. Raises
    AirflowSkipException where there is none.
    """
    with database().connect() as connection:
        found = holds.claim_unasked(connection, run_id, patience, MAX_QUESTIONS)
    if not found:
        raise AirflowSkipException("No batch waits for a person who is not asked already")
    return [
        {
            "hold_id": str(hold.id),
            "integration_id": str(hold.integration_id),
            "subject": f"Load {hold.records} {EntityType(hold.entity_type).table} of {hold.organization_id}?",
            "body": _body(hold),
        }
        for hold in found
    ]


def apply_answer(hold_id: str, integration_id: str, answer: Mapping[str, Any]) -> bool:
    """Does what was answered. Returns whether it is done: not while a run has the records in its hands.

    Raises AirflowSkipException where nothing is to do: nobody answered, or the hold was decided or cleared meanwhile.
    """
    person = answer.get("responded_by_user")
    if not person:  # Airflow answers in a person's place when the time is over
        raise AirflowSkipException("Nobody answered in time: the batch waits on, and is asked about again")
    decide = holds.approve if answer["chosen_options"] == [APPROVE] else holds.reject
    reason = (answer.get("params_input") or {}).get("reason") or None
    try:
        with database().connect() as connection:
            hold = decide(connection, UUID(integration_id), UUID(hold_id), person["name"], reason)
    except AlreadyDecided as decided:
        raise AirflowSkipException(str(decided)) from None
    except LeaseHeld as busy:
        log.info("%s", busy)
        return False
    log.info("%s", hold.line())
    return True


def _body(hold: Hold) -> str:
    table = EntityType(hold.entity_type).table
    findings = "\n".join(f"* `{str(finding['message']).translate(MARKDOWN_ESCAPES)}`" for finding in hold.findings)
    return (
        f"A batch of {hold.records} {table} of **{hold.organization_id}** is held; nothing of it was loaded:\n\n"
        f"{findings}\n\n"
        f"**{APPROVE}**: that is right; the next run loads it. **{REJECT}**: it is not loaded; its records go to "
        "quarantine, and are loaded once SoftPro changes them, or by a replay, a full sync or a remap. No answer: it "
        "waits on. If what is wrong is mended meanwhile, the next run finds that out by itself."
    )
