"""Reconcile through real DAG runs: delete below the limit, and ask for approval above it."""

from __future__ import annotations

import time
from typing import Any

import requests

from .conftest import Airflow
from .test_sync import until

SECONDS_TO_READ = 3.0
DELETED = """
select softpro_contact_id as id from roi.contacts where organization_id = %s and deleted_at is not null
union all
select softpro_order_id from roi.transactions where organization_id = %s and deleted_at is not null
order by 1
"""


def loaded(airflow: Airflow, organization: str) -> str:
    """Connect the organization, sync it once and return its vendor organization."""
    vendor = airflow.vendor_organization()
    airflow.as_user().connect(organization, organization=vendor)
    airflow.load(organization)
    return vendor


def delete_at_vendor(airflow: Airflow, vendor: str, entity: str, count: int) -> list[str]:
    """Delete `count` records at the vendor and return their ids."""
    field = {"CONTACT": "contactId", "TRANSACTION": "orderId"}[entity]
    gone = sorted(record[field] for record in airflow.export(vendor, entity))[:count]
    for record_id in gone:
        requests.delete(
            f"{airflow.stack.sandbox['url']}/sandbox/records/{record_id}",
            params={"organizationId": vendor, "entityType": entity},
            timeout=30,
        ).raise_for_status()
    return gone


def deleted(airflow: Airflow, organization: str) -> list[str]:
    return [row["id"] for row in airflow.query(DELETED, organization, organization)]


def start(airflow: Airflow, **conf: Any) -> str:
    """Begin a run as the form does and return its path."""
    run = airflow.api("POST", "/dags/softpro_reconcile/dagRuns", json={"logical_date": None, "conf": conf})
    return f"/dags/softpro_reconcile/dagRuns/{run['dag_run_id']}"


def states(airflow: Airflow, path: str) -> dict[tuple[str, int], str]:
    """Return the state of each task, by its name and map index."""
    tasks = airflow.api("GET", f"{path}/taskInstances", params={"limit": 100})["task_instances"]
    return {(task["task_id"], task["map_index"]): task["state"] for task in tasks}


def ended(airflow: Airflow, path: str) -> str:
    """Wait for the end of the run and return its state."""
    until(120, lambda: airflow.api("GET", path)["state"] in ("success", "failed"))
    state: str = airflow.api("GET", path)["state"]
    return state


def test_below_the_limit_deletes_are_done_without_asking(airflow: Airflow) -> None:
    vendor = loaded(airflow, "few-org")
    gone = [*delete_at_vendor(airflow, vendor, "CONTACT", 2), *delete_at_vendor(airflow, vendor, "TRANSACTION", 1)]

    path = start(airflow, organization="few-org")

    assert ended(airflow, path) == "success"
    assert deleted(airflow, "few-org") == gone
    found = states(airflow, path)
    assert found["reconcile", 0] == found["report", -1] == "success"
    assert found["waiting", -1] == found["approval.approve", -1] == found["approval.carry_out", -1] == "skipped"
    summary = airflow.api("GET", f"{path}/taskInstances/report/xcomEntries/return_value")["value"]
    assert {"organization_id": "few-org", "entity_type": "CONTACT", "converged": True, "deleted": 2}.items() <= next(
        line.items() for line in summary if line["entity_type"] == "CONTACT"
    )
    events = airflow.api("GET", "/assets/events", params={"source_run_id": path.rsplit("/", 1)[1]})["asset_events"]
    assert {event["uri"]: event["extra"] for event in events} == {
        "softpro://roi/contacts": {"rows": 2},
        "softpro://roi/transactions": {"rows": 1},
    }


def test_above_the_limit_it_waits_for_a_user_who_approves_one_delete_and_rejects_another(airflow: Airflow) -> None:
    vendor = loaded(airflow, "many-org")
    contacts, _orders = (
        delete_at_vendor(airflow, vendor, "CONTACT", 5),
        delete_at_vendor(airflow, vendor, "TRANSACTION", 20),
    )
    path = start(airflow, organization="many-org", limit_records=4)

    # The report exists before any answer, and nothing is deleted.
    asked = [("approval.approve", 0), ("approval.approve", 1)]
    until(120, lambda: [states(airflow, path).get(task) for task in asked] == ["awaiting_input"] * 2)
    until(120, lambda: states(airflow, path)["report", -1] == "success")
    assert deleted(airflow, "many-org") == []
    assert airflow.query("select from softpro.leases where organization_id = 'many-org' and log_id is not null") == []

    chosen = {"contacts": "Approve", "transactions": "Reject"}

    def answer(map_index: int) -> None:
        details = f"{path}/taskInstances/approval.approve/{map_index}/hitlDetails"
        question = airflow.api("GET", details)
        if question["response_received"]:
            return
        table = next(table for table in chosen if table in question["subject"])
        count = {"contacts": 5, "transactions": 20}[table]
        assert question["subject"] == f"Delete {count} {table} of `many-org`?"
        assert table != "contacts" or all(contact in question["body"] for contact in contacts)
        airflow.api("PATCH", details, json={"chosen_options": [chosen[table]], "params_input": {}})

    # Airflow asks again if the answer arrives in the second of the question, as it takes the parked task for dead. So
    # answer after some seconds, as a user would.
    asked_at: dict[int, float] = {}

    def answered() -> bool:
        found = states(airflow, path)
        for map_index in (0, 1):
            if found["approval.approve", map_index] != "awaiting_input":
                asked_at.pop(map_index, None)
            elif time.monotonic() - asked_at.setdefault(map_index, time.monotonic()) > SECONDS_TO_READ:
                answer(map_index)
        return all(found["approval.approve", map_index] == "success" for map_index in (0, 1))

    until(180, answered)
    assert ended(airflow, path) == "success"
    assert deleted(airflow, "many-org") == contacts
    carried_out = [state for (task, _), state in states(airflow, path).items() if task == "approval.carry_out"]
    assert sorted(carried_out) == ["skipped", "success"]
    assert airflow.query(
        """
        select entity_type, status, decision, decided_by, deleted, waiting
        from softpro.audits where organization_id = 'many-org' order by 1
        """
    ) == [
        {
            "entity_type": entity_type,
            "status": "COMPLETED",
            "decision": decision,
            "decided_by": "admin",
            "deleted": count,
            "waiting": 0,
        }
        for entity_type, decision, count in (("CONTACT", "APPROVED", 5), ("TRANSACTION", "REJECTED", 0))
    ]


def test_without_an_answer_in_time_nothing_is_deleted(airflow: Airflow) -> None:
    vendor = loaded(airflow, "silent-org")
    delete_at_vendor(airflow, vendor, "CONTACT", 5)
    path = start(airflow, organization="silent-org", entity_types=["contacts"])
    until(120, lambda: states(airflow, path).get(("approval.approve", 0)) == "awaiting_input")
    time.sleep(SECONDS_TO_READ)  # as above: Airflow would ask again

    airflow.query(  # as if the three days were over
        "update task_instance set trigger_timeout = now() - interval '1 second' where state = 'awaiting_input'",
        database="airflow",
    )

    assert ended(airflow, path) == "success"
    assert deleted(airflow, "silent-org") == []
    [audit] = airflow.query("select decision, decided_by from softpro.audits where organization_id = 'silent-org'")
    assert audit == {"decision": "NO_ANSWER", "decided_by": None}


def test_a_stream_that_fails_turns_the_run_red_and_the_others_are_reconciled(airflow: Airflow) -> None:
    vendor = loaded(airflow, "broken-org")
    gone = delete_at_vendor(airflow, vendor, "CONTACT", 1)
    airflow.query("create function broken() returns trigger language plpgsql as $$ begin raise 'broken'; end $$")
    airflow.query(
        """
        create trigger broken before insert on softpro.audits
        for each row when (new.organization_id = 'broken-org' and new.entity_type = 'TRANSACTION')
        execute function broken()
        """
    )
    try:
        path = start(airflow, organization="broken-org")
        assert ended(airflow, path) == "failed"
    finally:
        airflow.query("drop function broken cascade")

    assert deleted(airflow, "broken-org") == gone
    assert states(airflow, path)["report", -1] == "failed"
    log = airflow.api("GET", f"{path}/taskInstances/report/logs/1")
    assert "broken-org transactions" in str(log)
