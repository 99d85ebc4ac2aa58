"""Start a real Airflow with the plugin and the DAGs, a PostgreSQL and a sandbox, once for all tests here."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests

from softpro.db.database import Connection
from softpro_demo.api_client import API, ApiClient
from softpro_demo.stack import Size, Stack

from ..support.databases import memory_directory
from ..support.product import command
from ..support.routes import insert_rows

ROLES = {"admin": "admin", "operator": "op", "syncer": "user", "reader": "viewer", "stranger": "op"}
SETTINGS = {
    "SOFTPRO_SYNC_CALLS_PER_MINUTE": "1000",
    # How often the scheduler checks for questions that timed out; the default is 15 s.
    "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "1",
}


@dataclass
class Airflow:
    """The running stack, with helpers for the tests."""

    stack: Stack
    unused: list[str] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.stack.airflow_url + API

    def as_user(self, user: str = "admin") -> ApiClient:
        return ApiClient(self.stack.airflow_url, self.token(user))

    def token(self, user: str = "admin") -> str:
        """Return a token of a login that the tests share."""
        if user not in self.tokens:
            self.tokens[user] = self.stack.token(user)
        return self.tokens[user]

    def vendor_organization(self) -> str:
        """Return a vendor organization that no other test has."""
        return self.unused.pop()

    def export(self, vendor_organization: str, entity_type: str) -> list[dict[str, Any]]:
        """Return the vendor's records."""
        answer = requests.get(
            f"{self.stack.sandbox['url']}/sandbox/export",
            params={"organizationId": vendor_organization, "entityType": entity_type},
            timeout=30,
        )
        return [json.loads(line) for line in answer.text.split("\n") if line]

    def query(self, query: str, *parameters: object, database: str = "softpro") -> list[dict[str, Any]]:
        import psycopg
        from psycopg.conninfo import make_conninfo
        from psycopg.rows import dict_row

        conninfo = make_conninfo(self.stack.database.conninfo, dbname=database)
        connection: Connection
        with psycopg.connect(conninfo, autocommit=True, row_factory=dict_row) as connection:
            cursor = connection.execute(query, parameters)
            return cursor.fetchall() if cursor.description else []

    def load(self, organization: str, *arguments: str) -> None:
        """Sync the organization by the command, which is faster than a DAG run, and switch off its scheduled sync."""
        self.query("update softpro.integrations set sync_enabled = false where organization_id = %s", organization)
        settings = {**os.environ, **self.stack.environment, "SOFTPRO_DATABASE_URL": self.stack.database.conninfo}
        deadline = time.monotonic() + 120
        while (synced := command(settings, "sync", organization, *arguments)).code:  # the scheduler holds the stream
            assert "Another run" in synced.out + synced.err, synced.out + synced.err
            assert time.monotonic() < deadline, synced.out + synced.err
            time.sleep(0.5)

    def next_minute(self) -> None:
        """Let the scheduled sync start now, as if its minute had passed."""
        self.query(
            """
            update dag
            set next_dagrun = now(), next_dagrun_create_after = now(),
                next_dagrun_data_interval_start = now(), next_dagrun_data_interval_end = now()
            where dag_id = 'softpro_sync'
            """,
            database="airflow",
        )

    def api(self, method: str, path: str, **options: Any) -> Any:
        """Call Airflow's own API as the admin."""
        headers = {"Authorization": f"Bearer {self.token()}"}
        answer = requests.request(
            method, f"{self.stack.airflow_url}/api/v2{path}", headers=headers, timeout=30, **options
        )
        answer.raise_for_status()
        return answer.json()


@pytest.fixture(scope="package")  # not longer, because a waiting scheduler costs a quarter of a core
def airflow() -> Iterator[Airflow]:
    size = Size(transactions=120, contacts=50, organizations=48)
    stack = Stack(memory_directory(), size, users=ROLES, port=0)
    with pytest.MonkeyPatch.context() as patched:
        for name, value in SETTINGS.items():
            patched.setenv(name, value)
        try:
            stack.start()
            yield Airflow(stack, list(stack.sandbox["organizationIds"]))
        finally:
            stack.stop()


@pytest.fixture(scope="package")
def foreign_ids(airflow: Airflow) -> dict[str, str]:
    """Return the ids of resources in an organization that the user `stranger` may not see."""
    begin = airflow.as_user().session.post(f"{airflow.url}/connect", json={"organizationId": "their-org"})
    begin.raise_for_status()
    integration_id = airflow.as_user().status("their-org")["id"]
    # A waiting batch would be asked about in the same run as another test's, which then could not end.
    made = insert_rows(airflow.query, integration_id) | {"organization": "their-org"}
    confined = {"kind": "USER", "subject": "stranger", "organizations": ["their-own-org"]}
    airflow.as_user().session.put(f"{airflow.url}/access", json=confined, timeout=30).raise_for_status()
    return made


def users(airflow: Airflow, user: str) -> requests.Session:
    """Return a session of this user that the tests share."""
    if user not in _sessions:
        _sessions[user] = airflow.as_user(user).session
    return _sessions[user]


_sessions: dict[str, requests.Session] = {}
