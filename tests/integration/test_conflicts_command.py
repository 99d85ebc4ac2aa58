"""Show, resolve and reverse conflicts with `python -m softpro conflicts`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from softpro.db.integrations import Integration
from softpro.entities import EntityType
from softpro.services import Services

from ..support.databases import execute, one, rows
from ..support.fixture_types import Connected
from ..support.product import command, sync
from ..support.sandbox import Sandbox
from ..support.writeback import run_push

CONTACT = EntityType.CONTACT
EMAIL = "select email from roi.contacts where id = %s"


@pytest.fixture
def acme(services: Services, connected: Connected) -> Integration:
    """Connect and load 12 contacts, with conflicts resolved by review."""
    integration = connected("acme")
    assert sync(services, integration, CONTACT).status == "COMPLETED"
    execute(services.database, "update softpro.integrations set conflict_strategy = 'MANUAL_REVIEW'")
    return integration


@pytest.fixture
def contact(services: Services, acme: Integration, sandbox: Sandbox, vendor_organization: str) -> dict[str, Any]:
    """Return a contact whose e-mail both sides have changed."""
    [row] = rows(services.database, "select id, softpro_contact_id as key from roi.contacts order by id limit 1")
    execute(services.database, "update roi.contacts set email = 'ours@example.com' where id = %s", row["id"])
    record = sandbox.records(vendor_organization, "CONTACT")[row["key"]]
    theirs = {**record, "email": "theirs@example.com", "updatedAt": "2030-01-01T00:00:00.000Z"}
    sandbox.put(vendor_organization, json.loads(json.dumps(theirs, default=float)), "CONTACT")
    sync(services, acme, CONTACT)
    return row


def listed(settings: dict[str, str], *arguments: str) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for line in command(settings, "conflicts", "list", "acme", "--json", *arguments).out.splitlines()
    ]


def test_both_sides_are_shown_and_a_side_wins_and_that_is_taken_back(
    services: Services,
    settings: dict[str, str],
    acme: Integration,
    contact: dict[str, Any],
    sandbox: Sandbox,
    vendor_organization: str,
) -> None:
    [conflict] = listed(settings)
    assert (conflict["entityId"], conflict["kind"], conflict["status"]) == (contact["key"], "FIELDS", "OPEN")
    shown = command(settings, "conflicts", "show", "acme", conflict["id"]).out
    assert '"theirs@example.com"' in shown
    assert '"ours@example.com"' in shown
    assert "undecided: a user must decide" in shown

    resolved = command(
        settings, "conflicts", "resolve", "acme", conflict["id"], "--winner", "softpro", "--reason", "so"
    )

    assert (resolved.code, resolved.err) == (0, "")
    assert "RESOLVED by " in resolved.out
    assert listed(settings) == []
    sync(services, acme, CONTACT)
    assert one(services.database, EMAIL, contact["id"]) == "theirs@example.com"

    assert "reversed by" in command(settings, "conflicts", "reverse", "acme", conflict["id"]).out
    assert one(services.database, EMAIL, contact["id"]) == "ours@example.com"
    run_push(services, acme)
    assert sandbox.records(vendor_organization, "CONTACT")[contact["key"]]["email"] == "ours@example.com"


def test_a_field_gets_another_value(
    services: Services, settings: dict[str, str], acme: Integration, contact: dict[str, Any]
) -> None:
    [conflict] = listed(settings)
    set_email = 'email="both@example.com"'
    assert command(settings, "conflicts", "resolve", "acme", conflict["id"], "--set", set_email).code == 0
    run_push(services, acme)
    assert one(services.database, EMAIL, contact["id"]) == "both@example.com"
    [again] = listed(settings, "--status", "resolved")
    assert again["result"] == {"email": "both@example.com"}
    twice = command(settings, "conflicts", "resolve", "acme", conflict["id"], "--winner", "roi")
    assert (twice.code, twice.out) == (1, "")
    assert "already" in twice.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Give --winner softpro or --winner roi"),
        (["--winner", "both"], "'both' is not a side"),
        (["--field", "email"], "--field email: give FIELD=SIDE"),
        (["--set", "email=x"], "must be JSON"),
        (["--field", "phone=roi"], "Not in conflict: phone"),
    ],
)
def test_wrong_use_is_reported(
    settings: dict[str, str], contact: dict[str, Any], arguments: list[str], said: str
) -> None:
    [conflict] = listed(settings)
    refused = command(settings, "conflicts", "resolve", "acme", conflict["id"], *arguments)
    assert refused.code == 2
    assert said in refused.err
