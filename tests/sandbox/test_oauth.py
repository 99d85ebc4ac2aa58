"""Test OAuth: consent, code, PKCE, rotation, revocation."""

from collections.abc import Callable
from typing import Any

import pytest

from softpro_sandbox.oauth.pkce import create_challenge

from .conftest import REDIRECT, Sandbox

VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
ASKED = {"response_type": "code", "client_id": "sandbox-client", "redirect_uri": REDIRECT}
Start = Callable[..., Sandbox]


def test_consent_gives_a_code_that_becomes_tokens(start: Start) -> None:
    sandbox = start()
    back = sandbox.consent(state="abc é", scope="read:contacts read:transactions")
    response = sandbox.redeem(back["code"])
    assert back["state"] == "abc é"
    assert response.headers["cache-control"] == "no-store"
    assert response.json() | {"access_token": "", "refresh_token": ""} == {
        "access_token": "",
        "refresh_token": "",
        "token_type": "Bearer",
        "expires_in": 3600,
        "scope": "read:transactions read:contacts",
    }


def test_the_grant_is_of_the_organization_that_was_picked(start: Start) -> None:
    sandbox = start(organizations=3).connect(organization=2)
    profile = sandbox.get("/user/profile").json()
    assert profile["organizationId"] == sandbox.organization_ids[2]
    assert set(profile) == {"userId", "organizationId", "email"}


@pytest.mark.parametrize("how", ["button", "switch"])
def test_refused_consent_says_access_denied(start: Start, how: str) -> None:
    sandbox = start()
    sandbox.switch(refuseConsent=how == "switch")
    back = sandbox.consent("refuse" if how == "button" else "allow")
    assert (back["error"], back["state"]) == ("access_denied", "s")
    assert "code" not in back


def test_a_code_used_again_revokes_its_grant(sandbox: Sandbox) -> None:
    code = sandbox.consent()["code"]
    sandbox.use(sandbox.redeem(code).json())
    again = sandbox.redeem(code)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    assert sandbox.get("/user/profile").status_code == 401
    assert sandbox.refresh(sandbox.tokens["refresh_token"]).status_code == 400


def test_a_code_lives_sixty_seconds(start: Start) -> None:
    sandbox = start()
    early, late = sandbox.consent()["code"], sandbox.consent()["code"]
    sandbox.clock.advance(59.9)
    assert sandbox.redeem(early).status_code == 200
    sandbox.clock.advance(0.1)
    assert sandbox.redeem(late).json()["error"] == "invalid_grant"


def test_the_challenge_of_rfc_7636_appendix_b() -> None:
    assert create_challenge(VERIFIER) == CHALLENGE


@pytest.mark.parametrize(
    ("challenged", "verifier", "status"),
    [
        (True, VERIFIER, 200),
        (True, "x" * 43, 400),
        (True, None, 400),
        (False, None, 200),
        (False, VERIFIER, 400),
    ],
)
def test_pkce_is_verified_when_a_challenge_was_given(
    start: Start, challenged: bool, verifier: str | None, status: int
) -> None:
    sandbox = start()
    asked: dict[str, Any] = {"code_challenge": CHALLENGE, "code_challenge_method": "S256"} if challenged else {}
    back = sandbox.consent(**asked)
    assert sandbox.redeem(back["code"], **({"code_verifier": verifier} if verifier else {})).status_code == status


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": "read:everything"}, "invalid_scope"),
        ({"code_challenge": CHALLENGE, "code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": CHALLENGE}, "invalid_request"),
        ({"code_challenge": "short", "code_challenge_method": "S256"}, "invalid_request"),
    ],
)
def test_a_bad_request_of_a_known_client_goes_back_to_it(sandbox: Sandbox, changes: dict[str, str], error: str) -> None:
    query = ASKED | {"state": "s"} | changes
    response = sandbox.http.get("/oauth/authorize", params=query)
    assert response.status_code == 303
    assert response.headers["location"].startswith(f"{REDIRECT}?error={error}&")
    assert response.headers["location"].endswith("&state=s")


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "other"},
        {"redirect_uri": ""},
        {"redirect_uri": "https://example.com/callback"},
        {"redirect_uri": "http://localhost.example.com/"},
        {"redirect_uri": "http://me@localhost/"},
        {"redirect_uri": "http://localhost/#part"},
        {"redirect_uri": "javascript://localhost/"},
    ],
)
def test_nothing_is_redirected_to_an_address_not_known_good(sandbox: Sandbox, changes: dict[str, str]) -> None:
    asked = ASKED | changes
    for response in (
        sandbox.http.get("/oauth/authorize", params=asked),
        sandbox.http.post("/oauth/authorize", data=asked | {"decision": "allow"}),
    ):
        assert response.status_code == 400
        assert response.headers["content-type"].startswith("text/html")


def test_registered_redirect_uris_must_match_exactly(start: Start) -> None:
    sandbox = start(redirect_uris=("https://roi.example.com/cb?x=1",))
    back = sandbox.consent(redirect_uri="https://roi.example.com/cb?x=1")
    other = sandbox.http.get("/oauth/authorize", params=ASKED)
    assert back["x"] == "1"
    assert "code" in back
    assert other.status_code == 400


def test_what_the_client_sent_cannot_write_html(sandbox: Sandbox) -> None:
    page = sandbox.http.get("/oauth/authorize", params=ASKED | {"state": '"><script>x</script>'})
    assert "<script>" not in page.text


def test_redirect_uri_must_be_the_same_at_the_token_endpoint(start: Start) -> None:
    sandbox = start()
    response = sandbox.redeem(sandbox.consent()["code"], redirect_uri="http://localhost:8080/other")
    assert response.json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"client_secret": "wrong", "grant_type": "refresh_token"}, 401, "invalid_client"),
        ({"client_id": "wrong", "grant_type": "refresh_token"}, 401, "invalid_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({}, 400, "invalid_request"),
        ({"grant_type": "refresh_token"}, 400, "invalid_request"),
        ({"grant_type": "authorization_code", "code": "x"}, 400, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "unknown"}, 400, "invalid_grant"),
        ({"grant_type": "authorization_code", "code": "x", "redirect_uri": "y"}, 400, "invalid_grant"),
    ],
)
def test_token_errors_are_those_of_rfc_6749(sandbox: Sandbox, form: dict[str, str], status: int, error: str) -> None:
    response = sandbox.token(**form)
    assert (response.status_code, response.json()["error"]) == (status, error)


def test_a_refresh_rotates_and_leaves_access_tokens_alive(sandbox: Sandbox) -> None:
    new = sandbox.refresh(sandbox.tokens["refresh_token"]).json()
    assert new["refresh_token"] != sandbox.tokens["refresh_token"]
    assert sandbox.get("/user/profile").status_code == 200
    assert sandbox.refresh(new["refresh_token"]).status_code == 200
    assert sandbox.stats()["refreshes"] == 2


def test_a_dead_refresh_token_revokes_the_whole_grant(sandbox: Sandbox) -> None:
    dead = sandbox.tokens["refresh_token"]
    sandbox.use(sandbox.refresh(dead).json())
    assert sandbox.refresh(dead).json()["error"] == "invalid_grant"
    assert sandbox.get("/user/profile").status_code == 401
    assert sandbox.refresh(sandbox.tokens["refresh_token"]).status_code == 400
    assert sandbox.stats()["deadRefreshTokens"] == 2


def test_without_rotation_the_refresh_token_goes_on(sandbox: Sandbox) -> None:
    sandbox.switch(rotateRefresh=False)
    for _ in range(2):
        response = sandbox.refresh(sandbox.tokens["refresh_token"])
        assert response.status_code == 200
        assert "refresh_token" not in response.json()


def test_tokens_die_of_age(sandbox: Sandbox) -> None:
    sandbox.clock.advance(3599)
    assert sandbox.get("/user/profile").status_code == 200
    sandbox.clock.advance(1)
    assert sandbox.get("/user/profile").json()["error"]["code"] == "AUTHENTICATION_ERROR"
    sandbox.clock.advance(30 * 86_400 - 3600)
    assert sandbox.refresh(sandbox.tokens["refresh_token"]).json()["error"] == "invalid_grant"


def test_lifetimes_can_be_switched(start: Start) -> None:
    sandbox = start()
    sandbox.switch(accessTokenLifetime=5)
    sandbox.connect()
    sandbox.clock.advance(5)
    assert sandbox.tokens["expires_in"] == 5
    assert sandbox.get("/user/profile").status_code == 401


def test_revoking_a_refresh_token_ends_the_grant_and_an_unknown_one_is_no_error(sandbox: Sandbox) -> None:
    client = {"client_id": "sandbox-client", "client_secret": "sandbox-secret"}
    assert sandbox.http.post("/oauth/revoke", data=client | {"token": "unknown"}).status_code == 200
    assert sandbox.get("/user/profile").status_code == 200
    assert sandbox.http.post("/oauth/revoke", data=client | {"token": sandbox.tokens["refresh_token"]}).is_success
    assert sandbox.get("/user/profile").status_code == 401
    assert sandbox.http.post("/oauth/revoke", data=client | {"client_secret": "x", "token": "t"}).status_code == 401


def test_a_lost_token_answer_has_rotated_all_the_same(sandbox: Sandbox) -> None:
    sandbox.switch(tokenFaults=1)
    with pytest.raises(ConnectionResetError):
        sandbox.refresh(sandbox.tokens["refresh_token"])
    sandbox.switch(tokenFaults=0)
    assert sandbox.refresh(sandbox.tokens["refresh_token"]).json()["error"] == "invalid_grant"
    assert sandbox.get("/user/profile").status_code == 401


def test_a_scope_that_was_not_granted_is_forbidden(start: Start) -> None:
    sandbox = start().connect(scope="read:transactions")
    assert sandbox.get("/transactions").status_code == 200
    assert sandbox.get("/contacts").json()["error"]["code"] == "FORBIDDEN"
    assert sandbox.http.delete("/api/v1/transactions/ord-000001").status_code == 403


def test_the_control_calls_expire_and_revoke_one_organizations_grants(start: Start) -> None:
    sandbox = start(organizations=2).connect(organization=0)
    first = sandbox.tokens
    sandbox.connect(organization=1)
    assert sandbox.http.post("/sandbox/grants/expire", json={"organizationId": sandbox.organization_ids[0]}).json() == {
        "grants": 1
    }
    assert sandbox.get("/user/profile").status_code == 200
    sandbox.use(first)
    assert sandbox.get("/user/profile").status_code == 401
    sandbox.use(sandbox.refresh(first["refresh_token"]).json())
    assert sandbox.get("/user/profile").status_code == 200
    assert sandbox.http.post("/sandbox/grants/revoke", json={}).json() == {"grants": 2}
    assert sandbox.get("/user/profile").status_code == 401
