"""Handle every response of the token endpoint: store only usable tokens, discard none, and leave none active."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from requests.structures import CaseInsensitiveDict

from softpro.db import oauth_tokens
from softpro.db.oauth_tokens import Credentials, Tokens
from softpro.errors import AuthenticationError, ServerError
from softpro.services import Services
from softpro.settings import OAuthSettings
from softpro.softpro360 import oauth
from softpro.softpro360.client import Client, client_for
from softpro.softpro360.transport import ApiResponse

from ..support.databases import one
from ..support.fixture_types import Connected

CLIENT = Credentials(uuid4(), "client", "secret")
SETTINGS = OAuthSettings.model_construct()
GOOD = {"access_token": "spa_A-b.c~d+e/f==", "refresh_token": "spr_1 2", "expires_in": 60}


def tokens_of(monkeypatch: pytest.MonkeyPatch, body: str, status: int = 200) -> Tokens:
    """Return the tokens that this response of the token endpoint yields."""
    answer = ApiResponse(status, "", CaseInsensitiveDict({"Content-Type": "application/json"}), body.encode())
    monkeypatch.setattr(oauth, "_post", lambda url, form: answer)
    return oauth.exchange_code_for_tokens(SETTINGS, CLIENT, "code", "verifier")


def test_a_good_answer_is_its_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tokens_of(monkeypatch, json.dumps(GOOD)) == Tokens("spa_A-b.c~d+e/f==", "spr_1 2", 60.0)
    for absent in (None, ""):
        assert tokens_of(monkeypatch, json.dumps(GOOD | {"refresh_token": absent})).refresh_token is None


@pytest.mark.parametrize(
    "odd",
    [
        *({"access_token": token} for token in ("tell\ntale", "tell tale", "tellé", "tell=tale", "tell\x00tale", "")),
        *({"refresh_token": token} for token in ("tell\ntale", "tell\x7ftale", "tellé", "tell\x00tale")),
    ],
)
def test_a_token_that_no_header_or_form_can_carry_is_a_server_error_that_does_not_hold_it(
    monkeypatch: pytest.MonkeyPatch, odd: dict[str, str]
) -> None:
    with pytest.raises(ServerError, match="can't be used") as refused:
        tokens_of(monkeypatch, json.dumps(GOOD | odd))
    assert "tell" not in str(refused.value)
    assert refused.value.__suppress_context__


@pytest.mark.parametrize(
    ("expires_in", "seconds"),
    [
        ("1800.5", 1800.5),
        ('"1800"', 1800),
        ("0", 3600),
        ("315360000", 315360000),
        *(
            (absurd, 3600)
            for absurd in ("-1", "315360001", "1e999", "9" * 400, f'"{"9" * 400}"', '"NaN"', '"soon"', '""', "null")
        ),
        *((absurd, 3600) for absurd in ("true", "{}", "[60]")),
    ],
)
def test_an_odd_lifetime_discards_no_token_pair(
    monkeypatch: pytest.MonkeyPatch, expires_in: str, seconds: float
) -> None:
    body = f'{{"access_token": "a", "expires_in": {expires_in}, "refresh_token": "r"}}'
    assert tokens_of(monkeypatch, body) == Tokens("a", "r", seconds)


def test_a_missing_lifetime_is_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tokens_of(monkeypatch, '{"access_token": "a", "refresh_token": "r"}') == Tokens("a", "r", 3600)


def test_the_error_of_the_token_endpoint_is_kept_as_one_short_line(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"error": "invalid\x00_grant", "error_description": "dead\x1b[2J\n" + "!" * 9000}
    with pytest.raises(AuthenticationError) as refused:
        tokens_of(monkeypatch, json.dumps(said), 400)
    assert refused.value.error_code == "invalid_grant"
    assert str(refused.value).startswith("The token endpoint responded invalid_grant: dead[2J !!!")
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 700


def test_reading_the_profile_leaves_no_connection_open(
    services: Services, connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    integration = connected("acme")
    made: list[Client] = []

    def kept(*arguments: Any) -> Client:
        made.append(client_for(*arguments))
        return made[-1]

    monkeypatch.setattr(oauth, "client_for", kept)
    with services.database.connect() as connection:
        token = oauth_tokens.read(connection, services.vault, integration.id).access_token
        assert token
        oauth.validate_token(connection, services.vendor, integration.id, "SANDBOX", token)
    (client,) = made
    assert client.requests_made == 1
    assert not client.session.get_adapter(client.base_url).poolmanager.pools  # type: ignore[attr-defined]


def test_a_pair_stored_during_a_disconnect_is_revoked(
    services: Services, connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    integration = connected("acme")
    ended: list[str] = []

    def revoke(settings: OAuthSettings, client: Credentials, token: str) -> bool:
        ended.append(token)
        return True

    monkeypatch.setattr(oauth, "revoke_token", revoke)

    def disconnect() -> bool:
        with services.database.connect() as connection:
            return oauth.revoke_access(connection, services.vault, services.oauth, integration.id)

    waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    with ThreadPoolExecutor(1) as pool, services.database.connect() as refreshing:
        with refreshing.transaction():
            oauth_tokens.store(refreshing, services.vault, integration.id, Tokens("newer", "newer too", 3600))
            disconnected = pool.submit(disconnect)
            deadline = time.monotonic() + 60
            while not one(services.database, waiting):
                assert time.monotonic() < deadline
                time.sleep(0.01)
        assert disconnected.result(20)

    assert ended == ["newer too"]
    assert one(services.database, "select status from softpro.integrations") == "DISCONNECTED"
