"""Choose the client and environment of an organization's next connection."""

from __future__ import annotations

import os
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

import pytest

from softpro.connections import oauth_flow
from softpro.db import integration_settings
from softpro.db.integrations import Integration
from softpro.errors import SettingsError
from softpro.services import Services

from ..support.databases import one
from ..support.fixture_types import Connected
from ..support.product import finish_connection
from ..support.sandbox import CLIENT_ID, CLIENT_SECRET, Sandbox


@pytest.fixture
def integration(connected: Connected) -> Integration:
    return connected("acme")


def choose(services: Services, integration: Integration, client_id: str | None, secret: str | None) -> None:
    with services.database.connect() as connection:
        integration_settings.change_client(connection, services.vault, integration.id, client_id, secret)


def environment_of(services: Services, integration: Integration) -> tuple[str, str | None]:
    with services.database.connect() as connection:
        found = integration_settings.read(connection, integration.id)
    return found.environment, found.next_environment


def test_a_client_of_its_own_connects_next_and_is_in_force_once_consent_was_given(
    services: Services, integration: Integration, sandbox: Sandbox, vendor_organization: str
) -> None:
    choose(services, integration, CLIENT_ID, CLIENT_SECRET)
    with patch.dict(os.environ, clear=True):  # the settings name no client
        address = oauth_flow.connect(services, "acme")
        assert parse_qs(urlsplit(address).query)["client_id"] == [CLIENT_ID]
        finish_connection(services, sandbox.consent(address, vendor_organization))

        choose(services, integration, None, None)
        with pytest.raises(SettingsError, match="SOFTPRO_CLIENT_ID"):
            oauth_flow.connect(services, "acme")


def test_a_secret_is_stored_sealed(services: Services, integration: Integration) -> None:
    choose(services, integration, "a client", "a secret of theirs")
    assert one(services.database, "select next_client_secret from softpro.integrations").startswith("v1.")


def test_another_environment_is_asked_for_next_and_is_what_is_in_force_then(
    services: Services, integration: Integration, sandbox: Sandbox, vendor_organization: str
) -> None:
    with services.database.connect() as connection:
        integration_settings.change(connection, integration.id, {"next_environment": "PRODUCTION"})
    assert environment_of(services, integration) == ("SANDBOX", "PRODUCTION")

    chosen = one(services.database, "select count(*) from softpro.oauth_states where environment = 'PRODUCTION'")
    oauth_flow.connect(services, "acme", client_id=CLIENT_ID, client_secret=CLIENT_SECRET)
    asked = one(services.database, "select count(*) from softpro.oauth_states where environment = 'PRODUCTION'")
    assert asked == chosen + 1

    address = oauth_flow.connect(
        services, "acme", client_id=CLIENT_ID, client_secret=CLIENT_SECRET, environment="SANDBOX"
    )
    finish_connection(services, sandbox.consent(address, vendor_organization))
    assert environment_of(services, integration) == ("SANDBOX", None), "consent was given to something else"
