"""Start an API server on a database of its own, and define logins of the database that have few rights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from softpro.db.database import Database
from softpro_demo import consent

from ..support.api_server import ApiServer, running
from ..support.database_logins import Logins
from ..support.databases import Server
from ..support.product import environment
from ..support.sandbox import Sandbox

WEBHOOK_SECRET = "q8Zr2LmX0vKc7TbN5yHs3WdJ6fGp9UaE"
FRONTEND = "https://app.example.com"


@dataclass(frozen=True)
class Web:
    """An API server, its database and the vendor."""

    api: ApiServer
    database: Database
    sandbox: Sandbox

    @property
    def url(self) -> str:
        return self.api.url

    def as_user(self, user: str = "admin") -> requests.Session:
        return self.api.as_user(user)

    def connected(self, organization: str) -> str:
        """Connect an organization as a browser does, and return the id of its integration."""
        session = self.as_user()
        begun = session.post(f"{self.url}/connect", json={"organizationId": organization}, timeout=30)
        begun.raise_for_status()
        address = begun.json()["data"]["authorizationUrl"]
        back = consent.give(address, organization=self.sandbox.unused_organization())
        session.get(back, allow_redirects=False, timeout=60).raise_for_status()
        shown = session.get(f"{self.url}/status", params={"organizationId": organization}, timeout=30)
        return str(shown.json()["data"]["id"])


@pytest.fixture(scope="module")
def web(server: Server, sandbox: Sandbox) -> Iterator[Web]:
    """Start an API server whose frontend is on another site."""
    with server.fresh() as database:
        settings = environment(
            database,
            sandbox,
            SOFTPRO_WEBHOOK_SECRET=WEBHOOK_SECRET,
            SOFTPRO_ALLOWED_ORIGINS=FRONTEND,
            SOFTPRO_SYNC_CALLS_PER_MINUTE="1000",
        )
        with running(settings) as api:
            yield Web(api, database, sandbox)


def error_of(response: requests.Response) -> tuple[int, str]:
    """Return the status and the code of an error response."""
    body: dict[str, Any] = json.loads(response.text)
    return response.status_code, body["error"]["code"]


@pytest.fixture
def logins(database: Database) -> Iterator[Logins]:
    """Yield logins with few rights in this test's database."""
    made = Logins(database)
    made.create()
    yield made
    made.drop_rights()
