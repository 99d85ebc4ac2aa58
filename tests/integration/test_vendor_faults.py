"""Sync despite vendor faults and ending tokens: the tables end equal, or the error says what to do."""

from __future__ import annotations

import json
import time

from softpro.db.database import Database
from softpro.entities import EntityType
from softpro.services import Services

from ..support.databases import execute, one, rows
from ..support.expected_rows import actual_rows, expected_rows
from ..support.fixture_types import Connected, StartSandbox
from ..support.product import (
    begin_connection,
    build_services,
    command,
    environment,
    finish_connection,
    paused_process,
    sync,
)
from ..support.sandbox import Sandbox

FAULTS = {
    "error500": 0.04,
    "error503": 0.03,
    "error429": 0.03,
    "proxyHtml": 0.03,
    "emptyBody": 0.03,
    "truncatedBody": 0.04,
    "resetConnection": 0.03,
}

ASK_FOR_A_TOKEN = """
from uuid import UUID
from softpro.services import services
from softpro.settings import DatabaseSettings
from softpro.db.database import open_database
from softpro.softpro360.oauth import get_valid_access_token
found = services(open_database(DatabaseSettings()))
print(get_valid_access_token(found.database, found.vault, found.oauth, UUID('{id}'))[0])
"""


def test_a_fifth_of_mixed_faults_while_records_change_and_surface_late_loses_nothing(
    start_sandbox: StartSandbox, database: Database
) -> None:
    lag = 0.5
    sandbox = start_sandbox(transactions=150, lag=lag)
    (organization,) = sandbox.organizations
    settings = environment(database, sandbox, SOFTPRO_SYNC_BATCH_SIZE="5", SOFTPRO_MAX_RETRIES="15")
    services = build_services(settings, database)
    integration = finish_connection(services, sandbox.consent(begin_connection(services, "acme"), organization))
    sandbox.switch(**FAULTS, changeWhilePaging=2)
    assert sync(services, integration).status == "COMPLETED"
    sandbox.switch(changeWhilePaging=0)
    time.sleep(lag)  # the last changes may surface until then
    assert sync(services, integration).status == "COMPLETED"
    assert sum(sandbox.stats()["faults"].values()) > 5
    assert actual_rows(database, "acme") == expected_rows(sandbox.records(organization))


def test_an_expired_access_token_is_refreshed_once_and_the_sync_ends(
    connected: Connected, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    integration = connected("acme")
    refreshed = sandbox.stats()["refreshes"]
    sandbox.expire(vendor_organization)
    log = sync(services, integration, EntityType.CONTACT)
    assert (log.status, log.records_processed) == ("COMPLETED", 12)
    assert sandbox.stats()["refreshes"] - refreshed == 1


def test_a_revoked_grant_is_expired_says_what_to_do_and_can_be_connected_again(
    connected: Connected,
    services: Services,
    settings: dict[str, str],
    sandbox: Sandbox,
    vendor_organization: str,
) -> None:
    integration = connected("acme")
    sandbox.revoke(vendor_organization)
    answer = command(settings, "sync", "acme", "--entity", "contacts", "--json")
    assert answer.code == 1
    assert json.loads(answer.out)["success"] is False
    (said,) = answer.err.splitlines()
    assert said == ("contacts: SoftPro no longer honors the grant: connect the organization again")
    (row,) = rows(services.database, "select status, access_token, refresh_token from softpro.integrations")
    assert row == {"status": "EXPIRED", "access_token": None, "refresh_token": None}
    again = command(settings, "sync", "acme", "--entity", "contacts")
    assert (again.code, again.out) == (1, "")
    assert "acme is EXPIRED" in again.err
    connected("acme")
    assert sync(services, integration, EntityType.CONTACT).status == "COMPLETED"


def test_two_processes_that_need_a_token_at_once_refresh_it_once(
    connected: Connected, services: Services, settings: dict[str, str], sandbox: Sandbox, vendor_organization: str
) -> None:
    integration = connected("acme")
    sandbox.expire(vendor_organization)
    execute(services.database, "update softpro.integrations set token_expires_at = now()")
    before = sandbox.stats()
    racers = [paused_process(settings, ASK_FOR_A_TOKEN.format(id=integration.id)) for _ in range(2)]
    ended = [process.communicate("go\n", timeout=30) for process in racers]
    assert [process.returncode for process in racers] == [0, 0], ended
    assert len({out for out, _ in ended}) == 1
    after = sandbox.stats()
    assert after["refreshes"] - before["refreshes"] == 1
    assert after["deadRefreshTokens"] == before["deadRefreshTokens"]


def test_a_lost_refresh_answer_is_not_the_end_of_a_grant_that_does_not_rotate(
    start_sandbox: StartSandbox, database: Database
) -> None:
    sandbox = start_sandbox(rotateRefresh=False)
    (organization,) = sandbox.organizations
    services = build_services(environment(database, sandbox), database)
    integration = finish_connection(services, sandbox.consent(begin_connection(services, "acme"), organization))
    sandbox.expire(organization)
    sandbox.switch(tokenFaults=1)
    assert sync(services, integration, EntityType.CONTACT).status == "FAILED"
    assert one(database, "select status from softpro.integrations") == "CONNECTED"
    sandbox.switch(tokenFaults=0)
    assert sync(services, integration, EntityType.CONTACT).status == "COMPLETED"
