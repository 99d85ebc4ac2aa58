"""A real Airflow with the plugin and the DAGs, a PostgreSQL and a sandbox, started once for all tests here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests

from softpro.store.database import Connection
from softpro_demo.plugin import API, Plugin
from softpro_demo.stack import Size, Stack

from ..support.databases import quick_directory

ROLES = {"admin": "admin", "operator": "op", "reader": "viewer"}


@dataclass
class Airflow:
    """The running stack, and what the tests ask of it."""

    stack: Stack
    unused: list[str] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.stack.airflow_url + API

    def as_user(self, user: str = "admin") -> Plugin:
        return Plugin(self.stack.airflow_url, self.token(user))

    def token(self, user: str = "admin") -> str:
        """Of a login that the tests share."""
        if user not in self.tokens:
            self.tokens[user] = self.stack.token(user)
        return self.tokens[user]

    def vendor_organization(self) -> str:
        """A vendor organization that no other test has."""
        return self.unused.pop()

    def export(self, vendor_organization: str, entity_type: str) -> list[dict[str, Any]]:
        """What the vendor holds."""
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

    def api(self, method: str, path: str, **options: Any) -> Any:
        """Airflow's own API, as the admin."""
        headers = {"Authorization": f"Bearer {self.token()}"}
        answer = requests.request(
            method, f"{self.stack.airflow_url}/api/v2{path}", headers=headers, timeout=30, **options
        )
        answer.raise_for_status()
        return answer.json()


@pytest.fixture(scope="session")
def airflow() -> Iterator[Airflow]:
    stack = Stack(quick_directory(), Size(transactions=120, contacts=50, organizations=32), users=ROLES)
    try:
        stack.start()
        yield Airflow(stack, list(stack.sandbox["organizationIds"]))
    finally:
        stack.stop()
