"""What people change in `roi` reaches SoftPro, only that, and only once."""

from __future__ import annotations

from uuid import uuid4

from softpro.entities import EntityType, SyncType
from softpro.pushing import push
from softpro.services import Services
from softpro.store.integrations import Integration
from softpro.store.logs import SyncLog

from ..support.databases import execute, one, rows
from ..support.kinds import Connected
from ..support.product import sync
from ..support.vendor import Sandbox

TRANSACTION, CONTACT = EntityType.TRANSACTION, EntityType.CONTACT
OPEN = "select count(*) from softpro.outbox where settled_at is null"


def pushed(services: Services, integration: Integration, entity_type: EntityType = CONTACT) -> SyncLog:
    return push(services, integration, entity_type, sync_type=SyncType.MANUAL, run_id=f"test__{uuid4()}")


def test_a_changed_field_is_sent_and_comes_back_as_no_change(
    services: Services, connected: Connected, sandbox: Sandbox, vendor_organization: str
) -> None:
    acme, database = connected("acme"), services.database
    sync(services, acme, CONTACT)
    [contact] = rows(database, "select * from roi.contacts order by softpro_contact_id limit 1")
    execute(
        database,
        "update roi.contacts set email = 'new@example.com', custom = '{\"vip\": true}' where id = %s",
        contact["id"],
    )
    log = pushed(services, acme)
    assert (log.status, log.records_failed, log.error_message) == ("COMPLETED", 0, None)
    there = sandbox.records(vendor_organization, "CONTACT")[contact["softpro_contact_id"]]
    assert there["email"] == "new@example.com"
    assert there["customFields"]["vip"] is True
    assert one(database, OPEN) == 0
    again = sync(services, acme, CONTACT)
    assert (again.records_updated, again.records_inserted) == (0, 0)
    assert pushed(services, acme).api_requests == 0


def test_what_people_wrote_where_no_mapping_names_a_column_stays(
    services: Services, connected: Connected, sandbox: Sandbox, vendor_organization: str
) -> None:
    acme, database = connected("acme"), services.database
    execute(database, "delete from softpro.mappings where roi_systems_field in ('notes', 'fax')")
    sync(services, acme, CONTACT)
    execute(database, "update roi.contacts set notes = 'mine', email = 'new@example.com'")
    execute(database, "update roi.contacts set fax = 'mine'")
    assert pushed(services, acme).status == "COMPLETED"
    sandbox.change(vendor_organization, "CONTACT", 12)
    sync(services, acme, CONTACT)
    assert rows(database, "select distinct notes, fax from roi.contacts") == [{"notes": "mine", "fax": "mine"}]
    assert pushed(services, acme).api_requests == 0
