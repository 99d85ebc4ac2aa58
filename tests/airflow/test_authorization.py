"""Check the plugin's authorization over HTTP: roles, and access to organizations."""

from __future__ import annotations

import json
import os
import time
import warnings
from dataclasses import replace
from urllib.parse import urlsplit
from uuid import uuid4

import jwt
import pytest
import requests

from ..support.forked_process import AIRFLOW, run_code
from ..support.routes import IDS, OPEN, RIGHTS, ROUTES, SOME_ID, Route, filled
from .conftest import Airflow, users

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
    """Return every method and path of the app, documented or not."""
    environment = {**os.environ, **airflow.stack.environment}
    finished = run_code(LIST_ROUTES, environment=environment, preloaded=AIRFLOW)
    found = next(line for line in finished.stdout.splitlines() if line.startswith("routes:"))
    return {(method, path) for method, path in json.loads(found.removeprefix("routes:"))}


def send(route: Route, session: requests.Session, airflow: Airflow, ids: dict[str, str]) -> requests.Response:
    """Send the route's own request with these ids."""
    url = f"{airflow.url}{filled(route.path, ids)}?{filled(route.query, ids)}"
    body = None if route.body is None else json.loads(filled(json.dumps(route.body), ids))
    return session.request(route.method, url, json=body, timeout=60)


def token(airflow: Airflow, user: str, **claims: object) -> str:
    """Return a user's token with other claims, signed as Airflow signs its own."""
    good = jwt.decode(airflow.stack.token(user), options={"verify_signature": False})
    secret = airflow.stack.environment["AIRFLOW__API_AUTH__JWT_SECRET"]
    with warnings.catch_warnings(action="ignore"):  # about the length of the secret
        return jwt.encode({**good, **claims}, secret, algorithm="HS512")


def test_the_table_of_routes_is_complete(served: set[tuple[str, str]]) -> None:
    assert served - OPEN == {(route.method, route.path) for route in ROUTES}


def test_no_route_but_the_open_ones_answers_without_a_credential(
    airflow: Airflow, served: set[tuple[str, str]], foreign_ids: dict[str, str]
) -> None:
    status = {
        (method, path): requests.request(
            method, airflow.url + filled(path, foreign_ids), json={}, timeout=30
        ).status_code
        for method, path in served
    }
    assert {route for route, code in status.items() if code != 401} <= OPEN
    for method, path in served - OPEN:  # an unauthenticated request is not read
        for body in (b"{", b'{"a": 1e999}', b"[" * 100_000):
            url, json_type = airflow.url + filled(path, foreign_ids), {"Content-Type": "application/json"}
            answer = requests.request(method, url, data=body, headers=json_type, timeout=30)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "AUTHENTICATION_ERROR"), path
    assert requests.post(f"{airflow.url}/connect", data=b" " * 9_000_000, timeout=30).status_code == 401
    for path in ("/docs/oauth2-redirect", "/redoc", "/openapi.yaml", "/", ""):
        assert requests.get(airflow.url + path, timeout=30).status_code in (401, 404)


@every_route
def test_each_role_gets_the_documented_status(airflow: Airflow, route: Route, foreign_ids: dict[str, str]) -> None:
    def status(**headers: str) -> int:
        with requests.Session() as session:
            session.headers.update(headers)
            answer = send(route, session, airflow, foreign_ids)
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
            # The resource does not exist or the body is empty: the request is authorized, and nothing happens.
            nowhere = dict.fromkeys(IDS, SOME_ID) | {"organization": "no org"}
            answer = send(replace(route, body={} if route.body else None), users(airflow, user), airflow, nowhere)
            assert answer.status_code in ((400, 404) if route.tenant else (200,)), answer.text
        else:
            answer = send(route, users(airflow, user), airflow, foreign_ids)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "FORBIDDEN")


@every_route
def test_another_organizations_resources_answer_as_if_they_did_not_exist(
    airflow: Airflow, route: Route, foreign_ids: dict[str, str]
) -> None:
    absent = {name: str(uuid4()) for name in IDS} | {"organization": "no-such-org"}
    stranger = users(airflow, "stranger")

    outside, nowhere = send(route, stranger, airflow, foreign_ids), send(route, stranger, airflow, absent)

    if route.tenant:
        assert outside.status_code == 404
        seen, never = outside.text, nowhere.text
        for name in absent:
            seen, never = seen.replace(foreign_ids[name], name), never.replace(absent[name], name)
        assert seen == never
    else:
        assert "their-org" not in outside.text
    if route.tenant and route.method == "GET":
        found = send(route, users(airflow, "operator"), airflow, foreign_ids)
        assert found.status_code == (404 if "versions/" in route.path or "/diff" in route.path else 200), found.text


@pytest.mark.parametrize("route", [route for route in ROUTES if route.method != "GET"], ids=lambda route: route.path)
def test_a_change_by_cookie_needs_a_csrf_proof(airflow: Airflow, route: Route) -> None:
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


def test_starting_runs_too_often_is_refused_with_a_retry_after(airflow: Airflow) -> None:
    syncer = users(airflow, "syncer")
    allowed = int(os.environ["SOFTPRO_SYNC_CALLS_PER_MINUTE"])
    airflow.query("delete from softpro.sync_calls")
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
    [called] = airflow.query(
        """
        select extract(epoch from clock_timestamp() - min(called_at))::float as seconds_ago from softpro.sync_calls
        """
    )
    assert error["details"]["limit"] == allowed
    assert 60 - called["seconds_ago"] <= error["details"]["retryAfter"] <= 40
    other = users(airflow, "operator").post(f"{airflow.url}/sync/contacts", json={"integrationId": SOME_ID})
    assert other.status_code == 404
    assert syncer.get(f"{airflow.url}/sync/logs", params={"integrationId": SOME_ID}).status_code == 404
    airflow.query("delete from softpro.sync_calls")


def test_a_confined_configurer_works_on_his_own_organization_alone(
    airflow: Airflow, foreign_ids: dict[str, str]
) -> None:
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
