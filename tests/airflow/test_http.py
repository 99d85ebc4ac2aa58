"""The plugin over HTTP: who may, the specification's shapes, and what becomes of bad input."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from softpro_demo import consent

from .conftest import Airflow

SOME_ID = "00000000-0000-0000-0000-000000000001"
ROUTES = [
    ("POST", "/connect", "configure"),
    ("DELETE", f"/disconnect/{SOME_ID}", "configure"),
    ("GET", "/status?organizationId=nobody", "read"),
    ("GET", f"/mappings?integrationId={SOME_ID}", "read"),
    ("PUT", "/mappings", "configure"),
    ("GET", f"/mappings/versions?integrationId={SOME_ID}&entityType=CONTACT", "read"),
    ("GET", f"/mappings/versions/1?integrationId={SOME_ID}&entityType=CONTACT", "read"),
    ("GET", f"/mappings/diff?integrationId={SOME_ID}&entityType=CONTACT&from=1", "read"),
    ("POST", "/mappings/rollback", "configure"),
    ("POST", "/mappings/preview", "operate"),
    ("POST", "/mappings/remap", "operate"),
    ("GET", f"/mappings/coverage?integrationId={SOME_ID}", "read"),
    ("POST", "/sync/transactions", "operate"),
    ("POST", "/sync/contacts", "operate"),
    ("POST", f"/sync/transactions/{SOME_ID}", "operate"),
    ("POST", f"/sync/contacts/{SOME_ID}", "operate"),
    ("GET", f"/sync/logs?integrationId={SOME_ID}", "read"),
    ("GET", f"/quarantine?integrationId={SOME_ID}", "operate"),
    ("GET", f"/quarantine/{SOME_ID}", "operate"),
    ("PUT", f"/quarantine/{SOME_ID}", "operate"),
    ("POST", "/quarantine/replay", "operate"),
    ("POST", f"/quarantine/{SOME_ID}/discard", "operate"),
    ("GET", f"/holds?integrationId={SOME_ID}", "read"),
    ("POST", f"/holds/{SOME_ID}/approve", "operate"),
    ("POST", f"/holds/{SOME_ID}/reject", "operate"),
    ("GET", f"/webhooks/events?integrationId={SOME_ID}", "read"),
    ("GET", f"/webhooks/events/{SOME_ID}?integrationId={SOME_ID}", "operate"),
    ("POST", f"/webhooks/events/{SOME_ID}/retry", "operate"),
    ("POST", "/webhooks/events/retry", "operate"),
    ("GET", f"/webhooks/stats?integrationId={SOME_ID}", "read"),
    ("GET", f"/webhooks/config?integrationId={SOME_ID}", "read"),
    ("PATCH", "/webhooks/config", "configure"),
    ("GET", "/openapi.json", "read"),
]
RIGHTS = {
    "admin": {"read", "operate", "configure"},
    "operator": {"read", "operate", "configure"},
    "reader": {"read"},
}


def test_the_table_of_routes_is_complete(airflow: Airflow) -> None:
    described = airflow.as_user("reader").session.get(f"{airflow.url}/openapi.json").json()

    served = {
        (method.upper(), re.sub(r"\{\w+\}", SOME_ID, path.replace("{version}", "1")))
        for path, methods in described["paths"].items()
        for method in methods
    }
    assert served == {(method, path.split("?")[0]) for method, path, _ in ROUTES} - {("GET", "/openapi.json")} | {
        ("GET", "/callback"),
        ("POST", f"/webhooks/{SOME_ID}"),
        ("GET", "/health"),
    }


@pytest.mark.parametrize(("method", "path", "right"), ROUTES)
def test_a_route_is_closed_without_a_good_token(airflow: Airflow, method: str, path: str, right: str) -> None:
    for headers, expected in (({}, {401}), ({"Authorization": "Bearer nonsense"}, {401, 403})):
        answer = requests.request(method, airflow.url + path, headers=headers, json={}, timeout=30)
        assert answer.status_code in expected
        assert answer.json()["success"] is False


@pytest.mark.parametrize(("method", "path", "right"), ROUTES)
@pytest.mark.parametrize("user", RIGHTS)
def test_a_route_is_open_to_the_roles_that_hold_its_right(
    airflow: Airflow, user: str, method: str, path: str, right: str
) -> None:
    answer = airflow.as_user(user).session.request(method, airflow.url + path, json={})

    if right in RIGHTS[user]:
        assert answer.status_code in (400, 404) or path == "/openapi.json", answer.text  # let in: nothing is there
    else:
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "FORBIDDEN"


def test_a_change_by_cookie_has_to_prove_that_it_is_ours(airflow: Airflow) -> None:
    cookie = {"_token": airflow.stack.token()}
    own = f"http://{urlsplit(airflow.url).netloc}"

    def status_code(**headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return requests.post(
            f"{airflow.url}/sync/contacts", json={}, cookies=cookie, headers=named, timeout=30
        ).status_code

    assert status_code() == 403
    assert status_code(Origin="https://evil.example", X_Requested_With="x") == 403
    assert status_code(Origin=own) == 403
    assert status_code(Sec_Fetch_Site="cross-site", Origin=own, X_Requested_With="x") == 403
    assert status_code(Origin=own, X_Requested_With="x") == 400
    assert status_code(Sec_Fetch_Site="same-origin", X_Requested_With="x") == 400


def test_connect_and_callback_make_a_connection_and_status_shows_it(airflow: Airflow) -> None:
    plugin = airflow.as_user()
    begun = plugin.session.post(f"{airflow.url}/connect", json={"organizationId": "shape-org"})
    assert begun.json() == {"success": True, "data": {"authorizationUrl": begun.json()["data"]["authorizationUrl"]}}

    back = consent.give(begun.json()["data"]["authorizationUrl"], organization=airflow.vendor_organization())
    landed = plugin.session.get(back, allow_redirects=False)

    assert landed.status_code == 302
    assert landed.headers["Location"] == f"{airflow.stack.airflow_url}?integration=softpro&status=connected"
    status = plugin.session.get(f"{airflow.url}/status", params={"organizationId": "shape-org"}).json()["data"]
    assert (status["status"], status["environment"], status["syncEnabled"], status["syncFrequency"]) == (
        "CONNECTED",
        "SANDBOX",
        True,
        300,
    )


def test_the_browser_goes_back_to_the_path_that_was_asked_for(airflow: Airflow) -> None:
    plugin = airflow.as_user()
    vendor = airflow.vendor_organization()

    def landed(path: str, **choices: str) -> str:
        body = {"organizationId": "path-org", "redirectPath": path}
        begun = plugin.session.post(f"{airflow.url}/connect", json=body).json()
        back = consent.give(begun["data"]["authorizationUrl"], **choices)
        return plugin.session.get(back, allow_redirects=False).headers["Location"]

    refused = landed("/settings/softpro", decision="refuse")
    connected = landed("/settings?tab=softpro&page=a%20b", organization=vendor)

    frontend = airflow.stack.airflow_url
    assert refused.startswith(f"{frontend}/settings/softpro?integration=softpro&status=error&message=")
    assert connected == f"{frontend}/settings?tab=softpro&page=a%20b&integration=softpro&status=connected"


@pytest.mark.parametrize(
    "path", ["//evil.example", "/\\evil.example", "https://evil.example", "/a/%2e%2e/b", "/x#y", ""]
)
def test_a_path_that_leads_elsewhere_is_refused_before_anything_begins(airflow: Airflow, path: str) -> None:
    plugin = airflow.as_user()

    answer = plugin.session.post(f"{airflow.url}/connect", json={"organizationId": "hostile-org", "redirectPath": path})

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "VALIDATION_ERROR")
    assert answer.json()["error"]["message"].startswith("redirectPath should ")
    assert airflow.query("select from softpro.integrations where organization_id = 'hostile-org'") == []


def test_a_refused_consent_goes_back_to_the_frontend_with_the_reason(airflow: Airflow) -> None:
    plugin = airflow.as_user()
    begun = plugin.session.post(f"{airflow.url}/connect", json={"organizationId": "refused-org"}).json()
    back = consent.give(begun["data"]["authorizationUrl"], decision="refuse")

    landed = plugin.session.get(back, allow_redirects=False)

    outcome = parse_qs(urlsplit(landed.headers["Location"]).query)
    assert (landed.status_code, outcome["status"]) == (302, ["error"])
    assert outcome["message"][0].startswith("SoftPro did not authorize refused-org")
    assert plugin.status("refused-org")["status"] == "PENDING"
    assert airflow.query(
        """
        select access_token, refresh_token, softpro_organization_id,
               (select count(*) from softpro.mappings m where m.integration_id = i.id) as mappings
        from softpro.integrations i where organization_id = 'refused-org'
        """
    ) == [{"access_token": None, "refresh_token": None, "softpro_organization_id": None, "mappings": 0}]


def test_a_state_works_once_and_only_in_the_browser_that_began(airflow: Airflow) -> None:
    vendor = airflow.vendor_organization()
    mine, other = airflow.as_user(), airflow.as_user()
    begun = mine.session.post(f"{airflow.url}/connect", json={"organizationId": "state-org"}).json()
    back = consent.give(begun["data"]["authorizationUrl"], organization=vendor)

    foreign = requests.get(back, allow_redirects=False, timeout=30)
    other.session.post(f"{airflow.url}/connect", json={"organizationId": "state-org-2"})
    stolen = other.session.get(back, allow_redirects=False)
    good = mine.session.get(back, allow_redirects=False)
    reused = mine.session.get(back, allow_redirects=False)

    assert [answer.status_code for answer in (foreign, stolen, good, reused)] == [400, 400, 302, 400]
    assert "start again with connect" in reused.json()["error"]["message"]
    assert requests.get(f"{airflow.url}/callback", allow_redirects=False, timeout=30).status_code == 400
    unknown = requests.get(f"{airflow.url}/callback?code=x&state=y", allow_redirects=False, timeout=30)
    assert unknown.status_code == 400


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
        {"entityType": "CONTACT", "softproField": "phone", "roiSystemsField": "no_such_column"},
        {"entityType": "CONTACT", "softproField": "fax", "roiSystemsField": "id"},
    ]
    refused = plugin.session.put(url, json={"integrationId": integration_id, "mappings": bad})
    assert refused.status_code == 400
    assert [problem[:10] for problem in refused.json()["error"]["details"]] == ["mapping 2:", "mapping 3:"]
    assert len(read("CONTACT")) == 20

    good = {"integrationId": integration_id, "mappings": bad[:1]}
    assert plugin.session.put(url, json=good).json() == {
        "success": True,
        "message": "Mappings updated successfully",
        "data": {"versions": [{"entityType": "CONTACT", "version": 2, "changed": True}], "remap": None},
    }
    assert [entry["roiSystemsField"] for entry in read("CONTACT")] == ["email"]
    assert read("TRANSACTION") == before

    again = {"integrationId": integration_id, "mappings": before}
    assert plugin.session.put(url, json=again).status_code == 200, "what GET answered can be sent back"


def test_disconnect_erases_the_tokens_and_ends_the_grant(airflow: Airflow) -> None:
    plugin = airflow.as_user()
    integration_id = plugin.connect("leaving-org", organization=airflow.vendor_organization())["id"]

    answer = plugin.session.delete(f"{airflow.url}/disconnect/{integration_id}")

    assert answer.json() == {"success": True, "message": "Integration disconnected successfully"}
    assert plugin.status("leaving-org")["status"] == "DISCONNECTED"
    assert airflow.query(
        "select access_token, refresh_token from softpro.integrations where id = %s", integration_id
    ) == [{"access_token": None, "refresh_token": None}]
    refused = plugin.session.post(f"{airflow.url}/sync/contacts", json={"integrationId": integration_id})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "NOT_CONNECTED")


def test_logs_are_paged(airflow: Airflow) -> None:
    plugin = airflow.as_user()
    integration_id = plugin.connect("logs-org", organization=airflow.vendor_organization())["id"]
    plugin.session.post(f"{airflow.url}/sync/contacts", json={"integrationId": integration_id})

    page = plugin.session.get(f"{airflow.url}/sync/logs", params={"integrationId": integration_id, "limit": 1}).json()

    assert len(page["data"]) == 1
    assert page["meta"]["limit"] == 1
    assert page["meta"]["offset"] == 0
    assert page["meta"]["total"] >= 1
    for bad in ({"limit": 0}, {"limit": 201}, {"offset": -1}, {"limit": "many"}):
        refused = plugin.session.get(f"{airflow.url}/sync/logs", params={"integrationId": integration_id, **bad})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "VALIDATION_ERROR")
