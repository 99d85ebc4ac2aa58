"""Send one mapping over HTTP, as the specification's example does: no other mapping may be lost."""

from __future__ import annotations

from typing import Any

from .conftest import Airflow

EXAMPLE = {
    "entityType": "TRANSACTION",
    "softproField": "orderNumber",
    "roiSystemsField": "transaction_number",
    "direction": "BIDIRECTIONAL",
    "required": True,
    "enabled": True,
}


def test_the_specifications_example_keeps_the_other_mappings_and_says_what_changed(airflow: Airflow) -> None:
    plugin, url = airflow.as_user(), f"{airflow.url}/mappings"
    integration_id = plugin.connect("example-org", organization=airflow.vendor_organization())["id"]

    def put(*mappings: dict[str, Any], **more: Any) -> Any:
        return plugin.session.put(url, json={"integrationId": integration_id, "mappings": mappings, **more})

    def targets() -> list[str]:
        data = plugin.session.get(url, params={"integrationId": integration_id}).json()["data"]
        return [each["roiSystemsField"] for each in data if each["entityType"] == "TRANSACTION"]

    before = targets()
    updated = put(EXAMPLE).json()
    assert (updated["success"], updated["message"]) == (True, "Mappings updated successfully")
    assert (updated["data"]["added"], updated["data"]["removed"]) == ([], [])
    assert [each["roiSystemsField"] for each in updated["data"]["changed"]] == ["transaction_number"]
    assert targets() == before
    assert len(before) == 24

    added = put({**EXAMPLE, "direction": "ROI_TO_SOFTPRO", "roiSystemsField": "custom.number", "enabled": False}).json()
    assert [each["roiSystemsField"] for each in added["data"]["added"]] == ["custom.number"]
    second = {**EXAMPLE, "softproField": "status", "direction": "ROI_TO_SOFTPRO", "roiSystemsField": "custom.number"}
    both = put({**second, "enabled": False}, {**second, "softproField": "orderNumber", "enabled": False}).json()
    assert [each["softproField"] for each in both["data"]["added"]] == ["status"]
    refused = put({**second, "softproField": "notes"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "VALIDATION_ERROR")
    [problem] = refused.json()["error"]["details"]
    assert "several stored mappings: orderNumber ROI_TO_SOFTPRO, status ROI_TO_SOFTPRO" in problem

    shown = plugin.session.post(
        f"{url}/preview",
        json={"integrationId": integration_id, "entityType": "TRANSACTION", "mappings": [EXAMPLE], "record": {}},
    ).json()["data"]
    assert len(shown["records"][0]["fields"]) == 24

    replaced = put(EXAMPLE, replace=True).json()
    assert len(replaced["data"]["removed"]) == 25
    assert targets() == ["transaction_number"]
