"""Schedule each stream separately, so that no tenant waits for another's vendor (promise 5)."""

from __future__ import annotations

import time
from dataclasses import fields

import pytest

from softpro.db import schedule
from softpro.db.database import Database
from softpro.db.integrations import Integration
from softpro.db.schedule import Lane
from softpro.entities import EntityType, Stream
from softpro.errors import RateLimitError
from softpro.runs import pipeline
from softpro.runs.tenant_pool import shards
from softpro.services import Services

from ..support.databases import execute, one, rows
from ..support.fixture_types import Connected, StartSandbox
from ..support.product import begin, begin_connection, build_services, environment, finish_connection, sync
from ..support.sandbox import Sandbox


def due(services: Services, lane: Lane = Lane.FRESH) -> set[str]:
    with services.database.connect() as connection:
        return {stream.entity_type for stream in schedule.due(connection, lane)}


def test_a_stream_is_due_until_it_is_synced_and_again_after_its_interval(
    connected: Connected, services: Services
) -> None:
    integration = connected("acme")
    assert due(services) == {"CONTACT", "TRANSACTION"}

    sync(services, integration, EntityType.TRANSACTION)

    assert due(services) == {"CONTACT"}
    execute(services.database, "update softpro.cursors set last_synced_at = last_synced_at - interval '301 seconds'")
    assert due(services) == {"CONTACT", "TRANSACTION"}


def test_one_streams_success_leaves_anothers_failure_to_its_retry_time(
    connected: Connected, services: Services
) -> None:
    integration = connected("acme")
    run = begin(services, integration, EntityType.CONTACT)
    failed = pipeline.fail(services.database, run, RateLimitError("too many", retry_after=90))

    sync(services, integration, EntityType.TRANSACTION)

    (contact,) = rows(services.database, "select * from softpro.cursors where entity_type = 'CONTACT'")
    assert contact["failures"] == 1
    seconds = (contact["next_attempt_at"] - failed.completed_at).total_seconds()
    assert seconds == pytest.approx(90, abs=1)
    assert due(services) == set()
    (summed,) = rows(services.database, "select consecutive_failures, next_attempt_at from softpro.integrations")
    assert summed == {"consecutive_failures": 1, "next_attempt_at": contact["next_attempt_at"]}
    execute(services.database, "update softpro.cursors set next_attempt_at = now() where entity_type = 'CONTACT'")
    assert due(services) == {"CONTACT"}


def test_failures_in_a_row_wait_longer_and_longer_but_at_most_an_hour(connected: Connected, services: Services) -> None:
    run = begin(services, connected("acme"), EntityType.CONTACT)
    with services.database.connect() as connection:
        waits = []
        for _ in range(8):
            retry_at = schedule.record_failure(connection, run, "no")
            now = one(services.database, "select clock_timestamp()")
            waits.append(round((retry_at - now).total_seconds()))
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600]


def test_a_backlog_is_due_at_once_in_its_own_lane(connected: Connected, services: Services) -> None:
    integration = connected("acme")
    run = begin(services, integration, EntityType.TRANSACTION)

    pipeline.extract(services, run, seconds=0)
    pipeline.finish(services.database, run)

    assert due(services) == {"CONTACT"}
    assert due(services, Lane.BACKLOG) == {"TRANSACTION"}


def test_the_schedule_skips_a_run_that_a_user_requested(connected: Connected, services: Services) -> None:
    integration = connected("acme")
    execute(
        services.database,
        """
        insert into softpro.sync_logs
            (id, integration_id, organization_id, run_id, sync_type, entity_type, mode, status)
        values (gen_random_uuid(), %s, 'acme', 'api', 'MANUAL', 'CONTACT', 'incremental', 'PENDING')
        """,
        integration.id,
    )
    assert due(services) == {"TRANSACTION"}
    execute(services.database, "update softpro.sync_logs set started_at = now() - interval '3 minutes'")
    assert due(services) == {"CONTACT", "TRANSACTION"}


def test_a_limit_that_is_used_up_for_the_moment_is_no_failure_and_the_rest_is_a_backlog(
    start_sandbox: StartSandbox, database: Database
) -> None:
    sandbox = start_sandbox(rateLimit=2)
    services, integration = _patient(database, sandbox)

    began = time.monotonic()
    run = begin(services, integration)
    first = pipeline.extract(services, run, seconds=0)
    execute(database, "update softpro.cursors set backlog = false")
    second = pipeline.extract(services, run, seconds=0, first_slice=False)

    assert time.monotonic() - began < 20, "the limit frees after 60 s; no caller slept that long"
    assert first.backlog
    assert (second.fetched, second.requests, second.backlog) == (0, 0, True)
    assert one(database, "select api_requests from softpro.sync_logs") == 1, "the next was not even sent"
    assert one(database, "select backlog from softpro.cursors")


def test_a_vendor_that_says_come_back_tomorrow_is_not_waited_for(
    start_sandbox: StartSandbox, database: Database
) -> None:
    services, integration = _patient(database, start_sandbox())
    execute(database, "update softpro.budgets set not_before = now() + interval '1 day'")
    asked = time.monotonic()
    log = sync(services, integration)
    assert time.monotonic() - asked < 20
    assert log.status == "FAILED"
    assert "it asked to wait" in (log.error_message or "")
    assert one(database, "select next_attempt_at > now() + interval '23 hours' from softpro.integrations")


def test_a_limit_reached_in_a_slice_ends_the_slice_and_keeps_its_pages(
    start_sandbox: StartSandbox, database: Database
) -> None:
    sandbox = start_sandbox(transactions=45, rateLimit=3)
    services, integration = _patient(database, sandbox)
    run = begin(services, integration)

    extracted = pipeline.extract(services, run, seconds=5)

    assert extracted.backlog
    assert 0 < extracted.fetched < 45
    assert one(database, "select count(*) from raw.records") == extracted.fetched


def test_shards_keep_an_integrations_streams_together_and_are_few() -> None:
    from uuid import UUID

    streams = [Stream(UUID(int=n), f"org-{n}", kind) for n in range(20) for kind in EntityType]

    dealt = shards(streams, most=4, least_streams=8)

    assert [len(shard) for shard in dealt] == [10, 10, 10, 10]
    homes = [{stream.integration_id for stream in shard} for shard in dealt]
    assert sum(len(home) for home in homes) == 20
    assert [len(shard) for shard in shards(streams[:6], most=4, least_streams=8)] == [6]
    assert shards([], most=4, least_streams=8) == []


def test_integrations_that_are_kept_apart_share_no_shard_with_others() -> None:
    from uuid import UUID

    streams = [Stream(UUID(int=n), f"org-{n}", kind) for n in range(6) for kind in EntityType]

    dealt = shards(streams, most=4, least_streams=8, apart={UUID(int=2), UUID(int=5)})

    assert [[stream.integration_id.int for stream in shard] for shard in dealt] == [
        [0, 0, 1, 1, 3, 3, 4, 4],
        [2, 2, 5, 5],
    ]


def _patient(database: Database, sandbox: Sandbox) -> tuple[Services, Integration]:
    """Connect the product with its real waits."""
    settings = environment(database, sandbox, SOFTPRO_SYNC_BATCH_SIZE="20")
    hurried = build_services(settings, database)
    services = Services(**{field.name: getattr(hurried, field.name) for field in fields(hurried)})
    address = sandbox.consent(begin_connection(services, "acme"), sandbox.organizations[0])
    return services, finish_connection(services, address)
