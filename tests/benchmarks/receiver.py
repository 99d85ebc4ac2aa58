"""Measure the response time of the webhook receiver against an empty route of the same server, in the same run."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import uuid4

from softpro_demo.api_client import API

from ..support.databases import one
from .airflow_stack import Running
from .measurement import ROOT, say
from .targets import Target

RATE, SECONDS, WARM_UP_SECONDS = 200, 30, 3
SETTLED_SECONDS = 120
ROUNDS = 30  # short, because what Airflow does once a minute slows both routes


@dataclass(frozen=True)
class Answers:
    """The milliseconds of each response, in order, and the count of each status."""

    milliseconds: list[float]
    statuses: dict[int, int]

    def percentile(self, percent: int) -> float:
        return statistics.quantiles(self.milliseconds, n=100, method="inclusive")[percent - 1]


@dataclass(frozen=True)
class Receiver:
    """Both routes at the same rate, in turn.

    They are measured once with the DAG at work on the events, on the same cores. The second time the DAG is paused, so
    that only the receiver itself differs from the empty route.
    """

    empty: Answers
    receiver: Answers
    empty_at_work: Answers
    receiver_at_work: Answers


def measure_receiver(running: Running) -> Receiver:
    """Deliver events of existing records from a separate process.

    Raises:
        SystemExit: An event was lost.
    """
    at_work = _deliver(running, "softpro_webhooks works on them")
    _until_settled(running)
    running.pause("softpro_webhooks")
    alone = _deliver(running, "softpro_webhooks is paused")
    return Receiver(alone["empty"], alone["receiver"], at_work["empty"], at_work["receiver"])


def _deliver(running: Running, how: str) -> dict[str, Answers]:
    run, address = uuid4().hex, urlsplit(running.stack.airflow_url)
    say(f"{RATE} deliveries a second for {SECONDS} s, in turn with an empty route; {how}")
    job = {
        "host": address.hostname,
        "port": address.port,
        "empty": f"{API}/health",
        "receiver": f"{API}/webhooks/{running.integration_id}",
        "secret": running.stack.webhook_secret,
        "organization": running.vendor_organization,
        "records": running.records(),
        "run": run,
        "rate": RATE,
        "seconds": SECONDS,
        "rounds": ROUNDS,
        "warm_up": WARM_UP_SECONDS,
    }
    command = [sys.executable, "-m", f"{__package__}.jobs.deliver"]
    ended = subprocess.run(command, cwd=ROOT, input=json.dumps(job), stdout=subprocess.PIPE, text=True, check=True)
    answers = {
        name: Answers([1_000 * seconds for seconds, _ in found], Counter(status for _, status in found))
        for name, found in json.loads(ended.stdout).items()
    }
    sent = RATE * (SECONDS + WARM_UP_SECONDS)
    query = "select count(*) from softpro.webhook_events where event_id like %s"
    stored = one(running.stack.database, query, f"evt_{run}_%")
    if answers["receiver"].statuses != {202: RATE * SECONDS} or stored != sent:
        raise SystemExit(f"{stored} of {sent} events were stored; the responses were {answers['receiver'].statuses}")
    return answers


def _until_settled(running: Running) -> None:
    """Wait until no event is pending, within a limit: a rest only slows what is measured next."""
    query = "select count(*) from softpro.webhook_events where status = 'PENDING'"
    deadline = time.monotonic() + SETTLED_SECONDS
    while one(running.stack.database, query) and time.monotonic() < deadline:
        time.sleep(1)


def lines(found: Receiver) -> Iterator[str]:
    """Yield the percentiles of all four series."""
    yield f"Receiver of webhooks: {RATE} a second for {SECONDS} s, milliseconds"
    yield f"  {'':34}{'p50':>8}{'p95':>8}{'p99':>8}{'most':>8}"
    for name, each in (
        ("empty route, DAG paused", found.empty),
        ("receiver, DAG paused", found.receiver),
        ("empty route, DAG at work", found.empty_at_work),
        ("receiver, DAG at work", found.receiver_at_work),
    ):
        figures = [each.percentile(50), each.percentile(95), each.percentile(99), max(each.milliseconds)]
        yield f"  {name:34}" + "".join(f"{figure:>8.1f}" for figure in figures)


def targets(found: Receiver) -> Iterator[Target]:
    """Yield the targets for the p99 and its ratio to the empty route's; the DAG is paused for both."""
    p99 = found.receiver.percentile(99)
    yield Target("receiver, p99 over that of an empty route, DAG paused", p99 / found.empty.percentile(99), 3)
    yield Target("receiver, p99 at 200 deliveries a second, DAG paused", p99, 50, "ms")
