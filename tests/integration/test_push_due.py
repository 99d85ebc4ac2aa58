"""Push the due edits of all organizations concurrently, and delete settled edits in time."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from softpro.db import locks, outbox, queries
from softpro.db.integrations import Integration
from softpro.db.locks import Lock
from softpro.entities import EntityType
from softpro.runs.push import push_due
from softpro.services import Services

from ..support.databases import execute, one, rows
from ..support.fixture_types import Connected
from ..support.product import sync
from ..support.sandbox import Sandbox

CONTACT = EntityType.CONTACT
OPEN = "select count(*) from softpro.outbox where settled_at is null and organization_id = %s"
TURNED = "update roi.contacts set email = 'new@example.com' where organization_id = %s"


@pytest.fixture
def two(services: Services, connected: Connected, sandbox: Sandbox) -> tuple[Integration, Integration]:
    """Connect two organizations with 12 loaded contacts each."""
    acme, other = connected("acme"), connected("other", sandbox.unused_organization())
    for integration in (acme, other):
        assert sync(services, integration, CONTACT).status == "COMPLETED"
    return acme, other


def send_due(services: Services) -> list[dict[str, Any]]:
    """Push all due edits and return the logs of the run, by organization."""
    run_id = f"test__{uuid4()}"
    push_due(services, run_id=run_id, seconds=30)
    return rows(
        services.database,
        """
        select organization_id, entity_type, status, direction, mode, records_processed, records_failed
        from softpro.sync_logs
        where run_id = %s
        order by 1, 2
        """,
        run_id,
    )


def test_all_due_edits_are_sent_and_a_stream_without_edits_has_no_run(
    services: Services, two: tuple[Integration, Integration]
) -> None:
    for integration in two:
        execute(services.database, TURNED, integration.organization_id)
    sent = {"status": "COMPLETED", "direction": "ROI_TO_SOFTPRO", "mode": "push", "records_failed": 0}
    assert send_due(services) == [
        {"organization_id": name, "entity_type": "CONTACT", "records_processed": 12, **sent}
        for name in ("acme", "other")
    ]
    assert send_due(services) == []


def test_a_failing_organization_does_not_delay_the_others(
    services: Services, two: tuple[Integration, Integration], sandbox: Sandbox
) -> None:
    assert two[0].softpro_organization_id is not None
    sandbox.revoke(two[0].softpro_organization_id)
    for integration in two:
        execute(services.database, TURNED, integration.organization_id)
    logs = send_due(services)
    assert [(log["organization_id"], log["status"]) for log in logs] == [("acme", "FAILED"), ("other", "COMPLETED")]
    assert (one(services.database, OPEN, "acme"), one(services.database, OPEN, "other")) == (12, 0)
    assert one(services.database, "select status from softpro.integrations where organization_id = 'acme'") == "EXPIRED"
    assert send_due(services) == [], "it waits until a user reconnects it"


@pytest.mark.parametrize("off", ["sync_enabled", "sync_contacts"])
def test_edits_of_disabled_streams_wait(services: Services, two: tuple[Integration, Integration], off: str) -> None:
    execute(services.database, f"update softpro.integrations set {off} = false where organization_id = 'acme'")
    for integration in two:
        execute(services.database, TURNED, integration.organization_id)
    assert [log["organization_id"] for log in send_due(services)] == ["other"]
    execute(services.database, f"update softpro.integrations set {off} = true where organization_id = 'acme'")
    assert [log["organization_id"] for log in send_due(services)] == ["acme"]


def test_an_edit_of_a_field_that_no_mapping_sends_is_not_due(
    services: Services, two: tuple[Integration, Integration]
) -> None:
    execute(services.database, "update softpro.mappings set direction = 'SOFTPRO_TO_ROI' where softpro_field = 'email'")
    execute(services.database, TURNED, "acme")
    assert send_due(services) == []
    assert one(services.database, OPEN, "acme") == 12


def test_running_pushes_are_visible(services: Services) -> None:
    with services.database.connect() as one_session, services.database.connect() as another:
        assert locks.try_lock(one_session, Lock.OUTBOX)
        assert not locks.try_lock(another, Lock.OUTBOX)
        assert locks.try_lock(another, Lock.INBOX)


def test_settled_edits_are_forgotten_in_time_and_open_ones_never(
    services: Services, two: tuple[Integration, Integration], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "DELETE_BATCH_ROWS", 5)
    for integration in two:
        execute(services.database, TURNED, integration.organization_id)
    execute(
        services.database,
        """
        update softpro.outbox
        set settled_at = now() - interval '31 days', outcome = 'SENT', changed_at = now() - interval '50 days'
        where organization_id = 'acme'
        """,
    )
    execute(services.database, "update softpro.outbox set changed_at = now() - interval '50 days'")
    with services.database.connect() as connection:
        assert outbox.purge(connection, 32) == 0
        assert outbox.purge(connection, 30) == 12
    assert one(services.database, OPEN, "other") == 12
