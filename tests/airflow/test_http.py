"""The plugin over HTTP: who may, the specification's shapes, and what becomes of bad input."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import jwt
import pytest
import requests

from softpro_demo import consent
from softpro_demo.stack import ROOT

from .conftest import Airflow

SOME_ID = "00000000-0000-0000-0000-000000000001"
RIGHTS = {
    "admin": {"read", "operate", "configure"},
    "operator": {"read", "operate", "configure"},
    "syncer": {"read", "operate"},
    "reader": {"read"},
}
FILLED = {"version": "1", "asset": "start.js", "order_id": "ord-1", "contact_id": "con-1"}
IDS = ("integration_id", "case_id", "hold_id", "log_id", "event_id")


@dataclass(frozen=True)
class Route:
    """A route, the right it needs, and a request that would find something: ids in braces stand for what `Theirs` is.

    Without ids it is about no organization.
    """

    method: str
    path: str
    right: str
    query: str = ""
    body: Mapping[str, object] | None = None

    @property
    def tenant(self) -> bool:
        named = f"{self.path}{self.query}{json.dumps(self.body)}"
        return any(f"{{{name}}}" in named for name in (*IDS, "organization"))


OF_STREAM = "integrationId={integration_id}&entityType=CONTACT"
IT = {"integrationId": "{integration_id}"}
STREAM = {**IT, "entityType": "CONTACT"}
MAPPING = {"entityType": "CONTACT", "softproField": "email", "roiSystemsField": "email"}
ROUTES = [
    Route("POST", "/connect", "configure", body={"organizationId": "{organization}"}),
    Route("DELETE", "/disconnect/{integration_id}", "configure"),
    Route("GET", "/status", "read", "organizationId={organization}"),
    Route("GET", "/settings/{integration_id}", "read"),
    Route("PATCH", "/settings/{integration_id}", "configure", body={"syncFrequency": 600}),
    Route("GET", "/mappings", "read", "integrationId={integration_id}"),
    Route("PUT", "/mappings", "configure", body={**IT, "mappings": [MAPPING]}),
    Route("GET", "/mappings/versions", "read", OF_STREAM),
    Route("GET", "/mappings/versions/{version}", "read", OF_STREAM),
    Route("GET", "/mappings/diff", "read", f"{OF_STREAM}&from=1"),
    Route("POST", "/mappings/rollback", "configure", body={**STREAM, "version": 1}),
    Route("POST", "/mappings/preview", "operate", body={**STREAM, "mappings": [MAPPING]}),
    Route("POST", "/mappings/remap", "operate", body=STREAM),
    Route("GET", "/mappings/coverage", "read", "integrationId={integration_id}"),
    Route("POST", "/sync/transactions", "operate", body=IT),
    Route("POST", "/sync/contacts", "operate", body=IT),
    Route("POST", "/sync/transactions/{order_id}", "operate", body=IT),
    Route("POST", "/sync/contacts/{contact_id}", "operate", body=IT),
    Route("GET", "/sync/logs", "read", "integrationId={integration_id}"),
    Route("GET", "/sync/logs/{log_id}", "read"),
    Route("GET", "/quarantine", "operate", "integrationId={integration_id}"),
    Route("GET", "/quarantine/{case_id}", "operate"),
    Route("PUT", "/quarantine/{case_id}", "operate", body={"record": {"id": "con-1"}}),
    Route("POST", "/quarantine/replay", "operate", body=STREAM),
    Route("POST", "/quarantine/{case_id}/discard", "operate", body={"reason": "none of ours"}),
    Route("GET", "/holds", "read", "integrationId={integration_id}"),
    Route("POST", "/holds/{hold_id}/approve", "operate", body=IT),
    Route("POST", "/holds/{hold_id}/reject", "operate", body={**IT, "reason": "no"}),
    Route("GET", "/webhooks/events", "read", "integrationId={integration_id}"),
    Route("GET", "/webhooks/events/{event_id}", "operate", "integrationId={integration_id}"),
    Route("POST", "/webhooks/events/{event_id}/retry", "operate", body=IT),
    Route("POST", "/webhooks/events/retry", "operate", body=IT),
    Route("GET", "/webhooks/stats", "read", "integrationId={integration_id}"),
    Route("GET", "/webhooks/config", "read", "integrationId={integration_id}"),
    Route("PATCH", "/webhooks/config", "configure", body={**IT, "webhooksEnabled": True}),
    Route("GET", "/access", "configure"),
    Route(
        "PUT", "/access", "configure", body={"kind": "USER", "subject": "nobody", "organizations": ["{organization}"]}
    ),
    Route("GET", "/health/detail", "read"),
    Route("GET", "/openapi.json", "read"),
    Route("GET", "/docs", "read"),
    Route("GET", "/docs/{asset}", "read"),
]
OPEN = {("GET", "/callback"), ("GET", "/health"), ("POST", "/webhooks/{integration_id}")}
LIST_ROUTES = """
import json
from softpro_web.app import create_app
def walk(routes, prefix=""):
    for route in routes:
        inner = getattr(route, "routes", None)
        if inner is not None:
            yield from walk(inner, prefix + getattr(route, "path", ""))
        else:
            for method in sorted(getattr(route, "methods", None) or ["GET"]):
                yield method, prefix + route.path
print("routes:" + json.dumps(list(walk(create_app().routes))))
"""

every_route = pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")


@pytest.fixture(scope="module")
def served(airflow: Airflow) -> set[tuple[str, str]]:
    """Every method and path that the app has, in its description or not."""
    environment = {**os.environ, **airflow.stack.environment}
    environment["PYTHONPATH"] += f":{ROOT / 'plugins'}"
    command = [sys.executable, "-W", "ignore", "-c", LIST_ROUTES]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    found = next(line for line in told.stdout.splitlines() if line.startswith("routes:"))
    return {(method, path) for method, path in json.loads(found.removeprefix("routes:"))}


@pytest.fixture(scope="module")
def theirs(airflow: Airflow) -> dict[str, str]:
    """The ids of what an organization has that the user `stranger` may not see."""
    begin = airflow.as_user().session.post(f"{airflow.url}/connect", json={"organizationId": "their-org"})
    begin.raise_for_status()
    integration_id = airflow.as_user().status("their-org")["id"]
    made = {name: str(uuid4()) for name in IDS} | {"integration_id": integration_id, "organization": "their-org"}
    airflow.query(
        """
        insert into softpro.sync_logs
            (id, integration_id, organization_id, run_id, sync_type, entity_type, mode, status)
        values (%s, %s, 'their-org', 'made up', 'MANUAL', 'CONTACT', 'full', 'FAILED')
        """,
        made["log_id"],
        integration_id,
    )
    airflow.query(
        """
        insert into softpro.quarantine
            (id, integration_id, organization_id, entity_type, record_key, payload, payload_hash, reasons, log_id)
        values (%s, %s, 'their-org', 'CONTACT', 'k', '{}', '', '[]', %s)
        """,
        made["case_id"],
        integration_id,
        made["log_id"],
    )
    airflow.query(
        """
        insert into softpro.holds (id, integration_id, organization_id, entity_type, log_id, findings, records)
        values (%s, %s, 'their-org', 'CONTACT', %s, '[]', 1)
        """,
        made["hold_id"],
        integration_id,
        made["log_id"],
    )
    airflow.query(
        """
        insert into softpro.webhook_events
            (id, integration_id, organization_id, event_type, event_id, entity_type, entity_id, payload,
             signature_verified, attempts, max_attempts)
        values (%s, %s, 'their-org', 'CONTACT_UPDATED', 'evt-1', 'CONTACT', 'con-1', '{}', true, 5, 5)
        """,
        made["event_id"],
        integration_id,
    )
    confined = {"kind": "USER", "subject": "stranger", "organizations": ["their-own-org"]}
    airflow.as_user().session.put(f"{airflow.url}/access", json=confined, timeout=30).raise_for_status()
    return made


def filled(text: str, ids: dict[str, str]) -> str:
    for name, value in (FILLED | ids).items():
        text = text.replace(f"{{{name}}}", value)
    return text


def send(route: Route, session: requests.Session, airflow: Airflow, ids: dict[str, str]) -> requests.Response:
    """The route's own request, about these ids."""
    url = f"{airflow.url}{filled(route.path, ids)}?{filled(route.query, ids)}"
    body = None if route.body is None else json.loads(filled(json.dumps(route.body), ids))
    return session.request(route.method, url, json=body, timeout=60)


def token(airflow: Airflow, user: str, **claims: object) -> str:
    """A user's token with other claims in it, signed as Airflow signs its own."""
    good = jwt.decode(airflow.stack.token(user), options={"verify_signature": False})
    secret = airflow.stack.environment["AIRFLOW__API_AUTH__JWT_SECRET"]
    with warnings.catch_warnings(action="ignore"):  # about the length of the secret
        return jwt.encode({**good, **claims}, secret, algorithm="HS512")


def test_the_table_of_routes_is_complete(served: set[tuple[str, str]]) -> None:
    assert served - OPEN == {(route.method, route.path) for route in ROUTES}


def test_no_route_but_the_open_ones_answers_without_a_credential(
    airflow: Airflow, served: set[tuple[str, str]], theirs: dict[str, str]
) -> None:
    status = {
        (method, path): requests.request(method, airflow.url + filled(path, theirs), json={}, timeout=30).status_code
        for method, path in served
    }
    assert {route for route, code in status.items() if code != 401} <= OPEN
    for method, path in served - OPEN:  # nothing is read of what nobody sends
        for body in (b"{", b'{"a": 1e999}', b"[" * 100_000):
            url, json_type = airflow.url + filled(path, theirs), {"Content-Type": "application/json"}
            answer = requests.request(method, url, data=body, headers=json_type, timeout=30)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "AUTHENTICATION_ERROR"), path
    assert requests.post(f"{airflow.url}/connect", data=b" " * 9_000_000, timeout=30).status_code == 401
    for path in ("/docs/oauth2-redirect", "/redoc", "/openapi.yaml", "/", ""):
        assert requests.get(airflow.url + path, timeout=30).status_code in (401, 404)


@every_route
def test_who_gets_which_status(airflow: Airflow, route: Route, theirs: dict[str, str]) -> None:
    def status(**headers: str) -> int:
        with requests.Session() as session:
            session.headers.update(headers)
            answer = send(route, session, airflow, theirs)
        assert answer.json()["success"] is False
        return answer.status_code

    past = int(time.time()) - 3600
    expired = token(airflow, "admin", iat=past - 60, nbf=past - 60, exp=past)
    assert status() == 401
    assert status(Authorization=f"Bearer {expired}") == 401
    assert status(Cookie=f"_token={expired}", X_Requested_With="x") in (401, 403)
    assert status(Authorization=f"Bearer {token(airflow, 'admin', role='admin')[:-6]}nosuch") in (401, 403)
    for user, rights in RIGHTS.items():
        if route.right in rights:
            # what is asked for is not there, or the body is empty: let in, and nothing happens
            nowhere = dict.fromkeys(IDS, SOME_ID) | {"organization": "no org"}
            answer = send(replace(route, body={} if route.body else None), users(airflow, user), airflow, nowhere)
            assert answer.status_code in ((400, 404) if route.tenant else (200,)), answer.text
        else:
            answer = send(route, users(airflow, user), airflow, theirs)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "FORBIDDEN")


@every_route
def test_what_is_another_organizations_answers_as_what_does_not_exist(
    airflow: Airflow, route: Route, theirs: dict[str, str]
) -> None:
    absent = {name: str(uuid4()) for name in IDS} | {"organization": "no-such-org"}
    stranger = users(airflow, "stranger")

    outside, nowhere = send(route, stranger, airflow, theirs), send(route, stranger, airflow, absent)

    if route.tenant:
        assert outside.status_code == 404
        seen, never = outside.text, nowhere.text
        for name in absent:
            seen, never = seen.replace(theirs[name], name), never.replace(absent[name], name)
        assert seen == never
    else:
        assert "their-org" not in outside.text
    if route.tenant and route.method == "GET":
        found = send(route, users(airflow, "operator"), airflow, theirs)
        assert found.status_code == (404 if "versions/" in route.path or "/diff" in route.path else 200), found.text


def users(airflow: Airflow, user: str) -> requests.Session:
    if user not in _sessions:
        _sessions[user] = airflow.as_user(user).session
    return _sessions[user]


_sessions: dict[str, requests.Session] = {}


@pytest.mark.parametrize("route", [route for route in ROUTES if route.method != "GET"], ids=lambda route: route.path)
def test_a_change_by_cookie_has_to_prove_that_it_is_ours(airflow: Airflow, route: Route) -> None:
    own = f"http://{urlsplit(airflow.url).netloc}"
    cookie = str(users(airflow, "admin").headers["Authorization"]).removeprefix("Bearer ")
    url = airflow.url + filled(route.path, dict.fromkeys(IDS, SOME_ID))

    def status(**headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return requests.request(
            route.method, url, json={}, cookies={"_token": cookie}, headers=named, timeout=30
        ).status_code

    assert status() == 403
    assert status(Origin="https://evil.example", X_Requested_With="x") == 403
    assert status(Origin=own) == 403
    assert status(Sec_Fetch_Site="cross-site", Origin=own, X_Requested_With="x") == 403
    assert status(Origin=own, X_Requested_With="x") in (400, 404)
    assert status(Sec_Fetch_Site="same-origin", X_Requested_With="x") in (400, 404)


def test_who_starts_runs_too_often_is_told_when_to_come_again(airflow: Airflow) -> None:
    syncer = users(airflow, "syncer")
    allowed = int(os.environ["SOFTPRO_SYNC_CALLS_PER_MINUTE"])
    airflow.query(
        """
        insert into softpro.sync_calls
        select 'syncer', clock_timestamp() - interval '20 seconds' from generate_series(1, %s)
        """,
        allowed,
    )

    answer = syncer.post(f"{airflow.url}/sync/contacts", json={"integrationId": SOME_ID})

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (429, "RATE_LIMITED")
    assert answer.headers["Retry-After"] == str(error["details"]["retryAfter"])
    assert error["details"] == {"limit": allowed, "retryAfter": pytest.approx(40, abs=4)}
    other = users(airflow, "operator").post(f"{airflow.url}/sync/contacts", json={"integrationId": SOME_ID})
    assert other.status_code == 404
    assert syncer.get(f"{airflow.url}/sync/logs", params={"integrationId": SOME_ID}).status_code == 404
    airflow.query("delete from softpro.sync_calls")


def test_a_confined_configurer_works_on_his_own_organization_alone(airflow: Airflow, theirs: dict[str, str]) -> None:
    stranger = users(airflow, "stranger")

    begun = stranger.post(f"{airflow.url}/connect", json={"organizationId": "their-own-org"})
    listed = stranger.get(f"{airflow.url}/access").json()["data"]
    wider = stranger.put(f"{airflow.url}/access", json={**listed[0], "organizations": []})
    other = stranger.put(f"{airflow.url}/access", json={**listed[0], "organizations": ["their-own-org", "their-org"]})

    assert begun.status_code == 200
    assert listed == [{"kind": "USER", "subject": "stranger", "organizations": ["their-own-org"]}]
    assert (wider.status_code, other.status_code) == (403, 404)
    health = stranger.get(f"{airflow.url}/health/detail").json()["data"]
    assert sum(health["integrations"].values()) == 1


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b"{", "application/json", 400),
        (b'{"organizationId": "\xff"}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
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


def test_what_is_not_there_answers_in_the_same_envelope(airflow: Airflow) -> None:
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


def test_settings_change_one_by_one_and_never_show_a_secret(airflow: Airflow, theirs: dict[str, str]) -> None:
    url, admin = f"{airflow.url}/settings/{theirs['integration_id']}", users(airflow, "admin")
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
    filters = {"integrationId": integration_id, "entityType": "CONTACT", "status": "COMPLETED"}
    filtered = plugin.session.get(f"{airflow.url}/sync/logs", params=filters).json()
    assert {(log["entityType"], log["status"]) for log in filtered["data"]} == {("CONTACT", "COMPLETED")}
    whole = plugin.session.get(f"{airflow.url}/sync/logs/{filtered['data'][0]['id']}").json()["data"]
    assert whole.items() >= filtered["data"][0].items()
    assert (whole["direction"], whole["entityId"], whole["stackTrace"]) == ("SOFTPRO_TO_ROI", None, None)
    for bad in ({"limit": 0}, {"limit": 201}, {"offset": -1}, {"limit": "many"}):
        refused = plugin.session.get(f"{airflow.url}/sync/logs", params={"integrationId": integration_id, **bad})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "VALIDATION_ERROR")
