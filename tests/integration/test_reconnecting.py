"""Coming back: a lost key, another organization at the vendor, a person who is faster than a refresh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from softpro import connecting
from softpro.errors import DecryptionError, NotConnected, UsageError
from softpro.services import Services
from softpro.store import grants, integrations
from softpro.store.encryption import Vault
from softpro.store.grants import Tokens
from softpro.store.integrations import Integration
from softpro.vendor import oauth

from ..support.product import begin_connection, finish_connection, sync
from ..support.vendor import Sandbox

OTHER_KEY = Vault((b"k" * 32,))


def now(services: Services, integration: Integration) -> Integration:
    with services.database.connect() as connection:
        return integrations.get(connection, integration.id)


def test_when_the_key_is_lost_connecting_again_is_enough(
    services: Services, sandbox: Sandbox, vendor_organization: str, connected: Callable[[str], Integration]
) -> None:
    integration = connected("acme")
    rekeyed = type(services)(services.database, OTHER_KEY, services.oauth, services.vendor, services.sync)
    with services.database.connect() as connection, pytest.raises(DecryptionError, match="connect the organization"):
        grants.read(connection, OTHER_KEY, integration.id)

    finish_connection(rekeyed, sandbox.consent(begin_connection(rekeyed, "acme"), vendor_organization))

    assert sync(rekeyed, integration).status == "COMPLETED"


def test_when_the_key_is_lost_disconnecting_still_erases_the_tokens(
    services: Services, connected: Callable[[str], Integration]
) -> None:
    integration = connected("acme")

    told = connecting.disconnect(replace(services, vault=OTHER_KEY), integration.id)

    assert told is False
    assert now(services, integration).status == "DISCONNECTED"
    with services.database.connect() as connection, pytest.raises(NotConnected):
        grants.read(connection, services.vault, integration.id)


def test_another_organization_at_the_vendor_is_refused_and_the_old_connection_stands(
    services: Services, sandbox: Sandbox, connected: Callable[[str], Integration]
) -> None:
    integration = connected("acme")

    with pytest.raises(UsageError, match="holds the data of SoftPro's organization"):
        finish_connection(services, sandbox.consent(begin_connection(services, "acme"), sandbox.untouched()))

    assert now(services, integration).status == "CONNECTED"
    assert sync(services, integration).status == "COMPLETED"


def test_a_refused_refresh_does_not_expire_a_connection_that_was_renewed_meanwhile(
    services: Services, connected: Callable[[str], Integration]
) -> None:
    integration = connected("acme")
    with services.database.connect() as connection:
        stale = grants.read(connection, services.vault, integration.id)
        grants.store(connection, services.vault, integration.id, Tokens("renewed", "renewed too", 3600))

        expired = grants.expire(connection, integration.id, stale.version, "refused")
        stored = grants.store(
            connection, services.vault, integration.id, Tokens("late", "late", 3600), replaces=stale.version
        )
        used = oauth.refresh_access_token(connection, services.vault, services.oauth, stale)

    assert (expired, stored, used.access_token) == (False, False, "renewed")
    assert now(services, integration).status == "CONNECTED"
