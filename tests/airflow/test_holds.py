"""Decide about held batches, through Airflow's questions and over HTTP."""

from __future__ import annotations

import time
from typing import Any

from softpro_demo.api_client import ApiClient

from .conftest import Airflow
from .test_sync import until

SECONDS_TO_READ = 3.0
SOME_ID = "00000000-0000-0000-0000-000000000001"


def loaded(airflow: Airflow, organization: str) -> str:
    """Connect the organization, load its transactions and return its integration's id."""
    integration = airflow.as_user().connect(organization, organization=airflow.vendor_organization())
    airflow.load(organization, "--entity", "transactions")
    return str(integration["id"])


def sync(plugin: ApiClient, airflow: Airflow, integration_id: str) -> Any:
    return plugin.session.post(f"{airflow.url}/sync/transactions", json={"integrationId": integration_id}).json()[
        "data"
    ]


def empty_column(airflow: Airflow, integration_id: str, column: str) -> None:
    """Fill this column from a field that does not exist, from now on."""
    plugin, url = airflow.as_user(), f"{airflow.url}/mappings"
    stored = plugin.session.get(url, params={"integrationId": integration_id}).json()["data"]
    wanted = [
        {**mapping, "softproField": "nowhere"} if mapping["roiSystemsField"] == column else mapping
        for mapping in stored
        if mapping["entityType"] == "TRANSACTION"
    ]
    plugin.session.put(url, json={"integrationId": integration_id, "mappings": wanted}).raise_for_status()


def remap(airflow: Airflow, organization: str) -> str:
    """Map all transactions again and return the run's state."""
    conf = {"organization": organization, "entity_types": ["transactions"]}
    started = airflow.api("POST", "/dags/softpro_remap/dagRuns", json={"logical_date": None, "conf": conf})
    path = f"/dags/softpro_remap/dagRuns/{started['dag_run_id']}"
    until(120, lambda: airflow.api("GET", path)["state"] in ("success", "failed"))
    return str(airflow.api("GET", path)["state"])


def open_hold(airflow: Airflow, integration_id: str) -> dict[str, Any]:
    """Return the waiting hold, as the reader sees it."""
    answer = airflow.as_user("reader").session.get(
        f"{airflow.url}/holds", params={"integrationId": integration_id, "status": "WAITING"}
    )
    [hold] = answer.json()["data"]
    return dict(hold)


def question(airflow: Airflow, organization: str) -> tuple[str, int]:
    """Wait for Airflow's question about the organization's batch. Return the path of the run and the map index."""
    found: list[tuple[str, int]] = []

    def asked() -> bool:
        for run in airflow.api("GET", "/dags/softpro_holds/dagRuns")["dag_runs"]:
            path = f"/dags/softpro_holds/dagRuns/{run['dag_run_id']}"
            for task in airflow.api("GET", f"{path}/taskInstances")["task_instances"]:
                if (task["task_id"], task["state"]) == ("decision.ask", "awaiting_input"):
                    details = f"{path}/taskInstances/decision.ask/{task['map_index']}/hitlDetails"
                    if organization in airflow.api("GET", details)["subject"]:
                        found.append((path, task["map_index"]))
                        return True
        return False

    until(120, asked)
    return found[-1]


def answer(airflow: Airflow, organization: str, chosen: str, **more: str) -> dict[str, Any]:
    """Answer after some seconds, wait for the end of that run, and return the question."""
    path, index = question(airflow, organization)
    time.sleep(SECONDS_TO_READ)
    details = f"{path}/taskInstances/decision.ask/{index}/hitlDetails"
    asked = dict(airflow.api("GET", details))
    airflow.api("PATCH", details, json={"chosen_options": [chosen], "params_input": more})
    until(120, lambda: airflow.api("GET", path)["state"] in ("success", "failed"))
    tasks = airflow.api("GET", f"{path}/taskInstances")["task_instances"]
    [carried_out] = [
        task["state"] for task in tasks if (task["task_id"], task["map_index"]) == ("decision.carry_out", index)
    ]
    return {**asked, "run": airflow.api("GET", path)["state"], "carried_out": carried_out}


def test_airflow_asks_about_a_batch_that_is_held_and_what_is_approved_is_loaded_by_the_next_run(
    airflow: Airflow,
) -> None:
    integration_id = loaded(airflow, "held-org")
    empty_column(airflow, integration_id, "transaction_number")

    assert remap(airflow, "held-org") == "failed"
    hold = open_hold(airflow, integration_id)
    [finding] = hold["findings"]
    assert (hold["records"], hold["entityType"], finding["column"]) == (120, "TRANSACTION", "transaction_number")
    assert airflow.query("select from softpro.leases where organization_id = 'held-org' and log_id is not null") == []

    asked = answer(airflow, "held-org", "Approve", reason="as it should be")

    assert (asked["subject"], asked["run"], asked["carried_out"]) == (
        "Load 120 transactions of `held-org`?",
        "success",
        "success",
    )
    assert finding["message"] in asked["body"]
    decided = "select status, decided_by, reason from softpro.holds where organization_id = 'held-org'"
    assert airflow.query(decided) == [{"status": "APPROVED", "decided_by": "admin", "reason": "as it should be"}]
    assert airflow.query(
        "select count(transaction_number) as n from roi.transactions where organization_id = 'held-org'"
    )[0]["n"]

    assert sync(airflow.as_user(), airflow, integration_id)["success"] is True

    assert airflow.query(decided)[0]["status"] == "LOADED"
    assert airflow.query(
        "select count(*) as n, count(transaction_number) as having from roi.transactions where organization_id = %s",
        "held-org",
    ) == [{"n": 120, "having": 0}]


def test_a_user_rejects_over_http_and_a_later_answer_changes_nothing(airflow: Airflow) -> None:
    integration_id = loaded(airflow, "rejected-org")
    empty_column(airflow, integration_id, "transaction_number")
    assert remap(airflow, "rejected-org") == "failed"
    hold = open_hold(airflow, integration_id)
    question(airflow, "rejected-org")
    url = f"{airflow.url}/holds/{hold['id']}"
    body = {"integrationId": integration_id, "reason": "a typing error"}
    operator = airflow.as_user("operator").session

    assert operator.post(f"{url}/reject", json={**body, "integrationId": SOME_ID}).status_code == 404
    assert operator.post(f"{airflow.url}/holds/{SOME_ID}/approve", json=body).status_code == 404
    assert operator.post(f"{url}/reject", json={"integrationId": integration_id}).status_code == 400
    rejected = operator.post(f"{url}/reject", json=body)
    assert rejected.status_code == 200, rejected.text
    data = rejected.json()["data"]
    assert (data["status"], data["decidedBy"], data["reason"]) == ("REJECTED", "operator", "a typing error")
    for again in ("approve", "reject"):
        late = operator.post(f"{url}/{again}", json=body)
        assert (late.status_code, late.json()["error"]["code"]) == (409, "DECIDED_ALREADY")

    asked = answer(airflow, "rejected-org", "Approve")

    assert (asked["run"], asked["carried_out"]) == ("success", "skipped")
    listed = operator.get(f"{airflow.url}/holds", params={"integrationId": integration_id}).json()
    assert (listed["meta"]["total"], [each["status"] for each in listed["data"]]) == (1, ["REJECTED"])
    assert airflow.query("select from raw.pending where organization_id = 'rejected-org'") == []
