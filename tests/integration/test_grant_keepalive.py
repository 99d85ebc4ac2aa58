"""Refresh unused grants before their 30 days are over, and only those."""

from __future__ import annotations

import json
import logging

import pytest

from softpro.connections import oauth_flow
from softpro.db import oauth_tokens
from softpro.db.database import Database
from softpro.db.integrations import Integration
from softpro.services import Services
from softpro.softpro360 import consent, oauth
from softpro.softpro360.keepalive import KeepAliveResult, keep_alive

from ..support.databases import execute, one, rows
from ..support.fixture_types import Connected, StartSandbox
from ..support.product import begin_connection, build_services, command, environment, finish_connection, sync
from ..support.sandbox import Sandbox


def connect(services: Services, sandbox: Sandbox, *organizations: str) -> list[Integration]:
    """Connect each of our organizations to one of the vendor's."""
    return [
        finish_connection(services, sandbox.consent(begin_connection(services, ours), theirs))
        for ours, theirs in zip(organizations, sandbox.organizations, strict=False)
    ]


def backdate_grant(database: Database, organization: str, days: float) -> None:
    """Backdate the grant's last use by this many days."""
    execute(
        database,
        """
        update softpro.integrations
        set refresh_token_issued_at = refresh_token_issued_at - passed,
            token_issued_at = token_issued_at - passed,
            token_expires_at = token_expires_at - passed
        from make_interval(secs => %s) passed
        where organization_id = %s
        """,
        days * 86400,
        organization,
    )


def run(services: Services) -> KeepAliveResult:
    return keep_alive(services.database, services.vault, services.oauth)


def versions(database: Database) -> dict[str, int]:
    found = rows(database, "select organization_id, token_version from softpro.integrations")
    return {row["organization_id"]: row["token_version"] for row in found}


def refresh_token_age(database: Database, organization: str) -> float:
    """Return the age of the refresh token in days."""
    query = """
        select extract(epoch from now() - refresh_token_issued_at)::float8 / 86400
        from softpro.integrations
        where organization_id = %s
    """
    days: float = one(database, query, organization)
    return days


def test_exactly_the_old_grants_are_refreshed(start_sandbox: StartSandbox, database: Database) -> None:
    sandbox = start_sandbox(organizations=6)
    services = build_services(environment(database, sandbox), database)
    *_, left = connect(services, sandbox, "new", "six", "eight", "off", "gone")
    backdate_grant(database, "six", 6.9)
    for organization in ("eight", "off", "gone"):
        backdate_grant(database, organization, 8)
    execute(database, "update softpro.integrations set sync_enabled = false where organization_id = 'off'")
    with database.connect() as connection:
        oauth_tokens.erase(connection, left.id)
    before = versions(database)

    kept = run(services)

    assert kept == KeepAliveResult(refreshed=2)
    after = versions(database)
    assert {name for name in after if after[name] != before[name]} == {"eight", "off"}
    assert refresh_token_age(database, "eight") < 0.1
    assert 6.8 < refresh_token_age(database, "six") < 7
    assert sandbox.stats()["refreshes"] == 2
    assert run(services) == KeepAliveResult()


def test_one_refused_tenant_becomes_expired_and_the_others_are_done(
    start_sandbox: StartSandbox, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    sandbox = start_sandbox(organizations=4)
    services = build_services(environment(database, sandbox), database)
    connect(services, sandbox, "a-good", "b-refused", "c-unreadable", "d-good")
    for number, organization in enumerate(versions(database)):
        backdate_grant(database, organization, 9 + number)
    sandbox.revoke(sandbox.organizations[1])
    execute(
        database,
        "update softpro.integrations set refresh_token = access_token where organization_id = 'c-unreadable'",
    )

    kept = run(services)

    assert (kept.refreshed, list(kept.expired), list(kept.failed)) == (2, ["b-refused"], ["c-unreadable"])
    states = rows(database, "select organization_id, status, refresh_token_issued_at from softpro.integrations")
    assert {row["organization_id"]: row["status"] for row in states} == {
        "a-good": "CONNECTED",
        "b-refused": "EXPIRED",
        "c-unreadable": "CONNECTED",
        "d-good": "CONNECTED",
    }
    assert [row["organization_id"] for row in states if row["refresh_token_issued_at"] is None] == ["b-refused"]
    message = one(database, "select last_error_message from softpro.integrations where organization_id = 'b-refused'")
    assert "connect the organization again" in message
    assert [record.getMessage() for record in caplog.records].count("keep_alive_failed") == 1


def test_where_refresh_tokens_do_not_rotate_a_grant_is_refreshed_once_a_day(
    start_sandbox: StartSandbox, database: Database
) -> None:
    sandbox = start_sandbox(rotateRefresh="false")
    services = build_services(environment(database, sandbox), database)
    connect(services, sandbox, "acme")
    backdate_grant(database, "acme", 10)

    assert [run(services).refreshed for _ in range(3)] == [1, 0, 0]
    assert 9.9 < refresh_token_age(database, "acme") < 10.1
    backdate_grant(database, "acme", 1.1)
    assert [run(services).refreshed for _ in range(3)] == [1, 0, 0]
    assert 11 < refresh_token_age(database, "acme") < 11.2
    assert sandbox.stats()["refreshes"] == 2


def test_a_refresh_whose_answer_was_lost_waits_until_the_access_token_has_ended(
    start_sandbox: StartSandbox, database: Database
) -> None:
    sandbox = start_sandbox(organizations=2)
    services = build_services(environment(database, sandbox), database)
    acme, _ = connect(services, sandbox, "acme", "other")
    backdate_grant(database, "acme", 8)
    backdate_grant(database, "other", 8)
    sandbox.switch(tokenFaults=1)
    assert list(run(services).failed) == ["acme", "other"]
    sandbox.switch(tokenFaults=0)
    execute(database, "update softpro.integrations set token_expires_at = now() + interval '1 hour'")

    assert run(services) == KeepAliveResult()
    with database.connect() as connection:  # also where a refresh was requested before the response was lost
        grant = oauth_tokens.read(connection, services.vault, acme.id)
        assert oauth.refresh_access_token(connection, services.vault, services.oauth, grant).version == grant.version
    execute(database, "update softpro.integrations set token_expires_at = now() where organization_id = 'acme'")
    assert list(run(services).expired) == ["acme"]
    assert sandbox.stats()["deadRefreshTokens"] == 1


def test_a_sync_moves_the_end_of_the_grant_only_where_the_refresh_token_rotates(
    start_sandbox: StartSandbox, database: Database
) -> None:
    sandbox = start_sandbox()
    services = build_services(environment(database, sandbox), database)
    (integration,) = connect(services, sandbox, "acme")
    backdate_grant(database, "acme", 2)
    assert sync(services, integration).status == "COMPLETED"
    assert refresh_token_age(database, "acme") < 0.1

    sandbox.switch(rotateRefresh=False)
    backdate_grant(database, "acme", 2)
    assert sync(services, integration).status == "COMPLETED"
    assert 1.9 < refresh_token_age(database, "acme") < 2.1


def test_status_says_when_the_grant_ends(settings: dict[str, str], services: Services, connected: Connected) -> None:
    integration = connected("acme")
    issued_at = "2026-01-02 03:04:05.678+00"
    execute(services.database, "update softpro.integrations set refresh_token_issued_at = %s", issued_at)

    assert "grant ends 2026-02-01T03:04:05.678Z" in command(settings, "status", "acme").out
    states = [json.loads(line) for line in command(settings, "status", "--json").out.splitlines()]
    assert {state["grantExpiresAt"] for state in states} == {"2026-02-01T03:04:05.678Z"}

    oauth_flow.disconnect(services, integration.id)
    states = [json.loads(line) for line in command(settings, "status", "--json").out.splitlines()]
    assert {state["grantExpiresAt"] for state in states} == {None}
    assert "grant ends" not in command(settings, "status").out


def test_states_are_forgotten_a_day_after_they_ended(services: Services) -> None:
    for organization in ("young", "used", "old"):
        begin_connection(services, organization)
    execute(
        services.database,
        """
        update softpro.oauth_states
        set expires_at = now() - make_interval(hours => case organization_id when 'young' then 23 else 25 end),
            used_at = case organization_id when 'used' then now() - interval '26 hours' end
        """,
    )

    with services.database.connect() as connection:
        forgotten = consent.purge_states(connection)

    assert forgotten == 2
    assert rows(services.database, "select organization_id from softpro.oauth_states") == [{"organization_id": "young"}]
