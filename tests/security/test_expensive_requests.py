"""Let no request wait for a lock or a long statement, and let no GET write."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

import psutil
import psycopg
import pytest
import requests

from softpro.db import locks
from softpro.db.locks import Lock

from ..support.databases import execute, one
from .conftest import Web, error_of

SLOW_RULE = '$length($pad("",100000000))'
BACK_REFERENCES = r"^(.*)(.*)(.*)(.*)\1\2\3\4$"
END_SESSIONS = """
select pg_terminate_backend(pid) from pg_stat_activity
where application_name = 'softpro' and pid <> pg_backend_pid()
"""
RECORD = {"contactId": "con-1", "notes": "a" * 121, "updatedAt": "2025-01-01T00:00:00.000Z"}


@pytest.fixture(scope="module")
def integration_id(web: Web) -> str:
    return web.connected("acme")


def mapping(**more: object) -> dict[str, object]:
    return {"entityType": "CONTACT", "softproField": "notes", "roiSystemsField": "notes"} | more


def previewed(web: Web, integration_id: str, *mappings: dict[str, object], timeout: float = 60) -> requests.Response:
    body = {"integrationId": integration_id, "entityType": "CONTACT", "mappings": mappings, "record": RECORD}
    return web.as_user("syncer").post(f"{web.url}/mappings/preview", json=body, timeout=timeout)


def rule_processes(web: Web) -> list[psutil.Process]:
    """Return the processes that evaluate rules. One that has just ended is none of them."""
    found = []
    for each in psutil.Process(web.api.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # also of a zombie
            if "softpro.mapping.rules.process" in " ".join(each.cmdline()):
                found.append(each)
    return found


@contextmanager
def held(web: Web, statement: str, *parameters: object) -> Iterator[None]:
    """Hold the locks of a statement in another session."""
    with psycopg.connect(web.database.conninfo) as other:
        other.execute(statement, parameters)
        yield
        other.rollback()


def test_a_preview_with_back_references_is_refused_at_once(web: Web, integration_id: str) -> None:
    def attack(_: int) -> tuple[int, str]:
        pattern = mapping(validationRules={"pattern": BACK_REFERENCES})
        return error_of(previewed(web, integration_id, pattern))

    with ThreadPoolExecutor(42) as attackers:
        refused = attackers.map(attack, range(42))
        slowest = max(web.api.airflow_responds_within() for _ in range(10))
        assert set(refused) <= {(400, "VALIDATION_ERROR"), (503, "BUSY")}
    assert slowest < 1


def test_a_second_preview_of_a_stream_does_not_wait(web: Web, integration_id: str) -> None:
    key = locks.key(Lock.PREVIEW, f"{integration_id} CONTACT")
    begun = time.monotonic()

    with held(web, "select pg_advisory_xact_lock(%s)", key):
        refused = previewed(web, integration_id, mapping())

    assert error_of(refused) == (409, "PREVIEW_RUNNING")
    assert time.monotonic() - begun < 5
    assert previewed(web, integration_id, mapping()).status_code == 200


def test_a_preview_ends_with_its_request_and_others_are_refused_meanwhile(web: Web, integration_id: str) -> None:
    slow = [mapping(roiSystemsField=f"custom.slow{n}", transformationRule=f"{SLOW_RULE} + {n}") for n in range(80)]
    slow = [each | {"direction": "SOFTPRO_TO_ROI"} for each in slow]

    def leave(_: int) -> tuple[int, str]:
        with suppress(requests.ReadTimeout):
            return error_of(previewed(web, integration_id, *slow, timeout=1))
        return 0, "left"

    with ThreadPoolExecutor(20) as attackers:
        refused = list(attackers.map(leave, range(20)))
        assert set(refused) <= {(503, "BUSY"), (409, "PREVIEW_RUNNING"), (0, "left")}
        assert refused.count((503, "BUSY")) >= 15
    assert web.api.airflow_responds_within() < 1
    deadline = time.monotonic() + 5
    while rule_processes(web):
        assert time.monotonic() < deadline, "a rule is evaluated for nobody"
        time.sleep(0.1)
    while (again := previewed(web, integration_id, mapping())).status_code != 200:
        assert time.monotonic() < deadline + 5, again.text


def test_a_request_that_needs_a_held_row_is_refused_within_seconds(web: Web, integration_id: str) -> None:
    lock = "select from softpro.integrations where id = %s for update"
    begun = time.monotonic()

    with held(web, lock, integration_id):
        refused = web.as_user().put(
            f"{web.url}/mappings", json={"integrationId": integration_id, "mappings": [mapping()]}, timeout=60
        )

    assert error_of(refused) == (503, "BUSY")
    assert int(refused.headers["Retry-After"]) > 0
    assert time.monotonic() - begun < 5


def test_previews_count_as_calls(web: Web, integration_id: str) -> None:
    before = one(web.database, "select count(*) from softpro.sync_calls where user_name = 'syncer'")
    previewed(web, integration_id, mapping())
    assert one(web.database, "select count(*) from softpro.sync_calls where user_name = 'syncer'") == before + 1


def test_coverage_is_refreshed_by_post_alone(web: Web, integration_id: str) -> None:
    path, reader = f"{web.url}/mappings/coverage", web.as_user("reader")
    body = {"integrationId": integration_id, "entityType": "CONTACT"}

    read = reader.get(path, params={"integrationId": integration_id, "refresh": "true"}, timeout=30)
    assert [each["refreshedAt"] for each in read.json()["data"]] == [None, None]
    assert error_of(reader.post(f"{path}/refresh", json=body, timeout=30)) == (403, "FORBIDDEN")

    refreshed = web.as_user("syncer").post(f"{path}/refresh", json=body, timeout=30)
    assert refreshed.json()["data"][0]["refreshedAt"] is not None
    assert reader.get(path, params=body, timeout=30).json() == refreshed.json()


def test_no_get_writes_but_the_callback(web: Web, integration_id: str) -> None:
    """Call every GET route while the database accepts no writes."""
    described: dict[str, Any] = web.as_user().get(f"{web.url}/openapi.json", timeout=30).json()["paths"]
    name = one(web.database, "select current_database()")
    query: dict[str, str | int] = {
        "integrationId": integration_id,
        "organizationId": "acme",
        "entityType": "CONTACT",
        "from": 1,
    }
    writable = web.database.set(default_transaction_read_only="off")
    execute(writable, f'alter database "{name}" set default_transaction_read_only = on')
    execute(writable, END_SESSIONS)
    found = {}
    try:
        for path, operations in described.items():
            if "get" not in operations or path in ("/callback", "/connect/{token}"):
                continue
            filled = path.replace("{integration_id}", integration_id).replace("{version}", "1")
            for parameter in ("case_id", "log_id", "event_id", "conflict_id"):
                filled = filled.replace(f"{{{parameter}}}", str(uuid4()))
            response = web.as_user().get(web.url + filled, params=query, timeout=30)
            found[path] = response.status_code
        written = web.as_user().patch(f"{web.url}/settings/{integration_id}", json={"syncFrequency": 900}, timeout=30)
    finally:
        execute(writable, f'alter database "{name}" reset all')
        execute(writable, END_SESSIONS)
    assert len(found) > 15
    assert set(found.values()) <= {200, 404}, found
    assert written.status_code >= 500


def test_open_waits_of_a_user_are_capped(web: Web, integration_id: str) -> None:
    """Each wait has a stream or a record of its own; the runs of this server never begin."""

    def wait(number: int) -> tuple[int, float]:
        begun = time.monotonic()
        body = {"integrationId": integration_id}
        response = web.as_user("syncer").post(
            f"{web.url}/sync/contacts/con-{number}", params={"wait": 4}, json=body, timeout=60
        )
        return response.status_code, time.monotonic() - begun

    with ThreadPoolExecutor(90) as clients:
        waits = list(clients.map(wait, range(90)))

    assert {status for status, _ in waits} == {202}
    assert sum(seconds >= 4 for _, seconds in waits) <= 20  # ten at once, in two rounds at most
    assert sum(seconds >= 4 for _, seconds in waits) >= 10


def test_a_wait_ends_when_its_client_leaves(web: Web, integration_id: str) -> None:
    def wait(number: int, seconds: int, timeout: float) -> float:
        begun = time.monotonic()
        with suppress(requests.ReadTimeout):
            web.as_user("operator").post(
                f"{web.url}/sync/contacts/left-{number}",
                params={"wait": seconds},
                json={"integrationId": integration_id},
                timeout=timeout,
            )
        return time.monotonic() - begun

    with ThreadPoolExecutor(10) as clients:
        list(clients.map(wait, range(10), [60] * 10, [2] * 10))
    time.sleep(1)

    assert wait(11, 2, 30) >= 2  # a place is free again


def test_a_failed_run_says_why_and_names_its_log(web: Web, integration_id: str) -> None:
    body = {"integrationId": integration_id}
    with ThreadPoolExecutor(1) as client:
        running = client.submit(
            web.as_user("operator").post, f"{web.url}/sync/transactions", params={"wait": 20}, json=body, timeout=60
        )
        announced = "select id from softpro.sync_logs where entity_type = 'TRANSACTION' and status = 'PENDING'"
        deadline = time.monotonic() + 10
        while not one(web.database, f"select exists ({announced})"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        log_id = one(web.database, announced)
        failed = "update softpro.sync_logs set status = 'FAILED', error_message = 'no grant', completed_at = now()"
        execute(web.database, f"{failed} where id = %s", log_id)
        result = running.result().json()["data"]

    assert (result["success"], result["error"], result["logId"]) == (False, "no grant", str(log_id))
