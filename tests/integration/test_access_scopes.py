"""Confine users and teams to organizations by the command line, and hide everything else from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from softpro.db import access_scopes, integrations, sync_logs
from softpro.db.access_scopes import SubjectKind
from softpro.db.database import Database
from softpro.errors import Forbidden, NotFoundHere, UsageError
from softpro.quality import quarantine_cases

from ..support.databases import execute, one, rows
from ..support.fixture_types import Connected
from ..support.product import command

Confine = Callable[..., list[str]]


@pytest.fixture
def confine(database: Database) -> Confine:
    def decide(kind: SubjectKind, subject: str, *organizations: str, within: set[str] | None = None) -> list[str]:
        with database.connect() as connection:
            access_scopes.confine(connection, kind, subject, organizations, by="a test", within=within)
        query = "select organization_id as o from softpro.confinements where subject = %s order by 1"
        return [row["o"] for row in rows(database, query, subject)]

    return decide


def seen(database: Database, user: str, *teams: str) -> set[str] | None:
    with database.connect() as connection:
        found = access_scopes.organizations(connection, user, teams)
    return None if found is None else set(found)


def test_an_unconfined_user_sees_all_and_a_confined_one_sees_the_union_of_his_scopes(
    database: Database, confine: Confine
) -> None:
    confine(SubjectKind.USER, "bob", "acme")
    confine(SubjectKind.TEAM, "west", "globex", "initech")

    assert seen(database, "carol") is None
    assert seen(database, "bob") == {"acme"}
    assert seen(database, "bob", "west") == {"acme", "globex", "initech"}
    assert seen(database, "carol", "east", "west") == {"globex", "initech"}
    assert seen(database, "west", "bob") is None, "a user is not the team with that name"


def test_a_confinement_is_replaced_as_a_whole_and_ended_by_naming_nothing(confine: Confine) -> None:
    assert confine(SubjectKind.USER, "bob", "acme", "globex") == ["acme", "globex"]
    assert confine(SubjectKind.USER, "bob", "initech", "acme") == ["acme", "initech"]
    assert confine(SubjectKind.USER, "bob") == []


def test_a_confined_user_changes_nothing_outside_his_organizations(confine: Confine) -> None:
    mine = {"acme", "globex"}
    confine(SubjectKind.USER, "bob", "acme", "initech")

    assert confine(SubjectKind.USER, "bob", "globex", within=mine) == ["globex", "initech"]
    with pytest.raises(Forbidden, match="ask a user who is not confined"):
        confine(SubjectKind.USER, "bob", within=mine)  # might be the last one, and bob would then see all
    with pytest.raises(Forbidden, match="ask a user who is not confined"):
        confine(
            SubjectKind.USER, "carol", "acme", within=mine
        )  # would take away an organization that the caller does not see


def test_organizations_outside_the_scope_answer_as_if_they_did_not_exist(
    database: Database, connected: Connected
) -> None:
    integration = connected("acme")
    execute(
        database,
        """
        insert into softpro.sync_logs
            (id, integration_id, organization_id, run_id, sync_type, entity_type, mode, status)
        values (%s, %s, 'acme', 'r', 'MANUAL', 'CONTACT', 'full', 'FAILED')
        """,
        integration.id,
        integration.id,
    )
    with database.connect() as connection:
        assert integrations.get(connection, integration.id, {"acme"}).id == integration.id
        assert sync_logs.get(connection, integration.id, ["acme"]).organization_id == "acme"

        def refused(read: Callable[..., Any], name: Any) -> str:
            with pytest.raises(NotFoundHere) as outside:
                read(connection, name, {"globex"})
            return str(outside.value)

        by_id, log = refused(integrations.get, integration.id), refused(sync_logs.get, integration.id)
        assert refused(integrations.find, "acme") == refused(integrations.find, "nobody").replace("nobody", "acme")
        execute(database, "delete from softpro.sync_logs")
        assert log == refused(sync_logs.get, integration.id)
        assert refused(quarantine_cases.get, integration.id) == f"The quarantine has no case {integration.id}"
        assert by_id == f"No integration has the id {integration.id}: connect it first"


def test_the_command_line_confines_lists_and_releases(settings: dict[str, str], database: Database) -> None:
    confined = command(settings, "access", "confine", "bob", "globex", "acme")
    assert confined.out == "user bob: acme, globex\n"
    assert "exactly the name bob" in confined.err
    command(settings, "access", "confine", "west", "acme", "--team")

    listed = command(settings, "access", "list", "--json").out.splitlines()
    assert [json.loads(line) for line in listed] == [
        {"kind": "TEAM", "subject": "west", "organizations": ["acme"]},
        {"kind": "USER", "subject": "bob", "organizations": ["acme", "globex"]},
    ]
    assert one(database, "select min(created_by) from softpro.confinements").endswith("(command line)")
    assert command(settings, "access", "release", "bob").out == "user bob: every organization\n"
    again = command(settings, "access", "release", "bob")
    assert (again.code, again.err) == (2, "softpro: user bob is not confined\n")


def test_an_organization_that_can_not_be_one_is_refused(confine: Confine) -> None:
    with pytest.raises(UsageError, match="1 to 128 visible characters"):
        confine(SubjectKind.USER, "bob", "two words")
    with pytest.raises(UsageError, match="printable"):
        confine(SubjectKind.USER, "bob\0", "acme")
