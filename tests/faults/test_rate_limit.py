"""Share the vendor's limit between processes for minutes: it is never passed and nearly all used (promise 6).

The sandbox has the contract's limit, and each request takes a random time up to half a second to arrive. The vendor
counts it then, and no process can know when that was.

SOFTPRO_TEST_RATE_SECONDS is the duration: 20, in which the first window fills up, or whole minutes.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from dataclasses import dataclass

from softpro.db.database import Database

from ..support.fixture_types import StartSandbox
from ..support.product import begin_connection, build_services, environment, finish_connection, paused_process

SECONDS = int(os.environ.get("SOFTPRO_TEST_RATE_SECONDS", "20"))
PROCESSES = 8 if SECONDS >= 60 else 3
LIMIT, RESERVE, WINDOW = 100, 10, 60
PRIORITY_DELAY, PRIORITY_CALLS = 10, 10

ASK = """
import json, logging, time
from uuid import UUID
from softpro.services import services
from softpro.settings import DatabaseSettings
from softpro.db import integrations
from softpro.db.database import open_database

waits = []

class Waits(logging.Handler):
    def emit(self, record):
        if record.getMessage() == "vendor_call":
            waits.append(record.waited_ms)

logging.getLogger("softpro").addHandler(Waits())
logging.getLogger("softpro").setLevel("INFO")
end = time.monotonic() + {seconds}
found = services(open_database(DatabaseSettings()))
with found.database.connect() as connection:
    integration = integrations.get(connection, UUID("{id}"))
with found.client(integration, bulk={bulk}) as client:
    {loop}
print(json.dumps(waits))
"""

WITHOUT_END = """
    client.deadline = end
    try:
        while time.monotonic() < end:
            client.profile()
    except Exception as failed:
        if type(failed).__name__ != "BudgetExhausted":
            raise
"""

TEN_A_MINUTE = """
    start, calls = time.monotonic() + {delay}, {calls} - 1  # connecting asked once, moments ago
    while start < end - 5:
        time.sleep(max(0, start - time.monotonic()))
        for _ in range(calls):
            client.profile()
        start, calls = start + {window}, {calls}
"""


@dataclass(frozen=True)
class Case:
    """The reserve and the callers: bulk processes, others, and one that sends ten requests a minute."""

    reserve: int
    bulk: int
    others: int
    priority: int
    least_a_minute: int
    most_a_minute: int


CASES = {
    "no reserve": Case(0, 0, PROCESSES, 0, 97, LIMIT),
    "bulk alone": Case(RESERVE, PROCESSES, 0, 0, 87, LIMIT - RESERVE),
    "bulk and priority": Case(RESERVE, PROCESSES, 0, 1, 97, LIMIT),
}


def test_the_limit_is_kept_and_used_and_the_reserve_serves_the_others(
    start_sandbox: StartSandbox, database: Database
) -> None:
    sandbox = start_sandbox(organizations=3, rateLimit=LIMIT, transitSeconds=0.5)
    begun = []
    for (name, case), organization in zip(CASES.items(), sandbox.organizations, strict=True):
        settings = environment(
            database, sandbox, SOFTPRO_RATE_LIMIT_PER_MIN=str(LIMIT), SOFTPRO_RATE_LIMIT_RESERVE=str(case.reserve)
        )
        services = build_services(settings, database)
        address = sandbox.consent(begin_connection(services, name.replace(" ", "-")), organization)
        integration = finish_connection(services, address)
        loops = [(WITHOUT_END, True)] * case.bulk + [(WITHOUT_END, False)] * case.others
        loops += [
            (TEN_A_MINUTE.format(delay=PRIORITY_DELAY, calls=PRIORITY_CALLS, window=WINDOW), False)
        ] * case.priority
        begun += [
            (
                name,
                bulk,
                paused_process(settings, ASK.format(seconds=SECONDS, id=integration.id, bulk=bulk, loop=loop.strip())),
            )
            for loop, bulk in loops
        ]
    started = time.time()
    for _, _, process in begun:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    waits: dict[str, list[int]] = {name: [] for name in CASES}
    for name, bulk, process in begun:
        said, complained = process.communicate(timeout=SECONDS + 60)
        assert process.returncode == 0, complained
        if not bulk:
            waits[name] += json.loads(said)

    assert sandbox.stats()["rateLimited"] == 0
    calls = sandbox.calls(since=started)
    for (name, case), organization in zip(CASES.items(), sandbox.organizations, strict=True):
        minutes = by_minute([call["at"] for call in calls if call["organizationId"] == organization])
        print(f"{name}: requests in each minute {minutes}")
        assert all(case.least_a_minute <= count <= case.most_a_minute for count in minutes), (name, minutes)
    in_time = waits["bulk and priority"]
    print(f"waits of the priority: at most {max(in_time)} ms of {len(in_time)} calls")
    assert len(in_time) == PRIORITY_CALLS * max(1, SECONDS // WINDOW) - 1
    assert max(in_time) < 5000


def by_minute(moments: list[float]) -> list[int]:
    """Return the count of each full minute since the first moment; a shorter test counts as one minute."""
    counts = Counter(int((moment - moments[0]) // WINDOW) for moment in moments)
    return [counts[minute] for minute in range(max(1, SECONDS // WINDOW))]
