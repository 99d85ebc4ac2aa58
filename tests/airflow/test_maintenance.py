"""Run the daily maintenance through real DAG runs."""

from __future__ import annotations

from typing import Any

import requests

from .conftest import Airflow
from .test_sync import until

AGED = """
update softpro.integrations
set sync_enabled = false,
    refresh_token_issued_at = now() - interval '8 days',
    token_issued_at = now() - interval '8 days',
    token_expires_at = now() - interval '8 days'
where organization_id = any(%s)
"""


def run(airflow: Airflow) -> tuple[str, dict[str, Any]]:
    """Run the DAG to its end and return its state, and its tasks by name."""
    started = airflow.api("POST", "/dags/softpro_maintenance/dagRuns", json={"logical_date": None})
    path = f"/dags/softpro_maintenance/dagRuns/{started['dag_run_id']}"
    until(120, lambda: airflow.api("GET", path)["state"] in ("success", "failed"))
    tasks = airflow.api("GET", f"{path}/taskInstances")["task_instances"]
    return airflow.api("GET", path)["state"], {task["task_id"]: {**task, "path": path} for task in tasks}


def test_a_run_keeps_an_old_grant_alive_and_tidies_up(airflow: Airflow) -> None:
    plugin = airflow.as_user()
    plugin.connect("idle-org", organization=airflow.vendor_organization())
    airflow.query(AGED, ["idle-org"])
    airflow.query(
        "update softpro.oauth_states set expires_at = now() - interval '2 days' where organization_id = 'idle-org'"
    )

    state, tasks = run(airflow)

    assert (state, {name: task["state"] for name, task in tasks.items()}) == (
        "success",
        {"keep_alive": "success", "tidy": "success", "observe": "success"},
    )
    assert airflow.query(
        """
        select status, refresh_token_issued_at > now() - interval '10 minutes' as alive,
               (select count(*) from softpro.oauth_states where organization_id = 'idle-org') as states,
               (select count(*) from softpro.coverage where organization_id = 'idle-org') as looked_at
        from softpro.integrations
        where organization_id = 'idle-org'
        """
    ) == [{"status": "CONNECTED", "alive": True, "states": 0, "looked_at": 2}]


def test_a_grant_that_can_not_be_kept_fails_its_task_once_and_blocks_no_other(airflow: Airflow) -> None:
    plugin = airflow.as_user()
    ended = airflow.vendor_organization()
    plugin.connect("ended-org", organization=ended)
    plugin.connect("kept-org", organization=airflow.vendor_organization())
    airflow.query(AGED, ["ended-org", "kept-org"])
    requests.post(
        f"{airflow.stack.sandbox['url']}/sandbox/grants/revoke", json={"organizationId": ended}, timeout=30
    ).raise_for_status()

    state, tasks = run(airflow)

    assert (state, {name: (task["state"], task["try_number"]) for name, task in tasks.items()}) == (
        "failed",
        {"keep_alive": ("failed", 1), "tidy": ("success", 1), "observe": ("success", 1)},
    )
    log = airflow.api("GET", f"{tasks['keep_alive']['path']}/taskInstances/keep_alive/logs/1")
    assert "ended-org: SoftPro no longer honors the grant" in str(log)
    assert airflow.query(
        """
        select organization_id, status, refresh_token_issued_at > now() - interval '10 minutes' as alive
        from softpro.integrations
        where organization_id in ('ended-org', 'kept-org')
        order by 1
        """
    ) == [
        {"organization_id": "ended-org", "status": "EXPIRED", "alive": None},
        {"organization_id": "kept-org", "status": "CONNECTED", "alive": True},
    ]
