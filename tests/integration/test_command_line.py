"""Use the command line from an empty database to tables that equal the vendor's records."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from softpro.db.database import Database

from ..support.databases import Server, rows
from ..support.expected_rows import actual_rows, expected_rows
from ..support.product import CommandResult, command, environment, fresh_command
from ..support.sandbox import Sandbox

# Unusual texts and numbers that JSON allows; served byte for byte.
ODD = (
    '{"orderId": "ord-odd ✓/é", "orderType": "SALE", "createdAt": "2025-01-01T00:00:00.001Z", '
    '"updatedAt": "2025-06-01T00:00:00.999Z", "purchasePrice": 999999999999.99, "loanAmount": 0.10, "downPayment": 0, '
    '"closingCost": 1.1e1, "openedDate": "2025-03-09T02:30:00.007-07:00", "unknown": [{}], '
    '"notes": "שלום 你好 \\ud83c\\udfe0 \\u202e \\u0001 tab\\t \\\\ \\" é e\\u0301", '
    '"customFields": {"": "", "π": 3.14159265358979323846264338327950288, "big": 12345678901234567890123, '
    '"deep": [[{"a": [null, true, 0.10]}]]}, "propertyAddress": {"state": "AZ", "coordinates": {"latitude": 33.4}}}'
).encode()


@dataclass
class Story:
    """The result of each command in order."""

    database: Database
    vendor_organization: str
    migrated: CommandResult
    connect: CommandResult
    callback: CommandResult
    synced: CommandResult
    status: CommandResult
    again: CommandResult


@pytest.fixture(scope="module")
def story(server: Server, sandbox: Sandbox) -> Iterator[Story]:
    vendor_organization = sandbox.unused_organization()
    sandbox.put(vendor_organization, ODD)
    with server.fresh("template0") as database:
        settings = environment(database, sandbox, SOFTPRO_SYNC_BATCH_SIZE="20")
        migrated = fresh_command(settings, "migrate")
        connect = fresh_command(settings, "connect", "acme")
        address = sandbox.consent(connect.out.strip(), vendor_organization)
        yield Story(
            database,
            vendor_organization,
            migrated,
            connect,
            fresh_command(settings, "callback", address),
            fresh_command(settings, "sync", "acme"),
            fresh_command(settings, "status", "acme", "--json"),
            fresh_command(settings, "--json", "sync", "acme"),
        )


def test_every_step_ends_well_and_says_nothing_on_stderr(story: Story) -> None:
    steps = [story.migrated, story.connect, story.callback, story.synced, story.status, story.again]
    assert [(step.code, step.err) for step in steps] == [(0, "")] * 6


def test_connect_prints_the_address_alone_on_one_line(story: Story, sandbox: Sandbox) -> None:
    (line,) = story.connect.out.splitlines()
    assert line.startswith(f"{sandbox.startup_report['authorizeUrl']}?response_type=code&client_id=sandbox-client&")
    assert all(f"&{name}=" in line for name in ("redirect_uri", "scope", "state", "code_challenge"))


def test_callback_names_both_organizations(story: Story) -> None:
    assert story.callback.out == f"acme is connected to the SoftPro organization {story.vendor_organization}\n"


@pytest.mark.parametrize("entity", ["TRANSACTION", "CONTACT"])
def test_every_record_is_in_its_table_column_for_column(story: Story, sandbox: Sandbox, entity: str) -> None:
    records = sandbox.records(story.vendor_organization, entity)
    assert len(records) == {"TRANSACTION": 46, "CONTACT": 12}[entity]
    assert actual_rows(story.database, "acme", entity) == expected_rows(records, entity)


def test_the_odd_record_is_exact_to_the_last_digit_and_character(story: Story) -> None:
    (row,) = rows(
        story.database,
        """
        select purchase_price::text, loan_amount::text, closing_cost::text, notes, opened_at::text,
               custom ->> 'π' as pi, custom ->> 'big' as big, custom -> '' as empty
        from roi.transactions where softpro_order_id = 'ord-odd ✓/é'
        """,
    )
    assert row == {
        "purchase_price": "999999999999.99",
        "loan_amount": "0.10",
        "closing_cost": "11.00",
        "notes": 'שלום 你好 🏠 \u202e \x01 tab\t \\ " é e\u0301',
        "opened_at": "2025-03-09 09:30:00.007+00",
        "pi": "3.14159265358979323846264338327950288",
        "big": "12345678901234567890123",
        "empty": "",
    }


def test_sync_says_one_line_an_entity_contacts_first(story: Story) -> None:
    contacts, transactions = story.synced.out.splitlines()
    assert contacts.startswith("contacts COMPLETED: 12 fetched, 12 loaded (12 new, 0 changed, 0 unchanged), 0 ")
    assert transactions.startswith("transactions COMPLETED: 46 fetched, 46 loaded (46 new, 0 changed, ")


def test_sync_as_json_is_the_specifications_sync_result(story: Story) -> None:
    results = [json.loads(line) for line in story.again.out.splitlines()]
    assert [result["entityType"] for result in results] == ["CONTACT", "TRANSACTION"]
    for result in results:
        assert list(result) == [
            "success",
            "entityType",
            "operation",
            "recordsProcessed",
            "recordsSucceeded",
            "recordsFailed",
            "duration",
            "startedAt",
            "completedAt",
            "error",
            "logId",
        ]
        assert (result["success"], result["operation"], result["recordsProcessed"]) == (True, "sync", 0)


def test_status_as_json_is_one_object_an_entity(story: Story) -> None:
    states: list[dict[str, Any]] = [json.loads(line) for line in story.status.out.splitlines()]
    assert {(state["entityType"], state["rows"], state["pending"], state["quarantined"]) for state in states} == {
        ("TRANSACTION", 46, 0, 0),
        ("CONTACT", 12, 0, 0),
    }
    assert {(state["organizationId"], state["status"]) for state in states} == {("acme", "CONNECTED")}


def test_json_means_the_same_before_and_after_the_command(settings: dict[str, str], connected: Any) -> None:
    connected("acme")
    before, after = command(settings, "--json", "status"), command(settings, "status", "--json")
    assert before == after
    assert [json.loads(line)["rows"] for line in before.out.splitlines()] == [0, 0]


@pytest.mark.parametrize(
    "wrong",
    [
        ["sync"],
        ["sync", "acme", "--mode", "sideways"],
        ["sync", "acme", "--entity", "houses"],
        ["connect", "acme", "--environment", "MOON"],
        ["connect", "acme", "--client-id", "mine"],
        ["connect", "has a space"],
        ["connect", ""],
        ["connect", "x" * 129],
        ["callback", "http://localhost/cb?code=x"],
        ["callback", "nonsense"],
        ["fly"],
        ["status", "--nonsense"],
    ],
)
def test_wrong_use_is_exit_2_said_on_stderr(settings: dict[str, str], wrong: list[str]) -> None:
    answer = command(settings, *wrong)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err
    assert "Traceback" not in answer.err
