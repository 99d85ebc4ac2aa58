"""Sync through real DAG runs, started over HTTP, by the scheduler and by hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import requests

from .conftest import Airflow


def until(seconds: float, ready: Callable[[], object]) -> None:
    """Wait until `ready` returns a true value. The scheduler is slow."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.5)


def test_a_sync_started_over_http_returns_the_specifications_result(airflow: Airflow) -> None:
    vendor = airflow.vendor_organization()
    plugin = airflow.as_user()
    integration = plugin.connect("http-org", organization=vendor)

    answer = plugin.session.post(f"{airflow.url}/sync/transactions", json={"integrationId": integration["id"]})

    assert answer.status_code == 200
    body = answer.json()
    started, completed = (datetime.fromisoformat(body["data"].pop(name)) for name in ("startedAt", "completedAt"))
    duration = body["data"].pop("duration")
    logged = airflow.query("select status from softpro.sync_logs where id = %s", body["data"].pop("logId"))
    assert logged == [{"status": "COMPLETED"}]
    assert abs((completed - started).total_seconds() * 1000 - duration) <= 2
    assert body == {
        "success": True,
        "data": {
            "success": True,
            "entityType": "TRANSACTION",
            "operation": "sync",
            "recordsProcessed": 120,
            "recordsSucceeded": 120,
            "recordsFailed": 0,
            "error": None,
        },
    }
    rows = airflow.query("select softpro_order_id from roi.transactions where organization_id = 'http-org' order by 1")
    assert [row["softpro_order_id"] for row in rows] == sorted(
        record["orderId"] for record in airflow.export(vendor, "TRANSACTION")
    )


def test_one_record_is_synced_while_a_run_holds_its_stream(airflow: Airflow) -> None:
    vendor = airflow.vendor_organization()
    plugin = airflow.as_user()
    integration = plugin.connect("record-org", organization=vendor)
    airflow.query("update softpro.integrations set sync_enabled = false where organization_id = 'record-org'")
    contact_id = airflow.export(vendor, "CONTACT")[0]["contactId"]
    airflow.query(
        """
        insert into softpro.leases (integration_id, entity_type, organization_id, log_id, expires_at)
        values (%s, 'CONTACT', 'record-org', gen_random_uuid(), now() + interval '1 hour')
        """,
        integration["id"],
    )

    def sync(path: str) -> requests.Response:
        return plugin.session.post(f"{airflow.url}/sync/{path}", json={"integrationId": integration["id"]}, timeout=90)

    answer = sync(f"contacts/{contact_id}")
    assert (answer.status_code, sync("contacts").status_code) == (200, 409)
    result = answer.json()["data"]
    assert (result["success"], result["recordsProcessed"], result["recordsFailed"]) == (True, 1, 0)
    rows = airflow.query("select softpro_contact_id as id from roi.contacts where organization_id = 'record-org'")
    assert rows == [{"id": contact_id}]

    assert sync("contacts/con-none").json()["data"]["success"] is False
    [log] = [log for log in plugin.logs(integration["id"]) if log["status"] == "FAILED"]
    assert (log["mode"], log["errorMessage"]) == ("records", "SoftPro has no contact con-none")


def test_a_sync_that_outlasts_the_wait_answers_202_with_the_run_and_its_log(airflow: Airflow) -> None:
    plugin = airflow.as_user()
    integration = plugin.connect("wait-org", organization=airflow.vendor_organization())

    answer = plugin.session.post(
        f"{airflow.url}/sync/contacts", params={"wait": 0}, json={"integrationId": integration["id"]}
    )

    assert answer.status_code == 202
    started = answer.json()["data"]
    assert airflow.api("GET", f"/dags/softpro_sync/dagRuns/{started['runId']}")["run_type"] == "manual"
    plugin.wait(integration["id"], "contacts", started["logId"], 90, lambda log: None)
    [log] = [log for log in plugin.logs(integration["id"]) if log["id"] == started["logId"]]
    assert (log["status"], log["syncType"], log["recordsProcessed"]) == ("COMPLETED", "MANUAL", 50)


def test_the_scheduler_syncs_all_due_streams_despite_one_bad_tenant(airflow: Airflow) -> None:
    plugin = airflow.as_user()
    good = plugin.connect("good-org", organization=airflow.vendor_organization())
    bad_vendor = airflow.vendor_organization()
    bad = plugin.connect("bad-org", organization=bad_vendor)
    requests.post(
        f"{airflow.stack.sandbox['url']}/sandbox/grants/revoke", json={"organizationId": bad_vendor}, timeout=30
    ).raise_for_status()

    def ended() -> bool:
        return len([log for log in plugin.logs(good["id"]) if log["status"] == "COMPLETED"]) >= 2 and any(
            log["status"] == "FAILED" for log in plugin.logs(bad["id"])
        )

    airflow.next_minute()
    until(120, ended)

    logs = {log["entityType"]: log for log in plugin.logs(good["id"])}
    assert {name: (log["syncType"], log["recordsProcessed"]) for name, log in logs.items()} == {
        "TRANSACTION": ("SCHEDULED", 120),
        "CONTACT": ("SCHEDULED", 50),
    }
    status = plugin.status("bad-org")
    assert status["status"] == "EXPIRED"
    assert "connect" in status["lastErrorMessage"]
    # On a slow machine the stream is due again, and fails again, before the other one ends.
    failed, *_ = [log for log in plugin.logs(bad["id"]) if log["status"] == "FAILED" and log["entityType"] == "CONTACT"]
    until(120, lambda: airflow.api("GET", f"/dags/softpro_sync/dagRuns/{failed['runId']}")["state"] == "failed")


def test_a_stream_that_a_live_run_works_on_is_refused_with_that_runs_log(airflow: Airflow) -> None:
    plugin = airflow.as_user()
    integration = plugin.connect("busy-org", organization=airflow.vendor_organization())
    airflow.query("update softpro.integrations set sync_enabled = false where id = %s", integration["id"])
    log_id = "11111111-2222-3333-4444-555555555555"
    airflow.query(
        """
        insert into softpro.leases (integration_id, entity_type, organization_id, epoch, log_id, expires_at)
        values (%s, 'CONTACT', 'busy-org', 1, %s, now() + interval '10 minutes')
        on conflict (integration_id, entity_type) do update
        set log_id = excluded.log_id, expires_at = excluded.expires_at, backend_pid = null
        """,
        integration["id"],
        log_id,
    )

    answer = plugin.session.post(f"{airflow.url}/sync/contacts", json={"integrationId": integration["id"]})

    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "SYNC_RUNNING"
    assert answer.json()["error"]["details"] == {"logId": log_id}


def test_the_second_of_two_concurrent_requests_gets_the_firsts_log(airflow: Airflow) -> None:
    plugin = airflow.as_user()
    integration = plugin.connect("twice-org", organization=airflow.vendor_organization())
    airflow.query("update softpro.integrations set sync_enabled = false where id = %s", integration["id"])

    def sync(wait: int) -> requests.Response:
        return requests.post(
            f"{airflow.url}/sync/contacts",
            params={"wait": wait},
            json={"integrationId": integration["id"]},
            headers={"Authorization": f"Bearer {airflow.token()}"},
            timeout=90,
        )

    with ThreadPoolExecutor(2) as pool:
        begun, refused = sorted(pool.map(sync, (0, 0)), key=lambda answer: answer.status_code)

    assert (begun.status_code, refused.status_code) == (202, 409)
    assert refused.json()["error"]["code"] == "SYNC_RUNNING"
    assert refused.json()["error"]["details"] == {"logId": begun.json()["data"]["logId"]}


def test_a_run_that_finds_another_one_at_work_answers_that_ones_log(airflow: Airflow) -> None:
    plugin = airflow.as_user()
    integration = plugin.connect("late-org", organization=airflow.vendor_organization())
    airflow.query("update softpro.integrations set sync_enabled = false where id = %s", integration["id"])
    other = "11111111-2222-3333-4444-666666666666"
    waiting = "select id from softpro.sync_logs where integration_id = %s and status = 'PENDING'"

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(
            plugin.session.post, f"{airflow.url}/sync/contacts", json={"integrationId": integration["id"]}
        )
        while not airflow.query(waiting, integration["id"]):
            assert not asked.done(), asked.result().text
        airflow.query(
            """
            insert into softpro.leases (integration_id, entity_type, organization_id, log_id, expires_at)
            values (%s, 'CONTACT', 'late-org', %s, now() + interval '10 minutes')
            """,
            integration["id"],
            other,
        )
        answer = asked.result()

    assert (answer.status_code, answer.json()["error"]["details"]) == (409, {"logId": other})
    assert [log["status"] for log in plugin.logs(integration["id"])] == ["CANCELLED"]


def test_a_backlog_continues_in_its_own_lane(airflow: Airflow) -> None:
    plugin = airflow.as_user()
    integration = plugin.connect("backlog-org", organization=airflow.vendor_organization())
    airflow.query("update softpro.integrations set sync_contacts = false where id = %s", integration["id"])
    airflow.query(
        """
        insert into softpro.cursors (integration_id, entity_type, organization_id, backlog)
        values (%s, 'TRANSACTION', 'backlog-org', true)
        on conflict (integration_id, entity_type) do update set backlog = true
        """,
        integration["id"],
    )

    airflow.next_minute()
    until(120, lambda: any(log["status"] == "COMPLETED" for log in plugin.logs(integration["id"])))

    [log] = [log for log in plugin.logs(integration["id"]) if log["status"] == "COMPLETED"]
    tasks = airflow.api("GET", f"/dags/softpro_sync/dagRuns/{log['runId']}/taskInstances", params={"limit": 100})
    done = {task["task_id"] for task in tasks["task_instances"] if task["state"] == "success"}
    assert {"plan_backlog", "backlog.extract", "backlog.load"} <= done


def test_the_roi_tables_assets_change_only_when_rows_did(airflow: Airflow) -> None:
    plugin = airflow.as_user()
    integration = plugin.connect("asset-org", organization=airflow.vendor_organization())
    airflow.query("update softpro.integrations set sync_enabled = false where id = %s", integration["id"])

    def events_of(run_id: str) -> list[tuple[str, dict[str, int]]]:
        events = airflow.api("GET", "/assets/events", params={"source_run_id": run_id, "limit": 100})["asset_events"]
        return [(event["uri"], event["extra"]) for event in events if event["source_run_id"] == run_id]

    def run() -> str:
        answer = plugin.session.post(f"{airflow.url}/sync/contacts", json={"integrationId": integration["id"]})
        assert answer.json()["data"]["success"], answer.text
        newest: str = plugin.logs(integration["id"])[0]["runId"]
        until(120, lambda: airflow.api("GET", f"/dags/softpro_sync/dagRuns/{newest}")["state"] == "success")
        return newest

    first, second = run(), run()

    [(uri, extra)] = events_of(first)
    assert uri == "softpro://roi/contacts"
    assert extra["rows"] == 50
    assert events_of(second) == []


def test_a_run_started_in_airflow_for_an_unknown_organization_says_so(airflow: Airflow) -> None:
    conf = {"organization": "nobody", "entity_types": ["contacts"], "mode": "incremental"}
    run = airflow.api("POST", "/dags/softpro_sync/dagRuns", json={"logical_date": None, "conf": conf})

    until(120, lambda: airflow.api("GET", f"/dags/softpro_sync/dagRuns/{run['dag_run_id']}")["state"] == "failed")

    log = airflow.api("GET", f"/dags/softpro_sync/dagRuns/{run['dag_run_id']}/taskInstances/plan_fresh/logs/1")
    assert "nobody is not connected" in str(log)
