"""Keep secrets out of tables, logs and output in every spelling (promise 10)."""

from __future__ import annotations

import base64
import logging

import pytest

from softpro.db import oauth_tokens
from softpro.db.encryption import Place
from softpro.db.integrations import Integration
from softpro.entities import EntityType
from softpro.services import Services
from softpro.softpro360.consent import STATES

from ..support.databases import dump, execute, rows
from ..support.fixture_types import Connected
from ..support.product import KEY, begin_connection, command, finish_connection, sync
from ..support.sandbox import CLIENT_SECRET, Sandbox


def spellings(secret: str) -> set[str]:
    """Return the secret as plain text, as hex, and as base64 in both alphabets, without padding."""
    plain = secret.encode()
    both = {base64.b64encode(plain).decode(), base64.urlsafe_b64encode(plain).decode()}
    return {secret, plain.hex(), plain.hex().upper(), *(text.rstrip("=") for text in both)}


def tokens(services: Services, integration: Integration) -> set[str]:
    with services.database.connect() as connection:
        grant = oauth_tokens.read(connection, services.vault, integration.id)
    return {token for token in (grant.access_token, grant.refresh_token) if token}


def code_verifiers(services: Services) -> set[str]:
    return {
        services.vault.open(row["code_verifier"], Place(STATES, "code_verifier", row["integration_id"]))
        for row in rows(services.database, "select integration_id, code_verifier from softpro.oauth_states")
    }


def test_no_secret_is_stored_or_logged_anywhere(
    connected: Connected,
    services: Services,
    settings: dict[str, str],
    sandbox: Sandbox,
    vendor_organization: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = {KEY, CLIENT_SECRET}
    integration = connected("acme")
    secrets |= tokens(services, integration)
    sandbox.expire(vendor_organization)
    assert sync(services, integration, EntityType.CONTACT).status == "COMPLETED"
    outputs = [command(settings, "sync", "acme", "--entity", "contacts")]
    secrets |= tokens(services, integration)
    assert len(secrets) == 6
    # Failures of several kinds: unreachable token endpoint, another key, refused consent, revoked grant.
    execute(services.database, "update softpro.integrations set token_expires_at = now()")
    away = {**settings, "SOFTPRO_OAUTH_TOKEN_URL": "http://127.0.0.1:1/token", "SOFTPRO_MAX_RETRIES": "0"}
    outputs.append(command(away, "sync", "acme", "--entity", "contacts"))
    outputs.append(
        command({**settings, "INTEGRATION_ENCRYPTION_KEY": "some other key of 32 characters!"}, "sync", "acme")
    )
    refused = sandbox.consent(begin_connection(services, "acme"), vendor_organization, "refuse")
    outputs.append(command(settings, "callback", refused))
    sandbox.revoke(vendor_organization)
    outputs.append(command(settings, "sync", "acme", "--entity", "contacts"))
    address = sandbox.consent(begin_connection(services, "acme"), vendor_organization)
    secrets |= tokens(services, finish_connection(services, address))
    outputs.append(command(settings, "status", "--json"))
    secrets |= code_verifiers(services)
    assert [output.code for output in outputs] == [0, 1, 1, 1, 1, 0]
    assert len(secrets) == 11

    seen = "\n".join(line for lines in dump(services.database).values() for line in lines)
    seen += "\n".join(output.out + output.err for output in outputs)
    records = [f"{record.getMessage()} {record.__dict__}" for record in caplog.records]
    seen += "\n".join(records) + "".join(capfd.readouterr())
    assert "token_refreshed" in seen
    assert "SoftPro's OAuth server: SoftPro did not respond" in seen
    assert [secret for secret in secrets if any(spelling in seen for spelling in spellings(secret))] == []


def test_a_token_copied_to_another_organizations_row_does_not_open(
    connected: Connected, services: Services, sandbox: Sandbox
) -> None:
    mine = connected("acme")
    connected("globex", at=sandbox.unused_organization())
    execute(
        services.database,
        """
        update softpro.integrations
        set access_token = (select access_token from softpro.integrations where organization_id = 'globex')
        where organization_id = 'acme'
        """,
    )
    log = sync(services, mine, EntityType.CONTACT)
    assert log.status == "FAILED"
    assert "is damaged or was copied from another row or column" in str(log.error_message)
