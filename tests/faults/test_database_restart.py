"""Restart or crash PostgreSQL during a sync: nothing is lost or doubled (promise 3), and the error is reported.

The real command is held at a moment of each step in turn while the server is away, for a while or for an instant.

SOFTPRO_TEST_RESTARTS is the number of restarts, and of crashes, at least 2. SOFTPRO_TEST_RESTART_RECORDS is the number
of transactions, and of contacts: 60, or enough for a load during the fetch.
"""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping

import pytest

from softpro.db.database import Database
from softpro.db.integrations import Integration
from softpro.db.sync_logs import SyncLog
from softpro.entities import EntityType
from softpro.errors import DatabaseUnavailable
from softpro.services import Services

from ..support.bad_transactions import bad_transactions
from ..support.database_state import contents, inconsistent_logs, leftovers
from ..support.databases import Server, execute, memory_directory
from ..support.fixture_types import StartSandbox
from ..support.forked_process import ForkedProcess
from ..support.product import connect_acme, environment, sync
from ..support.sandbox import Sandbox
from ..support.sync_steps import STEPS, hold_at_step

SEED = 360
RESTARTS = int(os.environ.get("SOFTPRO_TEST_RESTARTS", "2"))
RECORDS = int(os.environ.get("SOFTPRO_TEST_RESTART_RECORDS", "60"))
CHANGED = 12 if RECORDS <= 1000 else RECORDS // 2
AWAY_SECONDS = (2, 0, 0)
PATIENCE_SECONDS = 60
PAGE = {"SOFTPRO_SYNC_BATCH_SIZE": "4" if RECORDS <= 1000 else "200"}
# The default size uses the first two entries; a larger one repeats the list.
PLANS = {
    "fast": [
        "waiting for an answer",
        "judging",
        "merging",
        "mapping",
        "landing a page",
        "staged",
        "about to judge",
        "closing the log",
    ],
    "immediate": [
        "mapping",
        "merging",
        "landing a page",
        "judging",
        "waiting for an answer",
        "about to judge",
        "staged",
        "closing the log",
    ],
}


@pytest.fixture(scope="module")
def restarted_server() -> Server:
    """Start a server that no other test uses."""
    return Server(memory_directory() / "data")


@pytest.fixture
def restarted(restarted_server: Server) -> Iterator[Database]:
    with restarted_server.fresh() as fresh:
        yield fresh


@pytest.mark.parametrize("mode", PLANS)
def test_a_sync_whose_database_goes_away_says_so_and_the_next_one_completes(
    mode: str, restarted_server: Server, restarted: Database, database: Database, start_sandbox: StartSandbox
) -> None:
    rng = random.Random(SEED)
    sandbox = start_sandbox(transactions=RECORDS, contacts=RECORDS)
    (organization,) = sandbox.organizations
    calm, calm_acme = connect_acme(database, sandbox, **PAGE)
    services, acme = connect_acme(restarted, sandbox, **PAGE)
    settings = environment(restarted, sandbox, **PAGE)

    hits: Counter[str] = Counter()
    badly_said: list[str] = []
    bad = iter(bad_transactions(RESTARTS, rng))
    for number, moment in enumerate(itertools.islice(itertools.cycle(PLANS[mode]), RESTARTS), start=1):
        sandbox.put(organization, next(bad).payload)
        for each in EntityType:
            sandbox.change(organization, each.value, CHANGED)
        entity_type, away = rng.choice(list(EntityType)), AWAY_SECONDS[number % len(AWAY_SECONDS)]
        began = time.monotonic()
        code, said = interrupted(restarted_server, restarted, sandbox, settings, mode, moment, entity_type, away)
        print(f"  the command ended with {code} after {time.monotonic() - began:.1f} s: {said.strip()[-300:]}")
        assert code in (0, 1)
        if "Traceback" in said or (code == 1 and "database" not in said.lower()):
            badly_said.append(f"{moment}: {said}")
        hits[STEPS[moment].step] += 1
        for each in EntityType:
            complete(restarted, services, acme, each)
            assert sync(calm, calm_acme, each).succeeded
        assert leftovers(restarted) == {}, f"after {mode} restart {number}"
    print(f"seed {SEED}, {mode}, {RECORDS} of each kind: {dict(hits)}")

    assert inconsistent_logs(restarted) == []
    undisturbed, disturbed = contents(database), contents(restarted)
    for table, lines in undisturbed.items():
        assert disturbed[table] == lines, table
    assert badly_said == []


def test_a_statement_that_takes_too_long_is_not_reported_as_an_unreachable_database(database: Database) -> None:
    with pytest.raises(DatabaseUnavailable, match=r"^The database takes too long \(canceling statement"):
        execute(database, "set statement_timeout = 1; select pg_sleep(1)")


def interrupted(
    server: Server,
    database: Database,
    sandbox: Sandbox,
    settings: Mapping[str, str],
    mode: str,
    moment: str,
    entity_type: EntityType,
    away: float,
) -> tuple[int, str]:
    """Restart the server during a sync command. Return its exit code and its output on stderr."""
    since = time.time()
    slowly = moment == "waiting for an answer"
    sandbox.switch(slow=int(slowly), slowSeconds=1)

    def start() -> subprocess.Popen[str]:
        return ForkedProcess(
            *("softpro", "sync", "acme", "--entity", entity_type.table),
            environment=settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def asked() -> bool:
        return any(call["status"] is None for call in sandbox.calls(since))

    with hold_at_step(database, moment, entity_type, start, asked) as (process, waiting):
        print(f"{mode}, {moment} ({entity_type.table}), away for {away} s: {waiting[:70]}")
        server.restart(mode, away)
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
    sandbox.switch(slow=0)
    return process.returncode, said


def complete(database: Database, services: Services, acme: Integration, entity_type: EntityType) -> SyncLog:
    """Run the next sync. After a crash the vendor's window counts as full, so end that wait first."""
    log = sync(services, acme, entity_type)
    if not log.succeeded:
        assert "the next request can be sent in" in (log.error_message or "")
        execute(database, "update softpro.budgets set not_before = null")
        log = sync(services, acme, entity_type)
    assert log.succeeded, log.error_message
    return log
