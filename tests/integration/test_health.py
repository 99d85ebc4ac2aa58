"""Report health: the schema revision, and pending, failed and overdue work within the caller's scope."""

from __future__ import annotations

from typing import Any

from softpro.db.database import Database
from softpro.db.health import health
from softpro.services import Services

from ..support.databases import execute
from ..support.fixture_types import Connected
from ..support.product import sync
from ..support.sandbox import Sandbox


def seen(database: Database, *organizations: str) -> dict[str, Any]:
    with database.connect() as connection:
        return health(connection, organizations or None).as_json()


def test_a_connection_that_just_synced_is_healthy(services: Services, connected: Connected) -> None:
    sync(services, connected("acme"))

    found = seen(services.database)

    assert (found["status"], found["problems"]) == ("HEALTHY", [])
    assert found["database"]["revision"] == found["database"]["newestRevision"]
    assert found["integrations"] == {"CONNECTED": 1}
    assert found["webhookEvents"] == {"waiting": 0, "oldestSeconds": None, "failed": 0}


def test_each_problem_is_shown_to_users_who_may_see_the_organization(
    database: Database, connected: Connected, sandbox: Sandbox
) -> None:
    acme, other = connected("acme"), connected("globex", at=sandbox.unused_organization())
    execute(database, "update softpro.integrations set token_issued_at = now() - interval '1 hour'")
    execute(database, "update softpro.integrations set status = 'EXPIRED' where id = %s", other.id)
    event = """
        insert into softpro.webhook_events
            (integration_id, organization_id, event_type, event_id, entity_type, entity_id, payload, signature_verified,
             attempts, received_at)
        values (%s, 'acme', 'x', %s, 'CONTACT', 'c', '{}', true, %s,
                now() - interval '90 seconds')
    """
    execute(database, event, acme.id, "waits", 1)
    execute(database, event, acme.id, "failed", 5)
    execute(
        database,
        """
        insert into softpro.breakers (integration_id, organization_id, opened_at, next_try_at, reason)
        values (%s, 'acme', now(), now(), 'it is away')
        """,
        acme.id,
    )

    found = seen(database, "acme")

    assert found["problems"] == ["streams are overdue: 2", "circuit breakers are open: 1", "webhook events failed: 1"]
    assert found["status"] == "DEGRADED"
    assert found["integrations"] == {"CONNECTED": 1}
    assert (found["webhookEvents"]["waiting"], found["webhookEvents"]["failed"]) == (1, 1)
    assert 90 <= found["webhookEvents"]["oldestSeconds"] < 120
    assert seen(database, "globex")["problems"] == ["integrations need a user to connect them: 1"]
    assert seen(database, "nobody")["status"] == "HEALTHY"


def test_a_schema_that_lacks_migrations_is_reported(database: Database) -> None:
    execute(database, "update softpro.schema_version set version_num = '0011'")

    found = seen(database)

    assert found["status"] == "DEGRADED"
    assert found["problems"][0].startswith("the database is at revision 0011, not 00")
    assert found["integrations"] is None
