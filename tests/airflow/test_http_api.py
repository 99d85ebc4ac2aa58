"""Check the response shapes of the specification over HTTP, and the refusal of bad input."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from .conftest import Airflow, users


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b"{", "application/json", 400),
        (b'{"organizationId": "\xff"}', "application/json", 400),
        (b"[" * 60_000, "application/json", 400),
        (b'{"organizationId": ' + b"[" * 900 + b"]" * 900 + b"}", "application/json", 400),
        (b"1" * 5_000, "application/json", 400),
        (b'{"organizationId": 1e999}', "application/json", 400),
        (b'{"organizationId": "a\\u0000b"}', "application/json", 400),
        (b'{"organizationId": "a\\ud800b"}', "application/json", 400),
        (b'{"organizationId": "a", "surprise": 1}', "application/json", 400),
        (b'{"organizationId": "a"}', "text/plain", 400),
        (b" " * 9_000_000, "application/json", 413),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_bad_body_is_refused_with_a_reason(airflow: Airflow, body: bytes, content_type: str, expected: int) -> None:
    answer = users(airflow, "admin").post(f"{airflow.url}/connect", data=body, headers={"Content-Type": content_type})

    error = answer.json()["error"]
    assert answer.status_code == expected
    assert error["code"] == {400: "VALIDATION_ERROR", 413: "TOO_LARGE"}[expected]
    assert error["message"]


def test_unknown_paths_answer_in_the_same_envelope(airflow: Airflow) -> None:
    admin = users(airflow, "admin")
    unknown, wrong = admin.get(f"{airflow.url}/nothing/here"), admin.patch(f"{airflow.url}/status")

    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "NOT_FOUND")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert wrong.headers["Allow"] == "GET"


def test_the_page_of_the_api_needs_nothing_from_elsewhere(airflow: Airflow) -> None:
    reader = users(airflow, "reader")
    page = reader.get(f"{airflow.url}/docs")

    parts = re.findall(r'(?:src|href)="(docs/[^"]+)"', page.text)
    assert len(parts) == 3
    for part in parts:
        answer = reader.get(f"{airflow.url}/{part}")
        assert answer.status_code == 200
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    policy = page.headers["Content-Security-Policy"]
    assert "frame-ancestors 'self'" in policy
    assert "script-src 'self';" in policy
    assert "http" not in page.text + policy
    assert "<script>" not in page.text
    described = reader.get(f"{airflow.url}/openapi.json").json()
    assert described["servers"] == [{"url": "/api/v1/integrations/softpro"}]
    named = [each["operationId"] for methods in described["paths"].values() for each in methods.values()]
    assert len(named) == len(set(named))
    views = [view for plugin in airflow.api("GET", "/plugins")["plugins"] for view in plugin["external_views"]]
    assert [view["href"] for view in views] == ["/api/v1/integrations/softpro/docs"]


def test_settings_change_one_by_one_and_never_show_a_secret(airflow: Airflow, foreign_ids: dict[str, str]) -> None:
    url, admin = f"{airflow.url}/settings/{foreign_ids['integration_id']}", users(airflow, "admin")
    before = admin.get(url).json()["data"]

    def change(**sent: object) -> requests.Response:
        return admin.patch(url, json=sent)

    changed = change(syncFrequency=3600, syncContacts=False, webhooksEnabled=True, conflictStrategy="MERGE")
    assert changed.json()["data"] == {
        **before,
        "syncFrequency": 3600,
        "syncContacts": False,
        "webhooksEnabled": True,
        "conflictStrategy": "MERGE",
    }
    client = change(clientId="their client", clientSecret="their secret", environment="PRODUCTION")
    assert client.json()["data"]["nextClientId"] == "their client"
    assert (client.json()["data"]["environment"], client.json()["data"]["nextEnvironment"]) == ("SANDBOX", "PRODUCTION")
    assert "secret" not in client.text
    again = admin.post(f"{airflow.url}/connect", json={"organizationId": "their-org"}).json()
    assert parse_qs(urlsplit(again["data"]["authorizationUrl"]).query)["client_id"] == ["their client"]
    assert change(clientId=None, clientSecret=None, environment=None).json()["data"]["nextClientId"] is None
    for wrong in ({}, {"syncFrequency": 59}, {"syncDocuments": True}, {"clientId": "alone"}, {"syncEnabled": None}):
        refused = change(**wrong)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "VALIDATION_ERROR"), wrong


def test_mappings_are_read_replaced_and_refused_as_a_whole(airflow: Airflow) -> None:
    plugin = airflow.as_user()
    integration_id = plugin.connect("mapping-org", organization=airflow.vendor_organization())["id"]
    url = f"{airflow.url}/mappings"

    def read(entity_type: str) -> list[dict[str, object]]:
        data = plugin.session.get(url, params={"integrationId": integration_id}).json()["data"]
        return [entry for entry in data if entry["entityType"] == entity_type]

    before = read("TRANSACTION")
    assert {key: before[0][key] for key in before[0] if key != "id"} == {
        "entityType": "TRANSACTION",
        "softproField": "orderNumber",
        "roiSystemsField": "transaction_number",
        "direction": "BIDIRECTIONAL",
        "transformationRule": None,
        "required": False,
        "defaultValue": None,
        "enabled": True,
        "validationRules": None,
    }

    bad = [
        {"entityType": "CONTACT", "softproField": "email", "roiSystemsField": "email"},
        {"entityType": "CONTACT", "softproField": "tel", "roiSystemsField": "no_such_column"},
        {"entityType": "CONTACT", "softproField": "key", "roiSystemsField": "id"},
    ]
    refused = plugin.session.put(url, json={"integrationId": integration_id, "mappings": bad})
    assert refused.status_code == 400
    assert [problem[:10] for problem in refused.json()["error"]["details"]] == ["mapping 2:", "mapping 3:"]
    assert len(read("CONTACT")) == 20

    good = {"integrationId": integration_id, "mappings": bad[:1], "replace": True}
    replaced = plugin.session.put(url, json=good).json()
    assert (replaced["message"], replaced["data"]["remap"]) == ("Mappings updated successfully", None)
    assert replaced["data"]["versions"] == [{"entityType": "CONTACT", "version": 2, "changed": True}]
    assert (replaced["data"]["added"], len(replaced["data"]["removed"]), replaced["data"]["changed"]) == ([], 19, [])
    assert [entry["roiSystemsField"] for entry in read("CONTACT")] == ["email"]
    assert read("TRANSACTION") == before

    again = {"integrationId": integration_id, "mappings": before}
    assert plugin.session.put(url, json=again).status_code == 200, "what GET answered can be sent back"


def test_logs_are_paged(airflow: Airflow) -> None:
    plugin = airflow.as_user()
    integration_id = plugin.connect("logs-org", organization=airflow.vendor_organization())["id"]
    plugin.session.post(f"{airflow.url}/sync/contacts", json={"integrationId": integration_id})

    page = plugin.session.get(f"{airflow.url}/sync/logs", params={"integrationId": integration_id, "limit": 1}).json()

    assert len(page["data"]) == 1
    assert page["meta"]["limit"] == 1
    assert page["meta"]["offset"] == 0
    assert page["meta"]["total"] >= 1
    filters = {"integrationId": integration_id, "entityType": "CONTACT", "status": "COMPLETED"}
    filtered = plugin.session.get(f"{airflow.url}/sync/logs", params=filters).json()
    assert {(log["entityType"], log["status"]) for log in filtered["data"]} == {("CONTACT", "COMPLETED")}
    whole = plugin.session.get(f"{airflow.url}/sync/logs/{filtered['data'][0]['id']}").json()["data"]
    assert whole.items() >= filtered["data"][0].items()
    assert (whole["direction"], whole["entityId"], whole["stackTrace"]) == ("SOFTPRO_TO_ROI", None, None)
    for bad in ({"limit": 0}, {"limit": 201}, {"offset": -1}, {"limit": "many"}):
        refused = plugin.session.get(f"{airflow.url}/sync/logs", params={"integrationId": integration_id, **bad})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "VALIDATION_ERROR")
