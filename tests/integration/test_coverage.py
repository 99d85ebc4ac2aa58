"""Report unmapped, missing and new fields per organization."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from softpro.analysis.coverage import coverage
from softpro.analysis.field_profile import MAX_FIELDS, refresh
from softpro.db.integrations import Integration
from softpro.entities import EntityType
from softpro.mapping import repository
from softpro.mapping.defaults import default_mappings
from softpro.services import Services
from softpro.sync.corrections import correct

from ..support.databases import dump, execute, one, rows
from ..support.fixture_types import Connected
from ..support.product import command, sync
from ..support.sandbox import Sandbox

CONTACT = EntityType.CONTACT
AT = "2030-01-01T00:00:00.000Z"

Put = Callable[..., str]


@pytest.fixture
def acme(connected: Connected, services: Services) -> Integration:
    """Connect, load 12 contacts and take the baseline."""
    integration = connected("acme")
    sync(services, integration, CONTACT)
    observed(services, integration)
    return integration


@pytest.fixture
def put(sandbox: Sandbox, vendor_organization: str) -> Put:
    """Return a function that stores a contact in the vendor's list."""

    def contact(contact_id: str = "new", at: str = AT, **fields: Any) -> str:
        record = {"contactId": contact_id, "contactType": "BUYER", "createdAt": AT, "updatedAt": at, **fields}
        return sandbox.put(vendor_organization, record, "CONTACT")

    return contact


def observed(services: Services, integration: Integration) -> dict[str, Any]:
    """Return the contacts' coverage after a refresh, as JSON."""
    with services.database.connect() as connection:
        refresh(connection, integration, CONTACT, only_if_old=False)
        return coverage(connection, integration, CONTACT).as_json()


def paths(fields: list[dict[str, Any]]) -> list[str]:
    return [field["path"] for field in fields]


def map_notes(services: Services, integration: Integration, **changes: object) -> None:
    """Set the default mappings with changes in the mapping to `notes`."""
    mappings = [
        replace(each, direction="SOFTPRO_TO_ROI", **changes) if each.roi_systems_field == "notes" else each  # type: ignore[arg-type]
        for each in default_mappings(CONTACT)
    ]
    with services.database.connect() as connection:
        repository.replace(connection, integration.id, integration.organization_id, mappings, "a test")


def test_the_first_look_is_the_baseline_in_which_nothing_is_new(acme: Integration, services: Services) -> None:
    found = observed(services, acme)
    assert (found["records"], found["newFields"], found["newValues"]) == (12, [], [])
    assert found["baselineAt"] is not None
    total = one(services.database, "select records from softpro.seen_fields where path = 'contactId'")
    assert total == 12
    codes = rows(services.database, "select distinct path from softpro.seen_values order by path")
    assert {"contactType", "address.state"} <= {row["path"] for row in codes}


def test_a_second_look_with_nothing_landed_changes_no_field_and_no_value(acme: Integration, services: Services) -> None:
    before = dump(services.database, versions=True)
    observed(services, acme)
    after = dump(services.database, versions=True)
    for table in ("softpro.seen_fields", "softpro.seen_values"):
        assert after[table] == before[table]


def test_a_new_field_that_no_mapping_reads_is_shown_with_its_kinds_and_since_when(
    acme: Integration, services: Services, put: Put
) -> None:
    put(pets=[{"name": "Rex"}, {"name": None}], customFields={"color": 1})
    sync(services, acme, CONTACT)
    found = observed(services, acme)
    assert paths(found["newFields"]) == ["customFields.color", "pets[].name"]
    [color, pets] = found["newFields"]
    assert (color["read"], color["kinds"], color["records"]) == ("YES", ["number"], 1)
    assert (pets["read"], pets["kinds"], pets["records"]) == ("NO", ["null", "string"], 1)
    assert pets in found["unread"]
    assert "customFields.color" not in paths(found["unread"])
    assert pets["firstSeenAt"] > found["baselineAt"]
    assert one(services.database, "select count(*) from softpro.seen_values where path like 'pets%%'") == 0

    again = observed(services, acme)
    assert again["newFields"] == found["newFields"]


def test_a_new_code_is_shown_and_other_texts_are_never_kept(acme: Integration, services: Services, put: Put) -> None:
    put(contactType="ASTRONAUT", company="Vandelay Imports", notes="CODE-LIKE, but not one")
    sync(services, acme, CONTACT)
    found = observed(services, acme)
    assert [(value["path"], value["value"], value["records"]) for value in found["newValues"]] == [
        ("contactType", "ASTRONAUT", 1)
    ]
    kept = rows(services.database, "select value from softpro.seen_values where value !~ '^[A-Z][A-Z0-9_]{0,59}$'")
    assert kept == []


def test_a_field_with_more_than_a_hundred_codes_has_none(acme: Integration, services: Services, put: Put) -> None:
    for number in range(99):
        put(f"c{number}", jobCode=f"JOB_{number}")
    sync(services, acme, CONTACT)
    assert [each["path"] for each in observed(services, acme)["newValues"]].count("jobCode") == 99
    for number in range(99, 102):
        put(f"c{number}", at="2030-01-02T00:00:00.000Z", jobCode=f"JOB_{number}")
    sync(services, acme, CONTACT)
    assert "jobCode" not in [each["path"] for each in observed(services, acme)["newValues"]]
    put("another", at="2030-01-03T00:00:00.000Z", jobCode="JOB_1")
    sync(services, acme, CONTACT)
    assert "jobCode" not in [each["path"] for each in observed(services, acme)["newValues"]]


def test_a_field_that_was_renamed_is_missed_and_its_new_name_is_new(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str, put: Put
) -> None:
    for number in range(40):
        put(f"c{number}", company="Vandelay")
    sync(services, acme, CONTACT)
    assert "company" not in paths(observed(services, acme)["missing"])
    for number in range(40, 120):
        put(f"c{number}", at="2030-01-02T00:00:00.000Z", companyName="Vandelay")
    sync(services, acme, CONTACT)
    found = observed(services, acme)
    missing = {each["path"]: each["lastSeenAt"] for each in found["missing"]}
    assert missing["company"] is not None
    assert "companyName" in paths(found["newFields"])
    assert "companyName" in paths(found["unread"])


def test_a_mapped_path_that_no_record_ever_held_is_missing(acme: Integration, services: Services) -> None:
    map_notes(services, acme, softpro_field="remarks[0].text")
    assert {"path": "remarks[].text", "lastSeenAt": None} in observed(services, acme)["missing"]


def test_fields_that_a_rule_may_read_are_reported_as_uncertain(acme: Integration, services: Services, put: Put) -> None:
    put(pets=["Rex"], nick="Bo")
    sync(services, acme, CONTACT)
    map_notes(services, acme, transformation_rule="$record.nick")
    assert "pets[]" in paths(observed(services, acme)["unread"])
    assert "nick" not in paths(observed(services, acme)["unread"])
    map_notes(services, acme, transformation_rule="$string($record)")
    found = observed(services, acme)
    uncertain = [field["path"] for field in found["unread"] if field["read"] == "MAYBE"]
    assert {"nick", "pets[]"} <= set(uncertain)
    assert uncertain == paths(found["unread"])


def test_names_that_are_no_identifiers_are_not_kept_and_fields_are_limited(
    acme: Integration, services: Services, put: Put
) -> None:
    for contact_id in ("one", "two"):
        put(contact_id, people={"Jane Doe": {"age": 7}, "John Doe": {"age": 8}})
    put("three", many={f"f{number}": 1 for number in range(2_100)})
    sync(services, acme, CONTACT)
    found = observed(services, acme)
    assert "Doe" not in json.dumps(found)
    assert one(services.database, "select count(*) from softpro.seen_fields") == MAX_FIELDS
    held = "select records from softpro.seen_fields where path = 'people.(no identifier).age'"
    assert one(services.database, held) == 2


def test_another_organizations_fields_are_its_own_and_a_correction_is_not_softpros(
    acme: Integration, services: Services, sandbox: Sandbox, connected: Connected, put: Put
) -> None:
    there = sandbox.unused_organization()
    globex = connected("globex", there)
    sandbox.put(there, {"contactId": "x", "createdAt": AT, "updatedAt": AT, "planet": "MARS"}, "CONTACT")
    sync(services, globex, CONTACT)
    assert "planet" in paths(observed(services, globex)["unread"])
    put(createdAt="soon")
    sync(services, acme, CONTACT)
    corrected = {"contactId": "new", "createdAt": AT, "updatedAt": AT, "correctedField": 1}
    with services.database.connect() as connection:
        case = one(services.database, "select id from softpro.quarantine where organization_id = 'acme'")
        correct(connection, case, json.dumps(corrected).encode(), "ann")
    sync(services, acme, CONTACT)
    shown = json.dumps(observed(services, acme))
    assert "planet" not in shown
    assert "correctedField" not in shown


def test_during_the_first_load_there_is_no_baseline(connected: Connected, services: Services) -> None:
    integration = connected("acme")
    sync(services, integration, CONTACT)
    execute(services.database, "update softpro.cursors set last_synced_at = null")
    assert observed(services, integration)["baselineAt"] is None
    execute(services.database, "update softpro.cursors set last_synced_at = now()")
    assert observed(services, integration)["newFields"] == []


def test_a_record_that_is_landing_is_waited_for(acme: Integration, services: Services) -> None:
    with services.database.connect() as connection, ThreadPoolExecutor(1) as pool:
        with connection.transaction():
            connection.execute(
                """
                update raw.records set payload = payload || '{"pets": 1}', last_seen_at = now()
                where entity_id = (select min(entity_id) from raw.records)
                """
            )
            looking = pool.submit(observed, services, acme)
            time.sleep(1)
            assert not looking.done()
        found = looking.result(timeout=30)
    assert (found["records"], paths(found["newFields"])) == (13, ["pets"])
    assert observed(services, acme)["records"] == 13


def test_the_command_answers_from_the_last_look_within_the_hour_unless_asked_to_look(
    acme: Integration, services: Services, settings: dict[str, str], put: Put
) -> None:
    put(pets=["Rex"])
    sync(services, acme, CONTACT)
    old = command(settings, "coverage", "acme", "--entity", "contacts", "--json")
    assert (old.code, json.loads(old.out)["records"]) == (0, 12)
    new = command(settings, "coverage", "acme", "--entity", "contacts", "--refresh")
    assert new.code == 0, new.err
    assert new.out.startswith("contacts: 13 records examined until ")
    assert "    pets[]  string  in 1, since " in new.out
    execute(services.database, "update softpro.coverage set refreshed_at = now() - interval '2 hours'")
    assert len(command(settings, "coverage", "acme", "--json").out.splitlines()) == 2
    assert command(settings, "coverage", "nobody").code == 2
