"""Measure what other organizations and Airflow's own routes notice while one user does his worst.

A cycle is the time from the start of a run of `softpro_sync` to the end of the last stream of all organizations but the
hostile one. Cycles with and without an attack alternate, so that a busy machine slows both.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any

import requests

from softpro_demo.api_client import API, ApiClient
from softpro_demo.stack import Size, Stack

from ..support.databases import execute, lasting_directory, one
from .jobs.attack import RULE
from .measurement import ROOT, say
from .targets import Target

ORGANIZATIONS, CHANGES, PAIRS = 9, 50, 5
USERS = {"admin": "admin", "user": "user", "viewer": "viewer"}
HOSTILE = "hostile"
HOSTILE_RULES = 4
BEFORE_SECONDS, ATTACK_SECONDS, CYCLE_SECONDS = 5.0, 45.0, 180.0
LOOK_SECONDS = 0.1

SELECT_OTHERS_END = """
select extract(epoch from max(completed_at))::float8 as ended
from softpro.sync_logs
where run_id = %s and organization_id <> %s
having bool_and(completed_at is not null) and count(*) = %s
"""


@dataclass
class Cycles:
    """The seconds of each cycle, those of each response of `/monitor/health`, and the attackers' responses."""

    seconds: list[float] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    responses: dict[str, Counter[str]] = field(default_factory=dict)

    @property
    def health_p95(self) -> float:
        return statistics.quantiles(self.health, n=20, method="inclusive")[-1]


@dataclass(frozen=True)
class Hostility:
    """The cycles without and with an attack, in pairs."""

    calm: Cycles
    attacked: Cycles

    @property
    def ratio(self) -> float:
        """Return the median of the ratios of each pair."""
        pairs = zip(self.attacked.seconds, self.calm.seconds, strict=True)
        return statistics.median(attacked / calm for attacked, calm in pairs)


def measure_hostility() -> Hostility:
    """Run pairs of cycles on a stack of its own."""
    stack = Stack(lasting_directory(), Size(300, 100, ORGANIZATIONS), lambda what: say(f"starting {what}"), users=USERS)
    try:
        stack.start()
        integration_id = _connect(stack)
        found = Hostility(Cycles(), Cycles())
        for number in range(-1, PAIRS):  # the first pair warms up
            for cycles, attacked in ((found.calm, False), (found.attacked, True)):
                say(f"cycle {number + 1}{', attacked' if attacked else ''}")
                _cycle(stack, integration_id, cycles if number >= 0 else Cycles(), attacked=attacked)
        return found
    finally:
        stack.stop()


def _connect(stack: Stack) -> str:
    """Connect and load all organizations, and return the id of the hostile one's integration."""
    api = ApiClient(stack.airflow_url, stack.token())
    vendors = stack.sandbox["organizationIds"]
    names = [HOSTILE, *(f"org-{number}" for number in range(1, ORGANIZATIONS))]
    ids = [api.connect(name, organization=vendor)["id"] for name, vendor in zip(names, vendors, strict=True)]
    execute(stack.database, "update softpro.integrations set sync_enabled = false")  # the cycles start all runs
    while one(stack.database, "select count(*) from softpro.sync_logs where completed_at is null"):
        time.sleep(1)
    run_id, _ = _start(stack)
    _wait(stack, run_id)
    return str(ids[0])


def _cycle(stack: Stack, integration_id: str, cycles: Cycles, *, attacked: bool) -> None:
    _set_rules(stack, integration_id, hostile=attacked)
    for vendor in stack.sandbox["organizationIds"]:
        for entity_type in ("TRANSACTION", "CONTACT"):
            body = {"organizationId": vendor, "entityType": entity_type, "count": CHANGES}
            requests.post(f"{stack.sandbox['url']}/sandbox/changes", json=body, timeout=60).raise_for_status()
    attack = _attack(stack, integration_id) if attacked else None
    time.sleep(BEFORE_SECONDS)
    with _sampling(stack, cycles.health):
        run_id, began = _start(stack)
        cycles.seconds.append(_wait(stack, run_id) - began)
    if attack is not None:
        printed, _ = attack.communicate()
        for name, counts in json.loads(printed).items():
            cycles.responses.setdefault(name, Counter()).update(counts)
    path = f"/dags/softpro_sync/dagRuns/{run_id}"
    while _airflow(stack, "GET", path)["state"] in ("queued", "running"):
        time.sleep(1)


def _set_rules(stack: Stack, integration_id: str, *, hostile: bool) -> None:
    """Give the hostile organization's transactions rules that never end in time, or remove them."""
    rule = {"entityType": "TRANSACTION", "softproField": "orderId", "direction": "SOFTPRO_TO_ROI"}
    mappings = [
        rule | {"roiSystemsField": f"custom.r{number}", "transformationRule": f"{RULE} + {number}" if hostile else "$"}
        for number in range(HOSTILE_RULES)
    ]
    body = {"integrationId": integration_id, "mappings": mappings}
    session = ApiClient(stack.airflow_url, stack.token()).session
    session.put(f"{stack.airflow_url}{API}/mappings", json=body, timeout=60).raise_for_status()


def _attack(stack: Stack, integration_id: str) -> subprocess.Popen[str]:
    job = {
        "url": stack.airflow_url + API,
        "integration_id": integration_id,
        "user": stack.token("user"),
        "viewer": stack.token("viewer"),
        "seconds": ATTACK_SECONDS,
    }
    command = [sys.executable, "-m", f"{__package__}.jobs.attack"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    process.stdin.write(json.dumps(job))
    process.stdin.close()
    process.stdin = None  # so that communicate does not flush it
    return process


@contextmanager
def _sampling(stack: Stack, seconds: list[float]) -> Iterator[None]:
    """Measure the response time of Airflow's health route repeatedly during the block."""
    ended = Event()

    def sample() -> None:
        with requests.Session() as session:
            while not ended.wait(LOOK_SECONDS):
                began = time.perf_counter()
                session.get(f"{stack.airflow_url}/api/v2/monitor/health", timeout=60).raise_for_status()
                seconds.append(time.perf_counter() - began)

    thread = Thread(target=sample)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _start(stack: Stack) -> tuple[str, float]:
    """Start a sync of all organizations, and return its run id and the time."""
    began = time.time()
    run = _airflow(stack, "POST", "/dags/softpro_sync/dagRuns", json={"logical_date": None, "conf": {}})
    return str(run["dag_run_id"]), began


def _wait(stack: Stack, run_id: str) -> float:
    """Wait until all streams of the run have ended but the hostile organization's, and return when the last ended.

    Raises:
        SystemExit: They did not end in time.
    """
    deadline = time.monotonic() + CYCLE_SECONDS
    streams = 2 * (ORGANIZATIONS - 1)
    while time.monotonic() < deadline:
        with stack.database.connect() as connection:
            found = connection.execute(SELECT_OTHERS_END, [run_id, HOSTILE, streams]).fetchone()
        if found is not None:
            return float(found["ended"])
        time.sleep(LOOK_SECONDS)
    raise SystemExit(f"The streams of {run_id} did not end within {CYCLE_SECONDS:.0f} s")


def _airflow(stack: Stack, method: str, path: str, **options: Any) -> Any:
    """Call Airflow's own API as the admin."""
    headers = {"Authorization": f"Bearer {stack.token()}"}
    answer = requests.request(method, f"{stack.airflow_url}/api/v2{path}", headers=headers, timeout=60, **options)
    answer.raise_for_status()
    return answer.json()


def lines(found: Hostility) -> Iterator[str]:
    """Yield the cycles, the response times of the health route, and the attackers' responses."""
    yield f"Other organizations and Airflow while one user attacks: {PAIRS} pairs of cycles, seconds"
    for name, each in (("calm", found.calm), ("attacked", found.attacked)):
        cycles = "  ".join(f"{seconds:.1f}" for seconds in each.seconds)
        yield f"  {name:10} cycles {cycles}; health p50 {statistics.median(each.health):.3f}, p95 {each.health_p95:.3f}"
    for name, counts in found.attacked.responses.items():
        by_status = ", ".join(f"{count} x {status}" for status, count in sorted(counts.items()))
        yield f"  {name:16} {by_status}"


def targets(found: Hostility) -> Iterator[Target]:
    """Yield the targets for the health route and for other organizations' cycles."""
    yield Target("attacked: /api/v2/monitor/health, p95", found.attacked.health_p95, 1, "s")
    yield Target("attacked: other organizations' cycle over a calm one", found.ratio, 1.1)
