"""Map all records again through a real DAG run."""

from __future__ import annotations

from .conftest import Airflow
from .test_sync import until


def test_a_run_applies_a_changed_mapping_to_all_rows_without_asking_softpro(airflow: Airflow) -> None:
    plugin = airflow.as_user()
    integration = plugin.connect("remap-org", organization=airflow.vendor_organization())
    airflow.load("remap-org", "--entity", "contacts")
    url = f"{airflow.url}/mappings"
    [*contacts] = [
        {**mapping, "direction": "SOFTPRO_TO_ROI", "transformationRule": "'Dr. ' & $"}
        if mapping["roiSystemsField"] == "company"
        else mapping
        for mapping in plugin.session.get(url, params={"integrationId": integration["id"]}).json()["data"]
        if mapping["entityType"] == "CONTACT"
    ]
    plugin.session.put(url, json={"integrationId": integration["id"], "mappings": contacts}).raise_for_status()

    conf = {"organization": "remap-org", "entity_types": ["contacts"]}
    started = airflow.api("POST", "/dags/softpro_remap/dagRuns", json={"logical_date": None, "conf": conf})
    path = f"/dags/softpro_remap/dagRuns/{started['dag_run_id']}"
    until(120, lambda: airflow.api("GET", path)["state"] in ("success", "failed"))

    assert airflow.api("GET", path)["state"] == "success"
    assert airflow.query(
        "select count(*) as rows, bool_and(company like 'Dr. %%') as all from roi.contacts where organization_id = %s",
        "remap-org",
    ) == [{"rows": 50, "all": True}]
    [log] = [log for log in plugin.logs(integration["id"]) if log["runId"] == started["dag_run_id"]]
    assert (log["mode"], log["status"], log["recordsProcessed"], log["apiRequests"]) == ("remap", "COMPLETED", 50, 0)
