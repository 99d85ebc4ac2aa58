"""Check the rights under FAB's auth manager: an API server alone, with a user of each of FAB's roles."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from softpro.db import embedded, migrations
from softpro.db.database import Database
from softpro_demo.api_client import API
from softpro_demo.stack import ROOT, free_port

from ..support.databases import lasting_directory

OVERLAY = ROOT / ".venv-fab"
PASSWORD = "a password of the tests"
RIGHTS = {
    "Viewer": {"read"},
    "User": {"read", "operate"},
    "Op": {"read", "operate", "configure"},
    "Admin": {"read", "operate", "configure"},
    "Public": set[str](),
}
ROUTES = {
    "read": ("GET", "/health/detail", 200),
    "operate": ("POST", "/sync/contacts", 400),  # allowed, but the body is empty
    "configure": ("PUT", "/access", 400),
}
MAKE_USERS = f"""
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
with get_application_builder() as builder:
    security = builder.sm
    security.sync_roles()
    for role in {list(RIGHTS)!r}:
        name = role.lower()
        assert security.add_user(name, name, name, name + "@example.com", security.find_role(role), {PASSWORD!r})
"""
START_SECONDS = 120


class Server:
    """Airflow's API server with FAB."""

    def __init__(self, home: Path, database: Database, airflow: Database) -> None:
        self.database = database
        self.url = f"http://127.0.0.1:{free_port(8081)}"
        address = airflow.engine().url
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "SOFTPRO_"))},
            "PYTHONPATH": f"{OVERLAY}:{ROOT / 'include'}",
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__AUTH_MANAGER": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
            "AIRFLOW__CORE__DAGS_FOLDER": str(home),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": (
                f"postgresql+psycopg2://{address.username}@/{address.database}?host={address.query['host']}"
            ),
            "AIRFLOW__DATABASE__EXTERNAL_DB_MANAGERS": "airflow.providers.fab.auth_manager.models.db.FABDBManager",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(urlsplit(self.url).port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__SECRET_KEY": "a secret key of the tests that is long enough for all of them",
            "AIRFLOW__API_AUTH__JWT_SECRET": "a jwt secret of the tests that is long enough for all of them, really",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "SOFTPRO_DATABASE_URL": database.conninfo,
            "INTEGRATION_ENCRYPTION_KEY": "an encryption key, 32 characters",
        }

    def run(self, *arguments: str) -> None:
        ended = subprocess.run(
            [sys.executable, *arguments], env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert ended.returncode == 0, ended.stderr[-3_000:]

    def token(self, role: str) -> str:
        answer = requests.post(
            f"{self.url}/auth/token", json={"username": role.lower(), "password": PASSWORD}, timeout=30
        )
        answer.raise_for_status()
        return str(answer.json()["access_token"])


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    assert OVERLAY.is_dir(), "`make fab` installs what this needs"
    home = lasting_directory()
    database = embedded.start(home / "data")
    started = Server(home, database, embedded.start(home / "data", database="airflow"))
    migrations.migrate(database)
    started.run("-m", "airflow", "db", "migrate")
    started.run("-c", MAKE_USERS)
    with (home / "api-server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "airflow", "api-server"],
            env=started.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert process.poll() is None, (home / "api-server.log").read_text()[-3_000:]
            assert time.monotonic() < deadline, "the API server does not answer"
            with suppress(requests.ConnectionError):
                if requests.get(f"{started.url}{API}/health", timeout=5).ok:
                    break
            time.sleep(0.25)
        yield started
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("role", RIGHTS)
def test_each_role_has_the_rights_that_the_documentation_says(server: Server, role: str) -> None:
    token, own = server.token(role), {"Sec-Fetch-Site": "same-origin", "X-Requested-With": "x"}
    for right, (method, path, let_in) in ROUTES.items():
        expected = let_in if right in RIGHTS[role] else 403

        def status(method: str = method, path: str = path, **how: dict[str, str]) -> int:
            return requests.request(method, f"{server.url}{API}{path}", json={}, timeout=30, **how).status_code  # type: ignore[arg-type]

        assert status(headers={"Authorization": f"Bearer {token}"}) == expected, right
        assert status(cookies={"_token": token}, headers=own) == expected, right
        assert status() == 401
        if method != "GET":
            assert status(cookies={"_token": token}) == 403, "a change by cookie without proof"


def test_a_role_of_fab_is_confined_like_a_team(server: Server) -> None:
    def headers(role: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {server.token(role)}"}

    def connect(role: str, organization: str) -> int:
        body = {"organizationId": organization, "clientId": "a client", "clientSecret": "a secret"}
        return requests.post(f"{server.url}{API}/connect", json=body, headers=headers(role), timeout=30).status_code

    confined = {"kind": "TEAM", "subject": "Op", "organizations": ["theirs"]}
    answer = requests.put(f"{server.url}{API}/access", json=confined, headers=headers("Admin"), timeout=30)
    assert answer.status_code == 200, answer.text

    assert (connect("Op", "theirs"), connect("Op", "other")) == (200, 404)
    assert connect("Admin", "other") == 200
