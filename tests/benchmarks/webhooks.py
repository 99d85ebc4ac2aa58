"""Measure how long a change at SoftPro takes into `roi` by webhook, with Airflow running as in `make demo`."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event, Thread

import requests

from softpro.db.database import Database

from ..support.databases import one, rows
from .airflow_stack import Running
from .measurement import say
from .targets import Target

CALM_EVERY, CALM_SECONDS = 10.0, 300.0
BUSY_PER_SECOND, BUSY_SECONDS = 20, 120
LOOK_SECONDS = 0.1
PATIENCE_SECONDS = 120.0

# Recently written rows. `updated_at` is when the transaction began, and a later one may have committed first.
WRITTEN = """
select softpro_order_id, softpro_updated_at, updated_at, clock_timestamp() as now
from roi.transactions
where updated_at > %s - interval '5 s'
"""


@dataclass(frozen=True)
class Latency:
    """The seconds from each webhook's receipt to its record's row in `roi`."""

    seconds: list[float]

    @property
    def p50(self) -> float:
        return statistics.median(self.seconds)

    @property
    def p95(self) -> float:
        return statistics.quantiles(self.seconds, n=20, method="inclusive")[-1]


@dataclass(frozen=True)
class Seen:
    """The versions of each record that were seen in the table, and when each was first seen."""

    versions: dict[str, dict[datetime, datetime]] = field(default_factory=lambda: defaultdict(dict))

    def note(self, record: str, version: datetime, at: datetime) -> None:
        self.versions[record].setdefault(version, at)

    def when(self, record: str, version: datetime) -> datetime | None:
        """Return when this version, or one that replaced it, was first seen."""
        return min((at for seen, at in self.versions[record].items() if seen >= version), default=None)


@dataclass(frozen=True)
class Webhooks:
    """The latencies at a low and at a high rate of changes."""

    calm: Latency
    busy: Latency


def measure_webhooks(running: Running) -> Webhooks:
    """Change records at the sandbox and measure both rates.

    Raises:
        SystemExit: A change did not arrive.
    """
    say(f"a change every {CALM_EVERY:.0f} s for {CALM_SECONDS:.0f} s")
    calm = _measure(running, CALM_EVERY, CALM_SECONDS)
    say(f"{BUSY_PER_SECOND} changes a second for {BUSY_SECONDS} s")
    busy = _measure(running, 1 / BUSY_PER_SECOND, BUSY_SECONDS)
    return Webhooks(calm, busy)


def lines(found: Webhooks) -> Iterator[str]:
    """Yield the medians and the 95th percentiles."""
    yield "A change at SoftPro into roi by webhook, seconds"
    yield f"  {'':28}{'events':>9}{'p50':>8}{'p95':>8}{'most':>8}"
    for name, each in ((f"one every {CALM_EVERY:.0f} s", found.calm), (f"{BUSY_PER_SECOND} a second", found.busy)):
        yield f"  {name:28}{len(each.seconds):>9}{each.p50:>8.2f}{each.p95:>8.2f}{max(each.seconds):>8.2f}"


def targets(found: Webhooks) -> Iterator[Target]:
    """Yield the targets for the 95th percentiles."""
    yield Target("webhook to roi, one every 10 s, p95", found.calm.p95, 5, "s")
    yield Target("webhook to roi, 20 a second, p95", found.busy.p95, 15, "s")


def _measure(running: Running, every: float, seconds: float) -> Latency:
    """Change a record every `every` seconds while another thread watches the table."""
    database = running.stack.database
    since: datetime = one(database, "select clock_timestamp()")
    over, seen = Event(), Seen()
    watcher = Thread(target=_watch, args=(database, since, seen, over))
    watcher.start()
    began = time.monotonic()
    order = {"organizationId": running.vendor_organization, "entityType": "TRANSACTION", "count": 1}
    with requests.Session() as session:
        for number in range(int(seconds / every)):
            time.sleep(max(0.0, began + number * every - time.monotonic()))
            session.post(f"{running.stack.sandbox['url']}/sandbox/changes", json=order, timeout=30).raise_for_status()
    try:
        return _judged(database, since, seen)
    finally:
        over.set()
        watcher.join()


def _judged(database: Database, since: datetime, seen: Seen) -> Latency:
    """Return the latency of each event since then.

    Raises:
        SystemExit: An event was not seen in time.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        events = rows(
            database,
            "select entity_id, record_updated_at, received_at from softpro.webhook_events where received_at > %s",
            since,
        )
        arrived = [
            (event["received_at"], seen.when(event["entity_id"], event["record_updated_at"])) for event in events
        ]
        if events and all(at is not None for _, at in arrived):
            return Latency([(at - received).total_seconds() for received, at in arrived if at is not None])
        if time.monotonic() > deadline:
            missing = sum(at is None for _, at in arrived)
            raise SystemExit(f"{missing} of {len(events)} changes were not in roi within {PATIENCE_SECONDS:.0f} s")
        time.sleep(1)


def _watch(database: Database, since: datetime, seen: Seen, over: Event) -> None:
    """Record which versions are in the table, and since when, until the event `over` is set."""
    with database.connect() as connection:
        while not over.wait(LOOK_SECONDS):
            found = connection.execute(WRITTEN, [since]).fetchall()
            for row in found:
                seen.note(row["softpro_order_id"], row["softpro_updated_at"], row["now"])
            since = max((row["updated_at"] for row in found), default=since)
