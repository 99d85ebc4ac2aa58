"""Kill a sync at any instant and run it again: tables and history equal those of one never killed (promise 3).

`python -m softpro sync` is killed (SIGKILL) repeatedly, at random moments and at chosen spots, without a hook in the
product. At a spot the test locks a table that the product is about to write, waits until PostgreSQL shows the process
waiting in that statement, and kills it. Some kills come as soon as the previous step has committed instead.

SOFTPRO_TEST_KILLS is the number of kills, at least 6.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from collections.abc import Mapping as Dict
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg import sql

from softpro.db.database import Connection, Database
from softpro.db.integrations import Integration
from softpro.entities import EntityType
from softpro.mapping import repository
from softpro.mapping.defaults import default_mappings
from softpro.mapping.mapping import Mapping
from softpro.services import Services
from softpro.softpro360.contract import LAG

from ..support.databases import Server, one, rows
from ..support.fixture_types import StartSandbox
from ..support.forked_process import ForkedProcess
from ..support.product import begin_connection, build_services, command, environment, finish_connection, sync
from ..support.sandbox import Sandbox

SEED = 360
# Adds a rule, so that the rule process and its results table are in use too.
RULED = Mapping(EntityType.TRANSACTION, "status", "custom.state", "SOFTPRO_TO_ROI", "$ ? $lowercase($)")
KILLS = int(os.environ.get("SOFTPRO_TEST_KILLS", "6"))
ORGANIZATION = "acme"
RANDOM_SECONDS = (0.02, 1.0)  # after the start of the process, which has its imports done
PATIENCE_SECONDS = 120
LEASE_SECONDS = 35  # a run that dies after taking its lease and before showing its session is followed after 30 s

Process = subprocess.Popen[str]


@dataclass(frozen=True)
class Spot:
    """A place to kill at: once `ready` (SQL) holds and the process waits in the last of `waits`.

    Each wait names a table to lock and a regular expression for the statement that then waits to write it. The previous
    lock is released once this one is taken. `{staging}` and `{roi}` are the tables of the entity type.
    """

    stage: str
    ready: str = "select true"
    waits: tuple[tuple[str, str], ...] = ()


STAGED = """
select exists (
    select from {staging} s join softpro.sync_logs l on l.id = s.log_id where l.started_at > %(began)s)
"""
LANDING = ("raw.records", '(with landed as|copy "raw"."records")')
CLEARING = ("{staging}", "delete from {quoted}")
SPOTS = {
    "a page half landed": Spot("extract", waits=(LANDING,)),
    "nothing staged yet": Spot("transform", waits=(LANDING, CLEARING)),
    "staged, not checked": Spot("check", STAGED),
    "merging": Spot("load", STAGED, (("{roi}", "with incoming as"),)),
    "merged, not committed": Spot("load", STAGED, (CLEARING,)),
    "loaded, log still open": Spot("finish", STAGED, (("softpro.integrations", "update softpro.integrations"),)),
}
RANDOM = "a random moment"
# The default size uses the first six. A larger one repeats the list, with at least a sixth of its kills in each stage.
PLAN = [
    "a page half landed",
    RANDOM,
    "staged, not checked",
    "merging",
    RANDOM,
    "nothing staged yet",
    "a page half landed",
    "staged, not checked",
    "merged, not committed",
    RANDOM,
    "nothing staged yet",
    "loaded, log still open",
]
MUST_BE_HIT = ("extract", "transform", "check", "load")

# Records that stay bad: refused when landing (no id, or invalid for jsonb), by the mapping, and by the check.
BAD: dict[EntityType, list[dict[str, Any]]] = {
    EntityType.TRANSACTION: [
        {"orderId": "bad-{n}", "purchasePrice": "a lot"},
        {"orderId": "bad-{n}", "loanAmount": -1, "downPayment": -2},
        {"orderId": "bad-{n}", "notes": "half a pair: \ud83c"},
        {"notes": "bad-{n}"},
    ],
    EntityType.CONTACT: [{"contactId": "bad-{n}", "notes": "NUL: \x00"}, {"notes": "bad-{n}"}],
}

# All columns except generated ids and the product's timestamps, as text, so that numbers compare exactly.
HISTORY = """
    select (to_jsonb(h) - array['id', 'created_at', 'updated_at', 'deleted_at', 'valid_from', 'valid_to'])::text
           || (deleted_at is null) || (valid_from < valid_to) as line
    from roi.{table}_history h
    order by {key}, softpro_updated_at
"""
COMPARED = {
    "roi.transactions_history": HISTORY.format(table="transactions", key="softpro_order_id"),
    "roi.contacts_history": HISTORY.format(table="contacts", key="softpro_contact_id"),
    "roi.transactions": """
        select (to_jsonb(t) - array['id', 'created_at', 'updated_at'])::text as line
        from roi.transactions t
        order by softpro_order_id
    """,
    "roi.contacts": """
        select (to_jsonb(t) - array['id', 'created_at', 'updated_at'])::text as line
        from roi.contacts t
        order by softpro_contact_id
    """,
    "softpro.quarantine": """
        select (to_jsonb(q) - array['id', 'integration_id', 'log_id', 'reasons', 'created_at', 'updated_at'])::text
               as line,
               (select jsonb_agg(reason order by reason)::text from jsonb_array_elements(reasons) reason) as reasons
        from softpro.quarantine q
        order by entity_type, record_key
    """,
}
LEFT_OVER = {
    "pending": "select count(*) from raw.pending",
    "staged transactions": "select count(*) from staging.transactions",
    "staged contacts": "select count(*) from staging.contacts",
    "staged rejects": "select count(*) from staging.rejects",
    "open logs": "select count(*) from softpro.sync_logs where status in ('PENDING', 'IN_PROGRESS')",
    "leases": "select count(*) from softpro.leases where log_id is not null",
}
ACCOUNTED_FOR = """
select (select count(*) from roi.transactions) + (select count(*) from roi.contacts)
     + (select count(*) from softpro.quarantine)
"""

SESSIONS_GONE = """
select not exists (
    select from pg_stat_activity
    where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid())
"""
LEASES_FREE = "select not exists (select from softpro.leases l where not softpro.is_free(l))"
WAITS_IN = """
select exists (
    select from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock' and ltrim(query, E' \n') ~ ('^' || %(statement)s))
"""
# Changes older than the lag at the start of the test are never within the lag that holds the cursor back.
CURSOR_FOLLOWED = """
select coalesce(bool_and(r.softpro_updated_at <= c.updated_from), true)
from raw.records r
join softpro.cursors c using (integration_id, entity_type)
where r.softpro_updated_at < %(began)s::timestamptz - %(lag)s
"""
# The stage is inferred from what it left. A random kill in the short load transaction counts as one in check.
DIED_IN = """
select case
    when l.id is null then 'between two runs'
    when exists (select from staging.transactions where log_id = l.id)
      or exists (select from staging.contacts where log_id = l.id) then 'check'
    when c.backlog or l.records_fetched = 0 then 'extract'
    when exists (select from raw.pending p
                 where p.integration_id = l.integration_id and p.entity_type = l.entity_type)
        then 'transform'
    else 'finish'
end
from (select) nothing
left join softpro.sync_logs l on l.status = 'IN_PROGRESS' and l.started_at > %(began)s
left join softpro.cursors c using (integration_id, entity_type)
"""


def test_a_sync_killed_repeatedly_leaves_the_same_tables(server: Server, start_sandbox: StartSandbox) -> None:
    rng = random.Random(SEED)
    vendor = Vendor(start_sandbox(transactions=80, contacts=30, slow=1, slowSeconds=0.01))
    vendor.add_bad(4)
    with server.fresh() as untouched, server.fresh() as killed:
        calm, calm_integration, _ = _connected(untouched, vendor.sandbox)
        services, integration, settings = _connected(killed, vendor.sandbox)
        first_load = vendor.requests_during(lambda: _sync_all(calm, calm_integration))

        began = one(killed, "select clock_timestamp()")
        hits: Counter[str] = Counter()
        for number, spot in enumerate(itertools.islice(itertools.cycle(PLAN), KILLS), start=1):
            stage = _kill(killed, settings, rng, SPOTS.get(spot))
            hits[stage] += 1
            print(f"seed {SEED}, kill {number} of {KILLS}, {spot}: died in {stage}")
            assert _ask(killed, CURSOR_FOLLOWED, began=began, lag=2 * LAG), (
                "the cursor is before the records landed with it"
            )
            _wait(lambda: one(killed, LEASES_FREE), "a dead run's lease to be free", LEASE_SECONDS)
            if number == 1:
                _sync_by_command(settings)
            last_run = vendor.requests_during(lambda: _sync_all(services, integration))
            _sync_all(calm, calm_integration)

            for table, query in COMPARED.items():
                assert rows(killed, query) == rows(untouched, query), table
            assert one(killed, ACCOUNTED_FOR) == vendor.size()
            assert {what: one(killed, query) for what, query in LEFT_OVER.items()} == dict.fromkeys(LEFT_OVER, 0)
            vendor.change(rng)
        print(f"seed {SEED}: {dict(hits)}; API requests: first load {first_load}, last run {last_run}")

        assert last_run < first_load
        assert min(hits[stage] for stage in MUST_BE_HIT) >= KILLS // 6


class Vendor:
    """The vendor's organization, in which records change and bad records appear."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self._organization = sandbox.organizations[0]
        self._numbers = itertools.count()

    def change(self, rng: random.Random) -> None:
        """Change a few records of each entity type, and sometimes add a bad one of each."""
        for entity_type in EntityType:
            self.sandbox.change(self._organization, entity_type.value, rng.randint(3, 6))
        self.add_bad(rng.randint(0, 1))

    def add_bad(self, count: int) -> None:
        """Add bad records of both entity types, dated now, so that they are at the end of the list."""
        for number, (entity_type, kinds) in itertools.product(itertools.islice(self._numbers, count), BAD.items()):
            moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            record = json.dumps({**kinds[number % len(kinds)], "createdAt": moment, "updatedAt": moment})
            body = record.replace("{n}", str(number)).encode()
            self.sandbox.put(self._organization, body, entity_type.value)

    def size(self) -> int:
        """Return the number of records of both entity types."""
        return sum(len(self.sandbox.export(self._organization, entity_type.value)) for entity_type in EntityType)

    def requests_during(self, act: Callable[[], None]) -> int:
        """Return how many API requests the organization's grants make during the call of `act`."""
        before = self.sandbox.requests_of(self._organization)
        act()
        return self.sandbox.requests_of(self._organization) - before


def _connected(database: Database, sandbox: Sandbox) -> tuple[Services, Integration, Dict[str, str]]:
    """Connect a product with small pages, and thus many, to the first organization."""
    settings = environment(database, sandbox, SOFTPRO_SYNC_BATCH_SIZE="4")
    services = build_services(settings, database)
    address = sandbox.consent(begin_connection(services, ORGANIZATION), sandbox.organizations[0])
    integration = finish_connection(services, address)
    with database.connect() as connection:
        repository.replace(
            connection, integration.id, ORGANIZATION, [*default_mappings(EntityType.TRANSACTION), RULED], "test"
        )
    return services, integration, settings


def _sync_all(services: Services, integration: Integration) -> None:
    for entity_type in integration.entity_types():
        log = sync(services, integration, entity_type)
        assert log.succeeded, log.error_message


def _sync_by_command(settings: Dict[str, str]) -> None:
    answer = command(settings, "sync", ORGANIZATION)
    assert answer.code == 0, answer.err


def _kill(database: Database, settings: Dict[str, str], rng: random.Random, spot: Spot | None) -> str:
    """Start a sync, kill it at the spot or at a random moment, and return the stage that died."""
    entity_type = rng.choice(list(EntityType))
    began = one(database, "select clock_timestamp()")
    while True:
        with _syncing(settings, entity_type.table if spot else "all") as process, database.connect() as watcher:
            if spot:
                _kill_at(_of(spot, entity_type), database, watcher, process, began)
            elif not _kill_within(rng.uniform(*RANDOM_SECONDS), process):
                continue  # it had ended before that
            _wait(lambda: _value(watcher, SESSIONS_GONE), "the dead process's sessions to end")
            return spot.stage if spot and spot.waits else str(_value(watcher, DIED_IN, began=began))


@contextmanager
def _syncing(settings: Dict[str, str], entity: str) -> Iterator[Process]:
    """Yield a sync process, and kill it at the end."""
    process = ForkedProcess(
        *("softpro", "sync", ORGANIZATION, "--entity", entity),
        environment=settings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def _kill_within(seconds: float, process: Process) -> bool:
    """Kill the process after that time. Return False if it had succeeded before."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        _end(process)
        return True
    assert process.returncode == 0, process.communicate()[1]
    return False


def _kill_at(spot: Spot, database: Database, watcher: Connection, process: Process, began: datetime) -> None:
    """Wait until the process is at the spot, and kill it there."""

    def reaches(query: str, **parameters: object) -> Callable[[], bool]:
        def look() -> bool:
            assert process.poll() is None, f"the sync ended before {spot}: {process.communicate()[1]}"
            return bool(_value(watcher, query, **parameters))

        return look

    _wait(reaches(spot.ready, began=began), f"{spot} to come")
    with ExitStack() as locks:
        for table, statement in spot.waits:
            with locks.pop_all():  # releases the previous lock once this one is taken
                locks.enter_context(_locked(database, table))
            _wait(reaches(WAITS_IN, statement=statement), f"the sync to wait in {spot}")
        _end(process)


@contextmanager
def _locked(database: Database, table: str) -> Iterator[None]:
    """Lock the table for writes; reads and foreign key checks stay possible."""
    with database.connect() as locker, locker.transaction():
        locker.execute(sql.SQL("lock table {} in share mode").format(sql.Identifier(*table.split("."))))
        yield


def _of(spot: Spot, entity_type: EntityType) -> Spot:
    """Fill in the names of the entity type's tables; `{quoted}` is the staging table as psycopg quotes it."""
    table = entity_type.table
    names = {"staging": f"staging.{table}", "roi": f"roi.{table}", "quoted": f'"staging"."{table}"'}
    waits = tuple((table.format(**names), statement.format(**names)) for table, statement in spot.waits)
    return Spot(spot.stage, spot.ready.format(**names), waits)


def _end(process: Process) -> None:
    process.kill()
    process.wait()


def _ask(database: Database, query: Any, **parameters: object) -> Any:
    with database.connect() as connection:
        return _value(connection, query, **parameters)


def _value(connection: Connection, query: Any, **parameters: object) -> Any:
    row = connection.execute(query, parameters).fetchone()
    assert row is not None
    (value,) = row.values()
    return value


def _wait(until: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.01)
