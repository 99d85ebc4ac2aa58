"""Work on the quarantine over HTTP, and replay through real DAG runs."""

from __future__ import annotations

import json
from typing import Any

import requests

from softpro_demo.api_client import ApiClient

from .conftest import Airflow
from .test_sync import until

HEAD = '"orderType": "SALE", "createdAt": "2025-06-01T00:00:00.000Z", "updatedAt": "2025-06-01T00:00:00.000Z"'
EXACT = "3.14159265358979323846264338327950288"


def record(order_id: str, fields: str) -> str:
    return f'{{"orderId": "{order_id}", {HEAD}, {fields}}}'


def connected(airflow: Airflow, organization: str, *records: str) -> tuple[ApiClient, str]:
    """Connect an organization whose vendor has these records too, and sync it. Its schedule is off."""
    plugin, vendor = airflow.as_user(), airflow.vendor_organization()
    integration_id: str = plugin.connect(organization, organization=vendor)["id"]
    for each in records:
        requests.post(
            f"{airflow.stack.sandbox['url']}/sandbox/records",
            params={"organizationId": vendor, "entityType": "TRANSACTION"},
            data=each.encode(),
            timeout=30,
        ).raise_for_status()
    airflow.load(organization, "--entity", "transactions")
    # Loaded by this run, or by the scheduler's if that came first.
    assert sum(log["recordsFailed"] for log in plugin.logs(integration_id)) == len(records)
    return plugin, integration_id


def test_cases_are_listed_shown_corrected_replayed_and_discarded(airflow: Airflow) -> None:
    plugin, integration_id = connected(
        airflow,
        "cases-org",
        record("wordy", '"loanAmount": "a lot"'),
        record("nul", '"notes": "a\\u0000b \\ud83c"'),
        record("negative", f'"loanAmount": -1, "customFields": {{"n": {EXACT}}}'),
    )
    url, session = f"{airflow.url}/quarantine", plugin.session

    def listed(**wanted: Any) -> dict[str, Any]:
        answer = session.get(url, params={"integrationId": integration_id, **wanted})
        assert answer.status_code == 200, answer.text
        assert answer.json()["meta"]["total"] >= len(answer.json()["data"])
        return {case["entityId"]: case for case in answer.json()["data"]}

    cases = listed()
    ids = {name: case["id"] for name, case in cases.items()}
    assert set(cases) == {"wordy", "nul", "negative"}
    assert cases["wordy"]["reasons"][0]["column"] == "loan_amount"
    assert set(listed(rule="type", column="loan_amount")) == {"wordy"}
    assert set(listed(entityType="CONTACT")) == set()
    assert len(listed(limit=1)) == 1
    assert session.get(url, params={"integrationId": integration_id, "rule": "\x00"}).status_code == 400

    shown = session.get(f"{url}/{ids['nul']}")
    assert '"notes": "a\\u0000b \\ud83c"' in shown.text
    assert (shown.json()["data"]["payloadEncoding"], shown.json()["data"]["decisions"]) == ("json", [])
    assert EXACT in session.get(f"{url}/{ids['negative']}").text

    for wrong, said in (
        (record("other", '"loanAmount": 1'), "this case is about wordy"),
        (record("wordy", '"notes": "\\u0000"'), "can't be stored"),
        (record("wordy", '"loanAmount": NaN'), "can't be accepted"),
    ):
        refused = session.put(
            f"{url}/{ids['wordy']}", data=f'{{"record": {wrong}}}', headers={"Content-Type": "application/json"}
        )
        assert (refused.status_code, said in refused.json()["error"]["message"]) == (400, True), refused.text
    right = record("wordy", f'"loanAmount": 1.25, "customFields": {{"n": {EXACT}}}')
    edited = session.put(
        f"{url}/{ids['wordy']}", data=f'{{"record": {right}}}', headers={"Content-Type": "application/json"}
    )
    assert edited.status_code == 200, edited.text
    assert {key: edited.json()["data"][key] for key in ("success", "recordsProcessed", "recordsFailed", "left")} == {
        "success": True,
        "recordsProcessed": 1,
        "recordsFailed": 0,
        "left": 0,
    }
    case = session.get(f"{url}/{ids['wordy']}").json()["data"]
    assert (case["resolution"], case["resolvedBy"], case["editedBy"]) == ("EDITED", "admin", "admin")
    assert airflow.query(
        """
        select loan_amount::text, custom ->> 'n' as n from roi.transactions
        where organization_id = 'cases-org' and softpro_order_id = 'wordy'
        """
    ) == [{"loan_amount": "1.25", "n": EXACT}]

    body = {"integrationId": integration_id, "entityType": "TRANSACTION", "ids": [ids["nul"], ids["negative"]]}
    replayed = session.post(f"{url}/replay", json=body)
    assert (replayed.json()["data"]["recordsFailed"], replayed.json()["data"]["left"]) == (1, 1), replayed.text
    [log, *_] = plugin.logs(integration_id)
    assert (log["mode"], log["apiRequests"]) == ("replay", 0)
    assert log["reason"] == "maps 1 quarantined records again; 1 could not land and need a correction"

    discarded = session.post(f"{url}/{ids['negative']}/discard", json={"reason": "a test of theirs"})
    assert discarded.json()["data"]["resolution"] == "DISCARDED"
    again = session.post(f"{url}/{ids['negative']}/discard", json={"reason": "again"})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "CONFLICT")
    assert session.post(f"{url}/replay", json=body).status_code == 409
    assert set(listed()) == {"nul"}
    assert set(listed(resolution="ALL")) == {"wordy", "nul", "negative"}


def test_a_correction_during_a_sync_is_kept_and_a_run_by_the_form_loads_it(airflow: Airflow) -> None:
    plugin, integration_id = connected(airflow, "busy-org", record("wordy", '"loanAmount": "a lot"'))
    url, session = f"{airflow.url}/quarantine", plugin.session
    [case] = session.get(url, params={"integrationId": integration_id}).json()["data"]
    hold = """
        update softpro.leases set log_id = gen_random_uuid(), expires_at = now() + %s::interval
        where organization_id = 'busy-org' and entity_type = 'TRANSACTION'
    """
    airflow.query(hold, "10 minutes")

    busy = session.put(f"{url}/{case['id']}", json={"record": json.loads(record("wordy", '"loanAmount": 1'))})

    assert (busy.status_code, busy.json()["error"]["code"]) == (409, "SYNC_RUNNING")
    assert busy.json()["error"]["message"].startswith("The correction is stored, and the next run loads it.")
    airflow.query("update softpro.leases set log_id = null, expires_at = null where organization_id = 'busy-org'")
    conf = {
        "organization": "busy-org",
        "entity_types": ["transactions"],
        "records": "quarantined",
        "cases": [case["id"]],
    }
    started = airflow.api("POST", "/dags/softpro_remap/dagRuns", json={"logical_date": None, "conf": conf})
    path = f"/dags/softpro_remap/dagRuns/{started['dag_run_id']}"
    until(120, lambda: airflow.api("GET", path)["state"] in ("success", "failed"))
    assert airflow.api("GET", path)["state"] == "success"
    closed = session.get(f"{url}/{case['id']}").json()["data"]
    assert (closed["resolution"], closed["editedPayload"]["loanAmount"]) == ("EDITED", 1)
