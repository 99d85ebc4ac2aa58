"""Reconnect after a lost key, to another organization at the vendor, and during a refresh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from unittest.mock import ANY

import pytest
import requests

from softpro.connections import oauth_flow
from softpro.db import integrations, oauth_tokens
from softpro.db.database import Database
from softpro.db.encryption import Vault
from softpro.db.integrations import Integration
from softpro.db.oauth_tokens import Credentials, Grant, Tokens
from softpro.entities import EntityType
from softpro.errors import DecryptionError, NotConnected, UsageError
from softpro.services import Services
from softpro.settings import OAuthSettings
from softpro.softpro360 import oauth

from ..support.databases import execute, rows
from ..support.fixture_types import StartSandbox
from ..support.product import begin_connection, build_services, environment, finish_connection, sync
from ..support.sandbox import Sandbox

OTHER_KEY = Vault((b"k" * 32,))


def now(services: Services, integration: Integration) -> Integration:
    with services.database.connect() as connection:
        return integrations.get(connection, integration.id)


def test_when_the_key_is_lost_connecting_again_is_enough(
    services: Services, sandbox: Sandbox, vendor_organization: str, connected: Callable[[str], Integration]
) -> None:
    integration = connected("acme")
    rekeyed = replace(services, vault=OTHER_KEY)
    with services.database.connect() as connection, pytest.raises(DecryptionError, match="connect the organization"):
        oauth_tokens.read(connection, OTHER_KEY, integration.id)

    finish_connection(rekeyed, sandbox.consent(begin_connection(rekeyed, "acme"), vendor_organization))

    assert sync(rekeyed, integration).status == "COMPLETED"


def test_when_the_key_is_lost_disconnecting_still_erases_the_tokens(
    services: Services, connected: Callable[[str], Integration]
) -> None:
    integration = connected("acme")

    revoked = oauth_flow.disconnect(replace(services, vault=OTHER_KEY), integration.id)

    assert revoked is False
    assert now(services, integration).status == "DISCONNECTED"
    with services.database.connect() as connection, pytest.raises(NotConnected):
        oauth_tokens.read(connection, services.vault, integration.id)


def test_another_organization_at_the_vendor_is_refused_and_the_old_connection_is_kept(
    services: Services, sandbox: Sandbox, connected: Callable[[str], Integration]
) -> None:
    integration = connected("acme")

    with pytest.raises(UsageError, match="holds the data of SoftPro's organization"):
        finish_connection(services, sandbox.consent(begin_connection(services, "acme"), sandbox.unused_organization()))

    assert now(services, integration).status == "CONNECTED"
    assert sync(services, integration).status == "COMPLETED"


def test_a_refused_refresh_does_not_expire_a_renewed_connection(
    services: Services, connected: Callable[[str], Integration]
) -> None:
    integration = connected("acme")
    with services.database.connect() as connection:
        stale = oauth_tokens.read(connection, services.vault, integration.id)
        oauth_tokens.store(connection, services.vault, integration.id, Tokens("renewed", "renewed too", 3600))

        expired = oauth_tokens.expire(connection, integration.id, stale.version, "refused")
        stored = oauth_tokens.store(
            connection, services.vault, integration.id, Tokens("late", "late", 3600), replaces=stale.version
        )
        used = oauth.refresh_access_token(connection, services.vault, services.oauth, stale)

    assert (expired, stored, used.access_token) == (False, False, "renewed")
    assert now(services, integration).status == "CONNECTED"


def grant_of(services: Services, integration: Integration) -> Grant:
    with services.database.connect() as connection:
        return oauth_tokens.read(connection, services.vault, integration.id)


def without_revocation(services: Services) -> OAuthSettings:
    """Return settings whose revocation endpoint does not respond."""
    return services.oauth.model_copy(update={"revoke_url": "http://127.0.0.1:1/revoke"})


def is_refused_by_vendor(services: Services, former: Grant) -> bool:
    """Return whether the vendor refuses a refresh of that grant."""
    assert former.refresh_token
    form = {"grant_type": "refresh_token", "refresh_token": former.refresh_token}
    client = {"client_id": former.credentials.client_id, "client_secret": former.credentials.client_secret}
    answer = requests.post(services.oauth.token_url, data={**form, **client}, timeout=30)
    return answer.status_code == 400 and answer.json()["error"] == "invalid_grant"


def test_connecting_again_ends_the_former_grant_at_the_vendor_and_the_new_one_works(
    services: Services, sandbox: Sandbox, vendor_organization: str, connected: Callable[[str], Integration]
) -> None:
    integration = connected("acme")
    former = grant_of(services, integration)

    finish_connection(services, sandbox.consent(begin_connection(services, "acme"), vendor_organization))

    assert is_refused_by_vendor(services, former)
    assert sync(services, integration).status == "COMPLETED"
    execute(services.database, "update softpro.integrations set token_expires_at = now()")
    assert sync(services, integration).status == "COMPLETED"


def test_a_former_grant_that_can_not_be_revoked_is_no_obstacle(
    services: Services,
    sandbox: Sandbox,
    vendor_organization: str,
    connected: Callable[[str], Integration],
    caplog: pytest.LogCaptureFixture,
) -> None:
    integration = connected("acme")

    address = sandbox.consent(begin_connection(services, "acme"), vendor_organization)
    finish_connection(replace(services, oauth=without_revocation(services)), address)

    assert "revoke_failed" in caplog.messages
    assert now(services, integration).status == "CONNECTED"
    assert sync(services, integration).status == "COMPLETED"


def test_a_consent_that_fails_leaves_the_former_grant_as_it_was(
    services: Services, sandbox: Sandbox, connected: Callable[[str], Integration]
) -> None:
    integration = connected("acme")
    former = grant_of(services, integration)

    with pytest.raises(UsageError, match="holds the data of"):
        finish_connection(services, sandbox.consent(begin_connection(services, "acme"), sandbox.unused_organization()))

    assert grant_of(services, integration) == replace(former, due_in=ANY)
    assert not is_refused_by_vendor(services, former)


def test_a_pair_refreshed_during_a_reconnect_is_revoked(
    services: Services,
    sandbox: Sandbox,
    vendor_organization: str,
    connected: Callable[[str], Integration],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The response to a refresh arrives after the new grant is stored, so that pair would never be used."""
    integration = connected("acme")
    former = grant_of(services, integration)
    address = sandbox.consent(begin_connection(services, "acme"), vendor_organization)
    refreshed: list[Tokens] = []
    ask = oauth._token_request

    def reconnect_first(settings: OAuthSettings, client: Credentials, form: dict[str, str]) -> Tokens:
        tokens = ask(settings, client, form)
        if form["grant_type"] == "refresh_token":
            refreshed.append(tokens)
            finish_connection(replace(services, oauth=without_revocation(services)), address)
        return tokens

    with monkeypatch.context() as patched, services.database.connect() as connection:
        patched.setattr(oauth, "_token_request", reconnect_first)
        used = oauth.refresh_access_token(connection, services.vault, services.oauth, former)

    (orphan,) = refreshed
    assert used.access_token not in (former.access_token, orphan.access_token)
    assert is_refused_by_vendor(services, replace(former, refresh_token=orphan.refresh_token))
    assert sync(services, integration).status == "COMPLETED"


def test_beginning_to_connect_changes_nothing_before_consent_is_given(
    services: Services, sandbox: Sandbox, vendor_organization: str, connected: Callable[[str], Integration]
) -> None:
    integration = connected("acme")
    row = "select client_id, client_secret, environment, status, token_version from softpro.integrations"
    before = rows(services.database, row)

    url = oauth_flow.connect(services, "acme", client_id="another", client_secret="another's", environment="PRODUCTION")

    assert "client_id=another&" in url
    assert rows(services.database, row) == before
    assert sync(services, integration).status == "COMPLETED"


def test_a_lost_refresh_answer_is_not_asked_for_again_while_the_token_is_good(
    start_sandbox: StartSandbox, database: Database
) -> None:
    sandbox = start_sandbox(accessTokenLifetime=60)
    services = build_services(environment(database, sandbox), database)
    address = sandbox.consent(begin_connection(services, "acme"), sandbox.organizations[0])
    integration = finish_connection(services, address)
    execute(database, "update softpro.integrations set token_issued_at = token_issued_at - interval '10 minutes'")
    sandbox.switch(tokenFaults=1)

    logs = [sync(services, integration, kind) for kind in (EntityType.CONTACT, EntityType.TRANSACTION)]

    assert [log.status for log in logs] == ["COMPLETED", "COMPLETED"]
    assert (sandbox.stats()["lostTokenAnswers"], sandbox.stats()["deadRefreshTokens"]) == (1, 0)
    assert now(services, integration).status == "CONNECTED"


def test_after_a_lost_refresh_answer_expired_says_so_when_the_token_has_ended(
    start_sandbox: StartSandbox, database: Database
) -> None:
    sandbox = start_sandbox()
    services = build_services(environment(database, sandbox), database)
    address = sandbox.consent(begin_connection(services, "acme"), sandbox.organizations[0])
    integration = finish_connection(services, address)
    execute(database, "update softpro.integrations set token_expires_at = now()")
    sandbox.switch(tokenFaults=1)
    assert sync(services, integration).status == "FAILED"
    sandbox.switch(tokenFaults=0)

    log = sync(services, integration)

    assert log.status == "FAILED"
    assert "connect the organization again" in (log.error_message or "")
    assert now(services, integration).status == "EXPIRED"
