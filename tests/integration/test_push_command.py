"""Push with `python -m softpro push`: sent and waiting edits, their reasons, and their `status`."""

from __future__ import annotations

import json
import re

import pytest

from softpro.db.integrations import Integration
from softpro.entities import EntityType
from softpro.services import Services

from ..support.databases import execute, one, rows
from ..support.fixture_types import Connected
from ..support.product import command, sync
from ..support.sandbox import Sandbox

CONTACT = EntityType.CONTACT


@pytest.fixture
def acme(services: Services, connected: Connected) -> Integration:
    """Connect and load 12 contacts."""
    integration = connected("acme")
    assert sync(services, integration, CONTACT).status == "COMPLETED"
    return integration


def test_edits_are_sent_and_each_entity_is_one_line(
    services: Services, settings: dict[str, str], acme: Integration, sandbox: Sandbox, vendor_organization: str
) -> None:
    execute(services.database, "update roi.contacts set email = 'new@example.com'")
    [_, waiting] = command(settings, "status", "acme").out.splitlines()[-2:]
    assert waiting == "  12 edits wait to be sent to SoftPro, 0 conflicts are open"

    sent = command(settings, "push", "acme")

    assert (sent.code, sent.err) == (0, "")
    contacts, transactions = sent.out.splitlines()
    assert re.fullmatch(
        r"contacts COMPLETED: 12 sent, 0 deleted, 0 already in sync, 0 wait, 0 failed, \d+ API requests, \d+\.\d s",
        contacts,
    )
    assert transactions.startswith("transactions COMPLETED: 0 sent, ")
    there = sandbox.records(vendor_organization, "CONTACT").values()
    assert {record["email"] for record in there} == {"new@example.com"}
    state = json.loads(command(settings, "status", "acme", "--json").out.splitlines()[0])
    assert (state["entityType"], state["editsWaiting"], state["openConflicts"]) == ("TRANSACTION", 0, 0)


def test_records_that_can_not_be_sent_are_reported_and_the_rest_is_sent(
    services: Services, settings: dict[str, str], acme: Integration
) -> None:
    [bad, *_] = rows(services.database, "select id from roi.contacts order by id")
    execute(services.database, "update roi.contacts set notes = 'to be sent'")
    execute(services.database, "update roi.contacts set contact_type = 'NO SUCH TYPE' where id = %s", bad["id"])

    sent = command(settings, "push", "acme", "--entity", "contacts")

    assert sent.code == 0
    head, why = sent.out.splitlines()
    assert head.startswith("contacts PARTIAL_SUCCESS: 11 sent, 0 deleted, 0 already in sync, 0 wait, 1 failed, ")
    assert why.startswith(f"  {bad['id']} failed, and is sent once it is edited again: ")


def test_a_single_record_is_sent_and_json_is_a_sync_result_a_line(
    services: Services, settings: dict[str, str], acme: Integration
) -> None:
    [first, *_] = rows(services.database, "select id from roi.contacts order by id")
    execute(services.database, "update roi.contacts set notes = 'to be sent'")

    sent = command(settings, "push", "acme", "--entity", "contacts", "--record", str(first["id"]), "--json")

    [result] = map(json.loads, sent.out.splitlines())
    assert (result["success"], result["entityType"], result["recordsProcessed"]) == (True, "CONTACT", 1)
    open_edits = "select count(*) from softpro.outbox where settled_at is null"
    assert one(services.database, open_edits) == 11


def test_a_dry_run_shows_what_would_be_sent_of_each_record_and_sends_nothing(
    services: Services, settings: dict[str, str], acme: Integration, sandbox: Sandbox, vendor_organization: str
) -> None:
    [first, second, *_] = rows(
        services.database,
        "select id, softpro_contact_id as key, email from roi.contacts where email is not null order by id",
    )
    with services.database.connect() as connection, connection.transaction():
        connection.execute("select set_config('softpro.user', 'ann \x1b[31m', true)")
        connection.execute("update roi.contacts set email = 'new@example.com' where id = %s", [first["id"]])
    execute(services.database, "insert into roi.contacts (organization_id, last_name) values ('acme', 'Made here')")
    execute(services.database, "update softpro.mappings set direction = 'SOFTPRO_TO_ROI' where softpro_field = 'fax'")
    execute(services.database, "update roi.contacts set fax = '1' where id = %s", second["id"])
    asked = sandbox.requests_of(vendor_organization)

    shown = command(settings, "push", "acme", "--entity", "contacts", "--dry-run")

    assert (shown.code, shown.err) == (0, "contacts: 3 changed, 2 would be sent\n")
    lines = shown.out.splitlines()
    assert lines[0] == f"{first['id']} ({first['key']})  UPDATE  SEND"
    assert lines[1] == f'  email  "{first["email"]}"  => "new@example.com"'
    assert re.fullmatch(r"  email by ann \\x1b\[31m at \S+Z", lines[2])
    assert re.fullmatch(r"\S+ \(not at SoftPro yet\)  CREATE  SEND", lines[3])
    assert '  lastName  null  => "Made here"' in lines
    assert lines[-3:-1] == [
        f"{second['id']} ({second['key']})  UPDATE  NOTHING",
        "  no mapping sends the changed fields",
    ]
    assert sandbox.requests_of(vendor_organization) == asked
    result = command(
        settings, "push", "acme", "--dry-run", "--json", "--entity", "contacts", "--record", str(first["id"])
    )
    [record] = map(json.loads, result.out.splitlines())
    assert (record["roiEntityId"], record["state"]) == (str(first["id"]), "SEND")
    assert record["fields"] == [{"softproField": "email", "from": first["email"], "to": "new@example.com"}]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--record", "00000000-0000-0000-0000-000000000001"], "--record requires --entity"),
        (["--entity", "documents"], "--entity must be one of transactions, contacts, or all"),
        (["--entity", "contacts", "--record", "con-1"], "Invalid value for '--record'"),
    ],
)
def test_wrong_use_is_reported(settings: dict[str, str], acme: Integration, arguments: list[str], said: str) -> None:
    refused = command(settings, "push", "acme", *arguments)
    assert refused.code == 2
    assert said in refused.err
