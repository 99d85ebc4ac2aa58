"""Connect from another site, and give strangers at the open routes nothing."""

from __future__ import annotations

import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from softpro_demo import consent

from ..support.api_server import running
from ..support.databases import one, rows
from ..support.product import environment
from ..support.sandbox import Sandbox
from .conftest import FRONTEND, Web, error_of

UNREACHABLE = "postgresql://someone@127.0.0.1:1/secret_database"


def begun(web: Web, organization: str, **headers: str) -> dict[str, str]:
    """Begin a connection from a server, which keeps no cookies, and return both addresses."""
    session = web.as_user()
    session.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    response = session.post(f"{web.url}/connect", json={"organizationId": organization}, timeout=30)
    response.raise_for_status()
    data: dict[str, str] = response.json()["data"]
    return data


def is_page(response: requests.Response, status: int) -> bool:
    return (
        response.status_code == status
        and response.headers["Content-Type"] == "text/html; charset=utf-8"
        and response.headers["Cache-Control"] == "no-store"
        and response.headers["Content-Security-Policy"].startswith("default-src 'none'")
        and "The connection to SoftPro 360 was not made" in response.text
    )


def test_a_frontend_of_another_site_connects(web: Web) -> None:
    address = begun(web, "elsewhere")["browserUrl"]
    browser = requests.Session()

    opened = browser.get(address, allow_redirects=False, timeout=30)
    back = consent.give(opened.headers["Location"], organization=web.sandbox.unused_organization())
    stolen = requests.get(back, allow_redirects=False, timeout=30)
    landed = browser.get(back, allow_redirects=False, timeout=30)

    assert opened.status_code == 302
    assert is_page(stolen, 400)
    assert landed.headers["Location"] == "http://127.0.0.1:3000?integration=softpro&status=connected"
    assert one(web.database, "select status from softpro.integrations where organization_id = 'elsewhere'") == (
        "CONNECTED"
    )


def test_the_address_for_the_browser_works_once(web: Web) -> None:
    address = begun(web, "once")["browserUrl"]
    first = requests.get(address, allow_redirects=False, timeout=30)
    before = rows(web.database, "select * from softpro.oauth_states")

    again = requests.get(address, allow_redirects=False, timeout=30)
    forged = requests.get(address[:-1] + "-", allow_redirects=False, timeout=30)
    short = requests.get(f"{web.url}/connect/x", allow_redirects=False, timeout=30)
    long = requests.get(f"{web.url}/connect/{'x' * 4000}", allow_redirects=False, timeout=30)

    assert first.status_code == 302
    assert all(is_page(each, 400) for each in (again, forged, short, long))
    assert "Set-Cookie" not in again.headers
    assert rows(web.database, "select * from softpro.oauth_states") == before


def test_a_page_of_this_server_gets_no_address_for_another_browser(web: Web) -> None:
    assert begun(web, "own", Sec_Fetch_Site="same-origin")["browserUrl"] is None


def test_only_allowed_origins_may_call_and_without_cookies(web: Web) -> None:
    def preflight(origin: str) -> requests.Response:
        headers = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        return requests.options(f"{web.url}/connect", headers=headers, timeout=30)

    allowed = preflight(FRONTEND)
    assert (allowed.status_code, allowed.headers["Access-Control-Allow-Origin"]) == (200, FRONTEND)
    assert "Access-Control-Allow-Credentials" not in allowed.headers
    for other in ("https://evil.example", "http://app.example.com", "https://app.example.com.evil.example", "null"):
        assert "Access-Control-Allow-Origin" not in preflight(other).headers
    answered = requests.get(f"{web.url}/status", headers={"Origin": FRONTEND}, timeout=30)
    assert (answered.status_code, answered.headers["Access-Control-Allow-Origin"]) == (401, FRONTEND)


@pytest.mark.parametrize("query", ["", "state=x&code=y", "code=<script>", f"state={'x' * 5000}", "state=%00%0a"])
def test_a_failed_callback_is_a_page(web: Web, query: str) -> None:
    failed = requests.get(f"{web.url}/callback?{query}", allow_redirects=False, timeout=30)
    assert is_page(failed, 400)
    assert "<script>" not in failed.text


def test_foreign_text_and_secrets_do_not_reach_the_log(web: Web) -> None:
    session = web.as_user()
    address = session.post(f"{web.url}/connect", json={"organizationId": "logged"}, timeout=30).json()["data"]
    state = parse_qs(urlsplit(address["authorizationUrl"]).query)["state"][0]
    forged = "no\r\n2026-01-01 CRITICAL forged line\x1b[2J\u2028and more"

    landed = session.get(
        f"{web.url}/callback",
        params={"state": state, "error": "access_denied", "error_description": forged, "code": "the-secret-code"},
        allow_redirects=False,
        timeout=30,
    )
    requests.get(address["browserUrl"], allow_redirects=False, timeout=30)

    assert landed.status_code == 302
    log = web.api.log.read_text()
    assert "connection failed" in log
    assert not re.search(r"^2026-01-01 CRITICAL", log, re.MULTILINE)
    assert "\x1b[2J" not in log
    assert state not in log
    assert "the-secret-code" not in log
    assert urlsplit(address["browserUrl"]).path.rpartition("/")[2] not in log
    stored = one(web.database, "select last_error_message from softpro.integrations where organization_id = 'logged'")
    assert "\n" not in stored


def test_a_cookie_is_of_one_connection_and_none_is_taken_over(web: Web) -> None:
    session = web.as_user()
    session.cookies.set("softpro_connect", "planted")
    names = []
    for organization in ("tab-1", "tab-2"):
        response = session.post(f"{web.url}/connect", json={"organizationId": organization}, timeout=30)
        assert "planted" not in response.headers["Set-Cookie"]
        names.append(response.headers["Set-Cookie"].partition("=")[0])
    assert names[0] != names[1]


def test_the_cookie_is_secure_behind_tls_and_the_database_is_not_named(sandbox: Sandbox, web: Web) -> None:
    """Behind a proxy that ends TLS, requests arrive as http, and the redirect URI is https."""
    settings = environment(
        web.database, sandbox, SOFTPRO_OAUTH_REDIRECT_URI="https://roi.example.com/api/v1/integrations/softpro/callback"
    )
    with running(settings) as api:
        made = api.as_user().post(f"{api.url}/connect", json={"organizationId": "behind-tls"}, timeout=30)
        preflight = requests.options(f"{api.url}/connect", headers={"Origin": FRONTEND}, timeout=30)
    cookie = made.headers["Set-Cookie"]
    assert cookie.startswith("__Host-softpro_connect_")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=lax"} <= set(cookie.split("; "))
    assert "Domain" not in cookie
    assert made.json()["data"]["browserUrl"].startswith("https://roi.example.com/api/v1/integrations/softpro/connect/")
    assert "Access-Control-Allow-Origin" not in preflight.headers  # no origin is allowed by default


def test_nobody_learns_the_address_of_the_database(sandbox: Sandbox, web: Web) -> None:
    settings = environment(web.database, sandbox, SOFTPRO_DATABASE_URL=UNREACHABLE)
    with running(settings) as api:
        callback = requests.get(f"{api.url}/callback?state=x&code=y", allow_redirects=False, timeout=60)
        reader = api.as_user("reader").get(f"{api.url}/health/detail", timeout=60)
        admin = api.as_user().get(f"{api.url}/health/detail", timeout=60)

    assert is_page(callback, 503)
    assert error_of(reader) == error_of(admin) == (503, "DATABASE_UNAVAILABLE")
    for response in (callback, reader, admin):
        assert not re.search(r"127\.0\.0\.1|secret_database|someone|port 1\b", response.text)


def test_the_scheme_of_an_origin_counts(web: Web) -> None:
    host = urlsplit(web.url).netloc

    def changed(origin: str) -> int:
        headers = {"Origin": origin, "X-Requested-With": "x"}
        cookies = {"_token": web.api.tokens["admin"]}
        return requests.post(f"{web.url}/connect", json={}, headers=headers, cookies=cookies, timeout=30).status_code

    assert changed(f"http://{host}") == 400
    assert changed(f"https://{host}") == 403


def test_no_response_with_data_is_stored(web: Web) -> None:
    described = web.as_user().get(f"{web.url}/openapi.json", timeout=30)
    assert described.headers["Cache-Control"] == "no-store"
    checked = 0
    for path, operations in described.json()["paths"].items():
        filled = re.sub(r"\{\w+\}", "00000000-0000-0000-0000-000000000001", path)
        for method in operations:
            response = web.as_user().request(method, web.url + filled, json={}, allow_redirects=False, timeout=30)
            assert response.headers["Cache-Control"] == "no-store", (method, path, response.status_code)
            checked += 1
    assert checked > 50


def test_strangers_are_held_to_a_rate_and_do_not_delay_airflow(web: Web) -> None:
    def attack(number: int) -> list[requests.Response]:
        with requests.Session() as session:
            address = f"{web.url}/callback?state={number}&code=x"
            return [session.get(address, allow_redirects=False, timeout=30) for _ in range(10)]

    with ThreadPoolExecutor(60) as attackers:
        attacks = attackers.map(attack, range(60))
        slowest = max(web.api.airflow_responds_within() for _ in range(10))
        refused = [response for responses in attacks for response in responses]

    assert {response.status_code for response in refused} <= {400, 429, 503}
    limited = [response for response in refused if response.status_code == 429]
    assert len(limited) > 300
    assert all(is_page(response, 429) and int(response.headers["Retry-After"]) >= 1 for response in limited[:20])
    assert slowest < 5


def test_dribbled_webhooks_are_few_and_end(web: Web) -> None:
    address = urlsplit(web.url)
    head = f"POST {address.path}/webhooks/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{{"
    sockets = []
    try:
        for _ in range(80):
            sockets.append(socket.create_connection((address.hostname, address.port), timeout=5))
            sockets[-1].sendall(head.encode())
        begun = time.monotonic()
        open_now = 0
        for each in sockets:
            each.settimeout(15)
            first = each.recv(100)
            assert first.startswith((b"HTTP/1.1 503 ", b"HTTP/1.1 408 ")), first
            open_now += first.startswith(b"HTTP/1.1 408 ")
        assert open_now <= 50
        assert time.monotonic() - begun < 14
    finally:
        for each in sockets:
            each.close()


def test_forged_webhooks_are_refused_and_soon_limited(web: Web) -> None:
    signature = {"X-SoftPro-Signature": "0" * 64}
    with ThreadPoolExecutor(8) as attackers:
        found = list(
            attackers.map(
                lambda _: requests.post(f"{web.url}/webhooks/x", data=b"{}", headers=signature, timeout=30).status_code,
                range(400),
            )
        )
    assert set(found) <= {401, 429}


@pytest.mark.parametrize("authorization", ["Bearer ", "bearer \t", "Bearer", "Basic eDp4"])
def test_a_cookie_needs_its_proof_beside_an_authorization_without_a_token(web: Web, authorization: str) -> None:
    cookies, headers = {"_token": web.api.tokens["admin"]}, {"Authorization": authorization}
    body = {"organizationId": "by-cookie"}

    refused = requests.post(f"{web.url}/connect", json=body, cookies=cookies, headers=headers, timeout=30)

    assert error_of(refused) == (403, "FORBIDDEN")
    assert one(web.database, "select count(*) from softpro.integrations where organization_id = 'by-cookie'") == 0
