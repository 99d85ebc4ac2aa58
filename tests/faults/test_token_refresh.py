"""Refresh a token once per expiry (promise 7) with many processes, and survive a crash at the worst moment.

The worst moment is between the vendor's response, which ends the old refresh token, and the commit of the new pair. The
test locks the integration's row, waits until PostgreSQL shows the process waiting to write it, and kills the process.

SOFTPRO_TEST_REFRESH_SECONDS is how long sixteen processes share a grant, at least 10.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import pytest

from softpro.db import integrations
from softpro.db.database import Connection, Database
from softpro.db.integrations import Integration
from softpro.services import Services

from ..support.databases import execute, one, rows
from ..support.fixture_types import StartSandbox
from ..support.forked_process import ForkedProcess
from ..support.product import begin_connection, build_services, command, environment, finish_connection
from ..support.sandbox import Sandbox

T = TypeVar("T")

PROCESSES = 16
TOKEN_SECONDS = 5  # refreshed at half of it
SECONDS = float(os.environ.get("SOFTPRO_TEST_REFRESH_SECONDS", "10"))
PATIENCE_SECONDS = 120

IMPORTS = """
import sys, time
from softpro.services import services
from softpro.settings import DatabaseSettings, load
from softpro.db import integrations, oauth_tokens
from softpro.db.database import open_database
from softpro.softpro360 import oauth

services_ = services(open_database(*load(DatabaseSettings)))
with services_.database.connect() as connection:
    integration = integrations.find(connection, "acme")
"""
REFRESHES = """
oauth.get_valid_access_token(services_.database, services_.vault, services_.oauth, integration.id)
"""
CALLS = """
print("ready", flush=True)
until = time.monotonic() + float(input())
calls = 0
with services_.client(integration) as client:
    while time.monotonic() < until:
        client.profile()
        calls += 1
        time.sleep(0.05)
print(calls)
"""
WAITING_PID = """
select pid
from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock'
  and ltrim(query, E' \n') ^@ 'update softpro.integrations'
"""
GONE = "select not exists (select from pg_stat_activity where pid = %s)"


@pytest.fixture
def two(start_sandbox: StartSandbox, database: Database) -> tuple[Sandbox, Services, dict[str, str]]:
    """Connect `acme` and `globex`."""
    sandbox = start_sandbox(organizations=2)
    settings = environment(database, sandbox)
    services = build_services(settings, database)
    for ours, theirs in zip(("acme", "globex"), sandbox.organizations, strict=True):
        connect(services, sandbox, ours, theirs)
    return sandbox, services, settings


def connect(services: Services, sandbox: Sandbox, ours: str, theirs: str) -> Integration:
    return finish_connection(services, sandbox.consent(begin_connection(services, ours), theirs))


def test_a_crash_between_answer_and_commit_ends_in_expired_and_reconnecting_heals(
    two: tuple[Sandbox, Services, dict[str, str]],
) -> None:
    sandbox, services, settings = two
    database = services.database
    with refresh_held(database, settings) as (process, backend):
        process.kill()
        process.wait()
        # Its host died, so its session ends too; otherwise PostgreSQL would complete the last statement.
        execute(database, "select pg_terminate_backend(%s)", backend)
        wait_for(lambda: one(database, GONE, backend), "the dead process's session to end")
    assert status_of(services, "acme").status == "CONNECTED"
    assert sandbox.stats()["refreshes"] == 1

    failed = command(settings, "sync", "acme", "--entity", "contacts")

    assert failed.code == 1
    assert "connect the organization again" in failed.err
    acme = status_of(services, "acme")
    assert (acme.status, acme.refresh_token_issued_at) == ("EXPIRED", None)
    assert "SoftPro no longer honors the grant" in (acme.last_error_message or "")
    assert sandbox.stats()["deadRefreshTokens"] == 1

    refused = command(settings, "sync", "acme", "--entity", "contacts")
    other = command(settings, "sync", "globex", "--entity", "contacts")
    assert (refused.code, other.code) == (1, 0)
    assert "acme is EXPIRED" in refused.err
    assert sandbox.stats()["deadRefreshTokens"] == 1

    connect(services, sandbox, "acme", sandbox.organizations[0])
    assert command(settings, "sync", "acme", "--entity", "contacts").code == 0
    assert rows(database, "select count(*) as n from roi.contacts group by organization_id") == [{"n": 12}, {"n": 12}]


def test_a_process_killed_while_its_update_waits_loses_nothing_as_long_as_the_database_lives(
    two: tuple[Sandbox, Services, dict[str, str]],
) -> None:
    """PostgreSQL notices a client's death only on its next message, which comes after the commit."""
    sandbox, services, settings = two
    with refresh_held(services.database, settings) as (process, backend):
        process.kill()
        process.wait()
    wait_for(lambda: one(services.database, GONE, backend), "the dead process's session to end")

    assert command(settings, "sync", "acme", "--entity", "contacts").code == 0
    stats = sandbox.stats()
    assert (stats["refreshes"], stats["deadRefreshTokens"]) == (1, 0)


def test_sixteen_processes_share_each_refresh_and_no_call_fails(
    start_sandbox: StartSandbox, database: Database
) -> None:
    sandbox = start_sandbox(accessTokenLifetime=TOKEN_SECONDS)
    settings = environment(database, sandbox)
    connect(build_services(settings, database), sandbox, "acme", sandbox.organizations[0])

    with ExitStack() as stack:
        processes = [stack.enter_context(running(settings, CALLS)) for _ in range(PROCESSES)]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", process.communicate()[1]
        before, began = sandbox.stats()["refreshes"], time.monotonic()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(f"{SECONDS}\n")
            process.stdin.flush()
        answers = [(*process.communicate(timeout=SECONDS + 60), process.returncode) for process in processes]
        elapsed = time.monotonic() - began

    assert [err for _, err, code in answers if code != 0 or err] == []
    stats = sandbox.stats()
    refreshes = stats["refreshes"] - before
    calls = [int(out) for out, _, _ in answers]
    print(f"{sum(calls)} calls by {PROCESSES} processes in {elapsed:.1f} s: {refreshes} refreshes")
    assert min(calls) > SECONDS / 2
    assert SECONDS / TOKEN_SECONDS <= refreshes <= elapsed / (TOKEN_SECONDS / 2) + 1
    assert (stats["deadRefreshTokens"], stats["lostTokenAnswers"]) == (0, 0)


@contextmanager
def refresh_held(database: Database, settings: Mapping[str, str]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Yield a process that got the response to a refresh, and the session that waits in the block to store it."""
    execute(database, "update softpro.integrations set token_expires_at = now() where organization_id = 'acme'")
    with (
        running(settings, REFRESHES) as process,
        database.connect() as watcher,
        database.connect() as locker,
        locker.transaction(),
    ):
        locker.execute("select from softpro.integrations where organization_id = 'acme' for no key update")
        yield process, wait_for(lambda: waiting(watcher, process), "the refresh to wait for the row")


@contextmanager
def running(settings: Mapping[str, str], code: str) -> Iterator[subprocess.Popen[str]]:
    """Yield a process that runs code with `services_` and the `integration` of acme, and kill it at the end."""
    process = ForkedProcess(
        code=IMPORTS + code,
        environment=settings,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def waiting(watcher: Connection, process: subprocess.Popen[str]) -> int:
    """Return the session that waits to store a token pair, or 0."""
    assert process.poll() is None, process.communicate()[1]
    row = watcher.execute(WAITING_PID).fetchone()
    return row["pid"] if row else 0


def status_of(services: Services, organization: str) -> Integration:
    with services.database.connect() as connection:
        return integrations.find(connection, organization)


def wait_for(ready: Callable[[], T], what: str) -> T:
    """Return the result of `ready` once it is true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (answer := ready()):
        assert time.monotonic() < deadline, f"waited {PATIENCE_SECONDS} s for {what}"
        time.sleep(0.01)
    return answer
