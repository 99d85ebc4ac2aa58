"""Open the circuit breaker while the vendor is down, and let one call at a time test it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from softpro.db import integrations
from softpro.db.database import Database
from softpro.db.integrations import Integration
from softpro.entities import EntityType
from softpro.errors import BudgetExhausted, CircuitOpen, RateLimitError, RecordNotFound, ServerError, SoftProAPIError
from softpro.services import Services
from softpro.softpro360.breaker import COOL_DOWN, OPENS_AFTER
from softpro.softpro360.client import Client

from ..support.databases import execute, one, rows
from ..support.fixture_types import StartSandbox
from ..support.product import begin_connection, build_services, command, environment, finish_connection, sync
from ..support.sandbox import Sandbox


@pytest.fixture
def own(start_sandbox: StartSandbox) -> Sandbox:
    return start_sandbox(transactions=3, contacts=3)


@pytest.fixture
def services(database: Database, own: Sandbox) -> Services:
    return build_services(environment(database, own, SOFTPRO_MAX_RETRIES="1"), database)


@pytest.fixture
def acme(services: Services, own: Sandbox) -> Integration:
    return finish_connection(services, own.consent(begin_connection(services, "acme"), own.organizations[0]))


@pytest.fixture
def client(services: Services, acme: Integration) -> Iterator[Client]:
    with services.client(acme) as client:
        yield client


def fail(client: Client, times: int) -> None:
    for _ in range(times):
        with pytest.raises(ServerError):
            client.profile()


def end_cool_down(services: Services) -> None:
    """End the cool-down now."""
    execute(services.database, "update softpro.breakers set next_try_at = now()")


def test_it_opens_after_five_calls_that_failed_after_all_their_retries(
    client: Client, own: Sandbox, services: Services
) -> None:
    own.switch(error500=1)
    asked = own.requests_of(own.organizations[0])
    fail(client, OPENS_AFTER)
    assert own.requests_of(own.organizations[0]) - asked == 2 * OPENS_AFTER
    with pytest.raises(CircuitOpen, match=r"No call .* until .* 5 calls in a row failed: GET /user/profile") as open_:
        client.profile()
    assert own.requests_of(own.organizations[0]) - asked == 2 * OPENS_AFTER
    assert open_.value.retry_after == pytest.approx(COOL_DOWN.total_seconds(), abs=5)


def test_one_call_in_between_that_was_answered_starts_the_count_again(client: Client, own: Sandbox) -> None:
    own.switch(error503=1)
    fail(client, OPENS_AFTER - 1)
    own.switch(error503=0)
    with pytest.raises(RecordNotFound):  # a refusal is a response
        client.record(EntityType.TRANSACTION, "nobody")
    own.switch(error503=1)
    fail(client, OPENS_AFTER - 1)
    own.switch(error503=0)
    client.profile()


def test_refusals_and_the_rate_limit_never_open_it(client: Client, own: Sandbox, services: Services) -> None:
    for _ in range(OPENS_AFTER + 1):
        with pytest.raises(RecordNotFound):
            client.record(EntityType.TRANSACTION, "nobody")
    own.switch(error429=1)
    client.max_retries = 0
    for _ in range(OPENS_AFTER + 1):
        execute(services.database, "update softpro.budgets set not_before = null")
        with pytest.raises(RateLimitError):
            client.profile()
    own.switch(error429=0)
    client.profile()


def test_after_the_cool_down_one_call_tries_once_and_the_next_cool_down_is_twice_as_long(
    client: Client, own: Sandbox, services: Services, acme: Integration
) -> None:
    own.switch(error500=1)
    fail(client, OPENS_AFTER)
    end_cool_down(services)
    asked = own.requests_of(own.organizations[0])
    fail(client, 1)
    assert own.requests_of(own.organizations[0]) - asked == 1
    with services.database.connect() as connection:
        outage = integrations.outage(connection, acme.id)
    assert outage is not None
    seconds = one(services.database, "select extract(epoch from next_try_at - now())::float8 from softpro.breakers")
    assert seconds == pytest.approx(2 * COOL_DOWN.total_seconds(), abs=5)
    with pytest.raises(CircuitOpen):
        client.profile()


def test_a_429_to_the_trial_call_counts_as_answered(client: Client, own: Sandbox, services: Services) -> None:
    own.switch(error500=1)
    fail(client, OPENS_AFTER)
    end_cool_down(services)
    own.switch(error500=0, error429=1)
    with pytest.raises(RateLimitError):
        client.profile()
    own.switch(error429=0)
    client.profile()


def test_a_trial_call_without_a_slot_leaves_the_trial_to_the_next(
    client: Client, own: Sandbox, services: Services
) -> None:
    own.switch(error500=1)
    fail(client, OPENS_AFTER)
    own.switch(error500=0)
    end_cool_down(services)
    execute(services.database, "update softpro.budgets set not_before = now() + interval '1 hour'")
    client.deadline = time.monotonic() + 1
    with pytest.raises(BudgetExhausted):
        client.profile()
    client.deadline = None
    execute(services.database, "update softpro.budgets set not_before = null")
    client.profile()


def test_while_one_call_tries_the_others_wait(client: Client, own: Sandbox, services: Services) -> None:
    own.switch(error500=1)
    fail(client, OPENS_AFTER)
    end_cool_down(services)
    assert client.breaker.admit().trial
    with pytest.raises(CircuitOpen):
        client.profile()


def test_it_closes_as_soon_as_the_vendor_answers(client: Client, own: Sandbox, services: Services) -> None:
    own.switch(error500=1)
    fail(client, OPENS_AFTER)
    own.switch(error500=0)
    end_cool_down(services)
    client.profile()
    client.profile()
    assert rows(services.database, "select failures, opened_at, openings from softpro.breakers") == [
        {"failures": 0, "opened_at": None, "openings": 0}
    ]


def test_a_vendor_that_does_not_answer_at_all_opens_it_too(client: Client, own: Sandbox) -> None:
    own.switch(resetConnection=1)
    for _ in range(OPENS_AFTER):
        with pytest.raises(SoftProAPIError):
            client.profile()
    with pytest.raises(CircuitOpen):
        client.profile()


def test_the_status_says_why_and_until_when_and_a_sync_waits_until_then(
    client: Client, own: Sandbox, services: Services, acme: Integration
) -> None:
    own.switch(error500=1)
    fail(client, OPENS_AFTER)
    log = sync(services, acme)
    assert log.status == "FAILED"
    assert "No call to SoftPro until" in (log.error_message or "")
    wait = one(services.database, "select extract(epoch from next_retry_at - now())::float8 from softpro.sync_logs")
    assert wait >= COOL_DOWN.total_seconds()
    shown = command(environment(services.database, own), "status", "acme").out
    assert "next try at" in shown
    assert "500 SERVER_ERROR" in shown


def test_one_tenants_breaker_is_its_own(
    client: Client, own: Sandbox, services: Services, start_sandbox: StartSandbox
) -> None:
    other = finish_connection(services, own.consent(begin_connection(services, "other"), own.organizations[0]))
    own.switch(error500=1)
    fail(client, OPENS_AFTER)
    own.switch(error500=0)
    with services.client(other) as theirs:
        theirs.profile()
