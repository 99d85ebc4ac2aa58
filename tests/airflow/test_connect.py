"""Connect over HTTP: to the consent page, back by the callback, and disconnect."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from softpro_demo import consent

from .conftest import Airflow


def test_connect_and_callback_make_a_connection_and_status_shows_it(airflow: Airflow) -> None:
    plugin = airflow.as_user()
    begun = plugin.session.post(f"{airflow.url}/connect", json={"organizationId": "shape-org"})
    assert begun.json().keys() == {"success", "data"}
    assert begun.json()["data"].keys() == {"authorizationUrl", "browserUrl"}

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


def test_the_browser_is_redirected_to_the_requested_path(airflow: Airflow) -> None:
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


def test_a_refused_consent_redirects_to_the_frontend_with_the_reason(airflow: Airflow) -> None:
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
    assert "start again with connect" in reused.text
    assert requests.get(f"{airflow.url}/callback", allow_redirects=False, timeout=30).status_code == 400
    unknown = requests.get(f"{airflow.url}/callback?code=x&state=y", allow_redirects=False, timeout=30)
    assert unknown.status_code == 400


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
