"""Show in a dry run what a push would send and why; the push then sends exactly that."""

from __future__ import annotations

from softpro.db.integrations import Integration
from softpro.entities import EntityType
from softpro.services import Services
from softpro.writeback.dry_run import Outgoing, dry_run

from ..support.databases import execute, rows
from ..support.fixture_types import Connected
from ..support.product import sync
from ..support.sandbox import Sandbox
from ..support.writeback import run_push

TRANSACTION, CONTACT = EntityType.TRANSACTION, EntityType.CONTACT


def shown(
    services: Services, integration: Integration, entity_type: EntityType = CONTACT, **wanted: object
) -> list[Outgoing]:
    with services.database.connect() as connection:
        found, total = dry_run(
            connection,
            integration,
            [entity_type],
            delete_limit=services.delete_limit,
            limit=50,
            **wanted,  # type: ignore[arg-type]
        )
    assert total == len(found)
    return found


def test_it_shows_what_the_push_then_sends(
    services: Services, connected: Connected, sandbox: Sandbox, vendor_organization: str
) -> None:
    acme, database = connected("acme"), services.database
    sync(services, acme, CONTACT)
    [contact] = rows(database, "select * from roi.contacts order by softpro_contact_id limit 1")
    for email in ("first@example.com", "new@example.com"):
        execute(database, "update roi.contacts set email = %s where id = %s", email, contact["id"])
    there = sandbox.records(vendor_organization, "CONTACT")[contact["softpro_contact_id"]]
    asked = sandbox.requests_of(vendor_organization)
    [found] = shown(services, acme)
    assert sandbox.requests_of(vendor_organization) == asked
    assert found.as_json() | {"edits": None, "changedAt": None, "changedBy": None} == {
        "entityType": "CONTACT",
        "roiEntityId": str(contact["id"]),
        "entityId": contact["softpro_contact_id"],
        "operation": "UPDATE",
        "state": "SEND",
        "why": None,
        "nextAttemptAt": None,
        "attempts": 0,
        "fields": [{"softproField": "email", "from": there["email"], "to": "new@example.com"}],
        "edits": None,
        "changedAt": None,
        "changedBy": None,
    }
    assert [edit["field"] for edit in found.as_json()["edits"]] == ["email"]
    assert run_push(services, acme).records_failed == 0
    assert sandbox.records(vendor_organization, "CONTACT")[contact["softpro_contact_id"]]["email"] == "new@example.com"
    assert shown(services, acme) == []


def test_a_value_that_softpro_already_has_is_not_sent(services: Services, connected: Connected) -> None:
    acme, database = connected("acme"), services.database
    sync(services, acme, CONTACT)
    [contact] = rows(database, "select id, email from roi.contacts order by id limit 1")
    for email in ("new@example.com", contact["email"]):
        execute(database, "update roi.contacts set email = %s where id = %s", email, contact["id"])
    assert [(each.state, each.why) for each in shown(services, acme)] == [("NOTHING", "SoftPro has the same values")]


def test_deletes_that_are_not_sent_are_held(services: Services, connected: Connected) -> None:
    acme, database = connected("acme"), services.database
    sync(services, acme, TRANSACTION)
    execute(database, "delete from roi.transactions where id in (select id from roi.transactions order by id limit 2)")
    [one, two] = shown(services, acme, TRANSACTION)
    assert one.plan.record.operation == "DELETE"
    assert (one.state, one.why) == (two.state, two.why)
    assert (one.state, one.why) == ("HELD", "Deletes of this kind are not sent to SoftPro: the row is restored")
    execute(database, "update softpro.integrations set push_deletes = true")
    assert [each.state for each in shown(services, acme, TRANSACTION)] == ["SEND", "SEND"]
