"""Each changing command is recorded with its user, and nobody records a secret or rewrites what is recorded."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import psycopg
import pytest
import typer

from softpro.__main__ import app
from softpro.db import audit_log, integration_settings
from softpro.db.audit_log import Actor, Source, acting
from softpro.db.database import Database
from softpro.db.integrations import Integration
from softpro.errors import DatabaseUnavailable
from softpro.services import Services

from ..support.databases import API_SERVER, LOADER, as_login, execute, one, rows
from ..support.fixture_types import StartSandbox
from ..support.held_batches import list_holds, map_contacts
from ..support.product import begin_connection, command, connect_acme, environment
from ..support.quarantine_cases import find_case, order
from ..support.sandbox import CLIENT_SECRET, Sandbox
from ..support.writeback import BothSides

READING = {
    *("audit", "coverage", "status", "access list", "conflicts list", "conflicts show", "holds list"),
    *("mappings diff", "mappings preview", "mappings show", "mappings versions"),
    *("quarantine list", "quarantine show", "webhooks list", "webhooks show", "webhooks stats"),
    "webhooks process",  # does now what is due anyway
    "probe",  # reads SoftPro
}
"""The commands that change nothing that a user decides."""


def commands() -> set[str]:
    """Return every command of the command line."""
    found = set()
    for name, each in vars(typer.main.get_command(app))["commands"].items():
        found |= {f"{name} {sub}" for sub in each.commands} if hasattr(each, "commands") else {name}
    return found


class Walk:
    """Runs changing commands, and checks after each that it was recorded."""

    def __init__(self, sides: BothSides, database: Database, settings: dict[str, str], directory: Path) -> None:
        self.sides, self.database, self.settings, self.directory = sides, database, settings, directory
        self.walked: set[str] = set()

    def run(self, name: str, *arguments: str, action: str) -> str:
        last = one(self.database, "select coalesce(max(id), 0) from softpro.audit_log")
        answer = command(self.settings, *name.split(), *arguments)
        assert answer.code == 0, answer.err
        added = rows(self.database, "select * from softpro.audit_log where id > %s", last)
        assert action in {entry["action"] for entry in added}, name
        assert {entry["source"] for entry in added} == {"COMMAND_LINE"}
        assert {entry["login"] for entry in added} == {LOADER}
        assert all("command line" in entry["user_name"] and entry["address"] for entry in added)
        self.walked.add(name)
        return answer.out

    def file(self, content: object) -> str:
        path = self.directory / "sent.json"
        path.write_text(json.dumps(content))
        return str(path)


def test_every_changing_command_is_recorded(start_sandbox: StartSandbox, database: Database, tmp_path: Path) -> None:
    sandbox = start_sandbox(transactions=5, contacts=150)
    key = secrets.token_hex(32)
    services, acme = connect_acme(database, sandbox, INTEGRATION_ENCRYPTION_KEY=key)
    sides = BothSides(services, acme, sandbox, sandbox.organizations[0])
    walk = Walk(sides, database, environment(database, sandbox, INTEGRATION_ENCRYPTION_KEY=key), tmp_path)

    url = walk.run("connect", "acme", action="connection.begin").strip()
    walk.run("callback", sandbox.consent(url, sides.organization), action="connection.finish")
    walk.run("sync", "acme", action="run.start")
    walk.run("push", "acme", action="run.start")
    walk.run("remap", "acme", "--entity", "contacts", action="run.start")
    walk.run("reconcile", "acme", "--entity", "contacts", action="run.start")
    walk.run("access confine", "ann", "acme", action="access.update")
    walk.run("access release", "ann", action="access.update")
    _mappings(walk)
    _holds(walk, services, acme)
    _conflicts(walk)
    _quarantine(walk, services)
    execute(
        database,
        """
        insert into softpro.webhook_events
            (integration_id, organization_id, event_type, event_id, entity_type, entity_id, payload,
             signature_verified, attempts, max_attempts)
        select id, organization_id, 'CONTACT_UPDATED', 'evt-1', 'CONTACT', 'con-1', '{}', true, 5, 5
        from softpro.integrations
        """,
    )
    walk.run("webhooks retry", "acme", action="webhooks.retry")

    walk.run("settings", "acme", "--set", "syncFrequency=600", action="settings.update")
    walk.run("disconnect", "acme", action="connection.end")
    begin_connection(services, "typo")
    walk.run("remove", "typo", action="connection.remove")

    walk.settings["INTEGRATION_ENCRYPTION_KEY"] = f"{secrets.token_hex(32)},{key}"
    walk.run("rotate-keys", action="keys.rotate")

    assert walk.walked == commands() - READING - {"migrate"}


def _mappings(walk: Walk) -> None:
    shown = json.loads(command(walk.settings, "mappings", "show", "acme", "--json").out)
    contacts = [each for each in shown["mappings"] if each["entityType"] == "CONTACT"]
    contacts[-1]["enabled"] = not contacts[-1]["enabled"]
    walk.run("mappings put", "acme", "--file", walk.file({"mappings": contacts}), action="mappings.replace")
    walk.run("mappings rollback", "acme", "--entity", "contacts", "--version", "1", action="mappings.rollback")


def _holds(walk: Walk, services: Services, acme: Integration) -> None:
    for column, decide in (("email", "approve"), ("phone", "reject")):
        map_contacts(services, acme, **{column: "nowhere"})
        assert command(walk.settings, "remap", "acme", "--entity", "contacts").code == 1
        hold = next(each for each in list_holds(services, acme) if each.status == "WAITING")
        walk.run(f"holds {decide}", "acme", str(hold.id), "--reason", "a test", action="hold.decide")
    map_contacts(services, acme)
    assert command(walk.settings, "sync", "acme", "--mode", "full").code == 0


def _conflicts(walk: Walk) -> None:
    sides = walk.sides
    sides.change_settings(conflict_strategy="MANUAL_REVIEW")
    sides.edit_in_roi(notes="ours")
    sides.edit_at_softpro(notes="theirs")
    sides.sync()
    conflict = str(one(walk.database, "select id from softpro.conflicts where status = 'OPEN'"))
    walk.run("conflicts resolve", "acme", conflict, "--winner", "softpro", action="conflict.resolve")
    sides.sync()
    walk.run("conflicts reverse", "acme", conflict, action="conflict.reverse")


def _quarantine(walk: Walk, services: Services) -> None:
    for order_id in ("one", "two"):
        walk.sides.sandbox.put(walk.sides.organization, order(order_id, -1), "TRANSACTION")
    command(walk.settings, "sync", "acme", "--entity", "transactions", "--mode", "full")
    one_case, two_case = (str(find_case(services, key).id) for key in ("one", "two"))
    corrected = walk.file(order("one", 1.25))
    walk.run("quarantine edit", one_case, "--file", corrected, action="case.correct")
    walk.run("quarantine replay", "acme", action="run.start")
    walk.run("quarantine discard", two_case, "--reason", "a test", action="case.discard")


def test_a_migration_is_recorded(bare_database: Database, sandbox: Sandbox) -> None:
    assert command(environment(bare_database, sandbox), "migrate").code == 0
    (entry,) = rows(bare_database, "select * from softpro.audit_log")
    assert (entry["action"], entry["source"], entry["login"]) == ("schema.migrate", "COMMAND_LINE", "postgres")


def test_a_setting_is_recorded_before_and_after_and_no_secret_is(services: Services, acme: Integration) -> None:
    with services.database.connect() as connection, acting(Actor("ann", Source.HTTP, "192.0.2.1")):
        integration_settings.change(connection, acme.id, {"sync_frequency": 600, "push_deletes": True})
        integration_settings.change_client(connection, services.vault, acme.id, "their-client", CLIENT_SECRET)
        begin_connection(services, "acme")
    entries = rows(services.database, "select * from softpro.audit_log order by id")
    assert [(entry["user_name"], entry["address"], entry["organization_id"]) for entry in entries] == [
        ("ann", "192.0.2.1", "acme")
    ] * 3
    assert (entries[0]["before"], entries[0]["after"]) == (
        {"sync_frequency": 300, "push_deletes": False},
        {"sync_frequency": 600, "push_deletes": True},
    )
    assert entries[1]["after"] == {"next_client_id": "their-client"}
    assert CLIENT_SECRET not in repr(entries)


def test_a_change_that_fails_is_not_recorded(services: Services, acme: Integration) -> None:
    ann = acting(Actor("ann", Source.HTTP))
    with services.database.connect() as connection, ann, connection.transaction(force_rollback=True):
        integration_settings.change(connection, acme.id, {"sync_frequency": 600})
    assert one(services.database, "select count(*) from softpro.audit_log") == 0


@pytest.mark.parametrize("login", [API_SERVER, LOADER, "postgres"])
@pytest.mark.parametrize(
    "statement",
    [
        "update softpro.audit_log set user_name = 'ben'",
        "delete from softpro.audit_log",
        "truncate softpro.audit_log",
        "insert into softpro.audit_log (id, user_name, source, action) values (1, 'x', 'HTTP', 'x')",
    ],
)
def test_nobody_rewrites_the_log(database: Database, login: str, statement: str) -> None:
    execute(database, "insert into softpro.audit_log (user_name, source, action) values ('ann', 'HTTP', 'x')")
    with as_login(database, login).connect() as connection, pytest.raises((psycopg.Error, DatabaseUnavailable)):
        connection.execute(statement)
    assert one(database, "select user_name from softpro.audit_log") == "ann"


def test_old_entries_are_purged_and_the_command_shows_the_rest(database: Database, settings: dict[str, str]) -> None:
    execute(
        database,
        """
        insert into softpro.audit_log (at, user_name, source, action)
        values (now() - interval '60 days', 'ann', 'HTTP', 'x'), (now(), E'ben\\x1b', 'HTTP', 'y')
        """,
    )
    with as_login(database, LOADER).connect() as connection:
        assert audit_log.purge(connection, 59) == 1
    shown = command(settings, "audit")
    assert (shown.code, r"ben\x1b  HTTP  y" in shown.out) == (0, True)
    assert json.loads(command(settings, "audit", "--json").out)["action"] == "y"
    assert command(settings, "audit", "--user", "ann").err == "No change is recorded\n"
