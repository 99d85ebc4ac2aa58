"""List, approve and reject held batches with `python -m softpro holds`."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from softpro.db.database import Database
from softpro.db.integrations import Integration
from softpro.services import Services

from ..support.held_batches import list_holds, map_contacts
from ..support.product import command, environment
from ..support.sandbox import Sandbox


def test_the_command_line_lists_approves_and_rejects(
    loaded: tuple[Services, Integration, Sandbox], database: Database
) -> None:
    services, acme, sandbox = loaded
    settings = environment(database, sandbox)

    def holds_(*arguments: str) -> Any:
        return command(settings, "holds", *arguments)

    assert (holds_("list", "acme").out, holds_("list", "acme").err) == ("", "No batch is held\n")
    map_contacts(services, acme, email="nowhere")
    failed = command(settings, "remap", "acme", "--entity", "contacts")
    assert failed.code == 1
    (hold,) = list_holds(services, acme)
    assert f"holds approve acme {hold.id}" in failed.err
    (listed,) = holds_("list", "acme", "--json").out.splitlines()
    assert json.loads(listed) == hold.as_json()
    assert holds_("list", "acme").out == f"{hold.line()}\n"
    status = command(settings, "status", "acme")
    assert f"  held (WAITING), 150 records: {hold.summary}; see: python -m softpro holds list acme\n" in status.out

    approved = holds_("approve", "acme", str(hold.id), "--reason", "as it should be")
    assert (approved.code, approved.err) == (0, "The next run loads the batch\n")
    again = holds_("approve", "acme", str(hold.id))
    assert again.code == 2
    assert "nothing is left to decide" in again.err
    assert holds_("reject", "acme", str(hold.id), "--reason", "no").code == 2
    assert "--reason" in holds_("reject", "acme", str(hold.id)).err
    assert holds_("approve", "acme", str(UUID(int=1))).code == 2
    assert "HOLD must be an id" in holds_("approve", "acme", "x").err
    assert command(settings, "sync", "acme", "--entity", "contacts").code == 0
    assert holds_("list", "acme").err == "No batch is held\n"
    assert "LOADED by " in holds_("list", "acme", "--status", "LOADED").out
    assert "--status must be one of" in holds_("list", "acme", "--status", "OPEN").err

    map_contacts(services, acme, phone="nowhere")
    command(settings, "remap", "acme", "--entity", "contacts")
    newest = list_holds(services, acme)[0]
    rejected = holds_("reject", "acme", str(newest.id), "--reason", "a mistake")
    assert (rejected.code, "REJECTED" in rejected.out, "(a mistake)" in rejected.out) == (0, True, True)
