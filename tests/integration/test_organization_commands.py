"""Show and change settings, disconnect and remove organizations with `python -m softpro`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from softpro.connections import oauth_flow
from softpro.db.database import Database
from softpro.db.integrations import Integration
from softpro.entities import EntityType, SyncType
from softpro.errors import NotConnected
from softpro.runs import push, sync
from softpro.services import Services

from ..support.databases import one, rows
from ..support.fixture_types import Connected
from ..support.product import begin_connection, command
from ..support.writeback import BothSides, edit_in_roi, run_push

CONTACT = EntityType.CONTACT


def test_settings_are_shown_and_changed_as_over_http(
    connected: Connected, database: Database, settings: dict[str, str], tmp_path: Path
) -> None:
    connected("acme")
    shown = json.loads(command(settings, "settings", "acme", "--json").out)
    assert (shown["syncFrequency"], shown["conflictStrategy"], shown["organizationId"]) == (300, "SOFTPRO_WINS", "acme")

    secret = tmp_path / "secret"
    secret.write_text("a secret of theirs\n")
    changes = ["syncFrequency=600", "conflictStrategy=MERGE", 'conflictOverrides={"contacts.notes": "ROI_WINS"}']
    changes += ["clientId=4711", f"clientSecret=@{secret}", "environment=PRODUCTION"]
    changed = command(settings, "settings", "acme", "--json", *(word for each in changes for word in ("--set", each)))
    assert (changed.code, changed.err) == (0, "")
    wanted = {
        **{"syncFrequency": 600, "conflictStrategy": "MERGE", "conflictOverrides": {"contacts.notes": "ROI_WINS"}},
        **{"nextClientId": "4711", "nextEnvironment": "PRODUCTION"},
    }
    assert json.loads(changed.out) == {**shown, **wanted}
    assert "theirs" not in changed.out
    assert one(database, "select next_client_secret from softpro.integrations").startswith("v1.")

    assert "syncFrequency  600\n" in command(settings, "settings", "acme").out


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("syncFrequency=59", "syncFrequency: Input should be greater than or equal to 60"),
        ("syncFrequency", "--set must be NAME=VALUE"),
        ("nothing=1", "nothing: Extra inputs are not permitted"),
        ("syncDocuments=true", "documents are not synced yet"),
        ('conflictOverrides={"contacts.id": "MERGE"}', "contacts.id is not transactions, contacts"),
        ("clientId=them", "clientId and clientSecret belong together"),
        ("clientSecret=@/no/such/file", "the file /no/such/file cannot be read"),
    ],
)
def test_a_wrong_setting_is_refused_and_changes_nothing(
    connected: Connected, settings: dict[str, str], change: str, problem: str
) -> None:
    connected("acme")
    before = command(settings, "settings", "acme").out
    refused = command(settings, "settings", "acme", "--set", "pushDeletes=true", "--set", change)
    assert (refused.code, problem in refused.err) == (2, True), refused.err
    assert command(settings, "settings", "acme").out == before


def test_disconnect_ends_the_grant_and_keeps_the_rows(
    connected: Connected, database: Database, settings: dict[str, str]
) -> None:
    connected("acme")
    assert command(settings, "sync", "acme", "--entity", "contacts").code == 0
    kept = one(database, "select count(*) from roi.contacts")
    ended = command(settings, "disconnect", "acme")
    assert (ended.code, ended.out) == (0, "acme is disconnected\n")
    assert rows(database, "select status, access_token from softpro.integrations") == [
        {"status": "DISCONNECTED", "access_token": None}
    ]
    assert one(database, "select count(*) from roi.contacts") == kept > 0
    assert command(settings, "disconnect", "acme").code != 0


def test_only_an_organization_that_never_connected_is_removed(
    connected: Connected, services: Services, database: Database, settings: dict[str, str]
) -> None:
    acme = connected("acme")
    address = begin_connection(services, "typo")
    refused = command(settings, "callback", f"{address}&error=access_denied")
    assert refused.code == 1, refused.err
    assert command(settings, "remove", "typo").out == "typo is removed\n"
    refused = command(settings, "remove", "acme")
    assert (refused.code, "acme was connected" in refused.err) == (2, True)
    oauth_flow.disconnect(services, acme.id)
    assert command(settings, "remove", "acme").code == 2
    assert [row["organization_id"] for row in rows(database, "select * from softpro.integrations")] == ["acme"]
    with pytest.raises(NotConnected):
        oauth_flow.disconnect(services, acme.id)


def test_the_log_of_a_single_record_names_its_row(services: Services, acme: Integration, sides: BothSides) -> None:
    contact = rows(sides.services.database, "select id, softpro_contact_id as key from roi.contacts limit 1")[0]
    named = [contact["key"]]
    fetched = sync.sync_records(services, acme, CONTACT, named, sync_type=SyncType.MANUAL, run_id="one")
    assert (fetched.entity_id, fetched.roi_entity_id) == (contact["key"], str(contact["id"]))
    assert run_push(services, acme, records=[contact["id"]]).roi_entity_id == str(contact["id"])
    several = sync.sync_records(services, acme, CONTACT, [*named, "x"], sync_type=SyncType.MANUAL, run_id="three")
    assert several.roi_entity_id is None


def test_a_push_that_an_edit_started_is_logged_as_that(services: Services, sides: BothSides) -> None:
    [contact] = rows(services.database, "select id from roi.contacts limit 1")
    edit_in_roi(services.database, CONTACT, contact["id"], email="new@example.com")
    push.push_due(services, run_id="edited", seconds=10)
    found = rows(services.database, "select sync_type, status from softpro.sync_logs where run_id = 'edited'")
    assert found == [{"sync_type": "EDIT", "status": "COMPLETED"}]
