"""The plugin's HTTP API as the demo uses it: what a frontend would call."""

from __future__ import annotations

import time
from typing import Any

import requests

from softpro_demo import consent

API = "/api/v1/integrations/softpro"


class Failed(Exception):
    """The plugin answered an error; the message is its own."""


class Plugin:
    """One signed-in user. The session keeps the cookie that binds connect and callback."""

    def __init__(self, airflow_url: str, token: str) -> None:
        self.airflow_url = airflow_url
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {token}"

    def connect(self, organization_id: str) -> dict[str, Any]:
        """The whole OAuth flow: connect, the sandbox's consent page, callback. Returns the integration's status."""
        begun = self._call("POST", "/connect", json={"organizationId": organization_id})
        back = consent.give(begun["data"]["authorizationUrl"])
        self.session.get(back, allow_redirects=False, timeout=60).raise_for_status()
        status: dict[str, Any] = self.status(organization_id)
        if status["status"] != "CONNECTED":
            raise Failed(f"{organization_id} is {status['status']}: {status['lastErrorMessage']}")
        return status

    def status(self, organization_id: str) -> dict[str, Any]:
        answer = self._call("GET", "/status", params={"organizationId": organization_id})
        data: dict[str, Any] = answer["data"]
        return data

    def sync(self, integration_id: str, table: str) -> str:
        """Starts a sync and returns its log's id; where one runs already, the id of that one's."""
        answer = self.session.post(
            f"{self.airflow_url}{API}/sync/{table}",
            params={"wait": 0},
            json={"integrationId": integration_id},
            timeout=60,
        )
        body = answer.json()
        if answer.status_code == 409 and body["error"]["code"] == "SYNC_RUNNING":
            return str(body["error"]["details"]["logId"])
        if not answer.ok:
            raise Failed(body["error"]["message"])
        return str(body["data"]["logId"])

    def log(self, integration_id: str, log_id: str) -> dict[str, Any]:
        """A sync log as it stands. Raises Failed when it is not among the newest."""
        logs = self._call("GET", "/sync/logs", params={"integrationId": integration_id, "limit": 200})["data"]
        for log in logs:
            if log["id"] == log_id:
                found: dict[str, Any] = log
                return found
        raise Failed(f"the sync log {log_id} is not there")

    def _call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        answer = self.session.request(method, f"{self.airflow_url}{API}{path}", timeout=60, **options)
        body: dict[str, Any] = answer.json()
        if not answer.ok:
            raise Failed(body["error"]["message"])
        return body


def wait(read: Any, seconds: float, show: Any) -> dict[str, Any]:
    """Reads a log until it is finished, showing it each time. Raises Failed after so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        log: dict[str, Any] = read()
        show(log)
        if log["status"] not in ("PENDING", "IN_PROGRESS"):
            return log
        time.sleep(0.5)
    raise Failed(f"the sync did not end within {seconds:.0f} s")
