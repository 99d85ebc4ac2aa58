"""Give an organization rules that take long; its sync takes a slice of time, and later runs load the rest."""

from __future__ import annotations

from .conftest import Airflow
from .test_sync import until

BUSY = "$count($filter([1..3000], function($v) { $v % 3 = 0 }))"
SLOWLY = [
    {
        "entityType": "TRANSACTION",
        "softproField": "orderId",
        "roiSystemsField": f"custom.rule_{number}",
        "direction": "SOFTPRO_TO_ROI",
        "transformationRule": BUSY,
    }
    for number in range(60)
]


def test_records_that_rules_had_no_time_for_are_loaded_by_later_runs(airflow: Airflow) -> None:
    plugin = airflow.as_user()
    integration_id = plugin.connect("slow-org", organization=airflow.vendor_organization())["id"]
    switch = "update softpro.integrations set sync_enabled = %s where organization_id = 'slow-org'"
    airflow.query(switch, False)
    mappings = {"integrationId": integration_id, "mappings": SLOWLY}
    plugin.session.put(f"{airflow.url}/mappings", json=mappings).raise_for_status()

    conf = {"organization": "slow-org", "entity_types": ["transactions"]}
    run = airflow.api("POST", "/dags/softpro_sync/dagRuns", json={"logical_date": None, "conf": conf})
    path = f"/dags/softpro_sync/dagRuns/{run['dag_run_id']}"
    until(120, lambda: airflow.api("GET", path)["state"] in ("success", "failed"))

    [log] = [log for log in plugin.logs(integration_id) if log["runId"] == run["dag_run_id"]]
    assert log["status"] == "COMPLETED"
    assert 0 < log["recordsProcessed"] < 120

    def more_are_loaded() -> bool:
        """Let the next sync be due now, as if a minute had passed, and return whether it loaded more records."""
        airflow.query(
            """
            update softpro.cursors set next_attempt_at = least(next_attempt_at, now())
            where organization_id = 'slow-org'
            """
        )
        loaded = airflow.query("select count(*) as n from roi.transactions where organization_id = 'slow-org'")
        return bool(loaded[0]["n"] > log["recordsProcessed"])

    airflow.query(switch, True)
    airflow.next_minute()
    until(180, more_are_loaded)
    assert airflow.query("select count(*) as n from softpro.quarantine where organization_id = 'slow-org'")[0]["n"] == 0
