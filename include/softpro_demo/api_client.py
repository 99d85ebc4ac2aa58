"""Call the plugin's HTTP API as a frontend would."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import requests

from softpro_demo import consent

API = "/api/v1/integrations/softpro"


class ApiError(Exception):
    """An error response of the plugin, with its message."""


class ApiClient:
    """A signed-in user. The session keeps the cookie that binds connect and callback."""

    def __init__(self, airflow_url: str, token: str) -> None:
        self.airflow_url = airflow_url
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {token}"

    def connect(self, organization_id: str, **choices: str) -> dict[str, Any]:
        """Run the whole OAuth flow: connect, consent page (see `consent.give`), callback. Return the status."""
        started = self._call("POST", "/connect", json={"organizationId": organization_id})
        callback_url = consent.give(started["data"]["authorizationUrl"], **choices)
        self.session.get(callback_url, allow_redirects=False, timeout=60).raise_for_status()
        status: dict[str, Any] = self.status(organization_id)
        if status["status"] != "CONNECTED":
            raise ApiError(f"{organization_id} is {status['status']}: {status['lastErrorMessage']}")
        return status

    def status(self, organization_id: str) -> dict[str, Any]:
        """Return the connection status of an organization."""
        response = self._call("GET", "/status", params={"organizationId": organization_id})
        data: dict[str, Any] = response["data"]
        return data

    def sync(self, integration_id: str, table: str) -> str:
        """Start a sync and return the id of its log; when one is running, return the id of that one's log."""
        path = f"{self.airflow_url}{API}/sync/{table}"
        response = self.session.post(path, params={"wait": 0}, json={"integrationId": integration_id}, timeout=60)
        body = response.json()
        if response.status_code == 409 and body["error"]["code"] == "SYNC_RUNNING":
            return str(body["error"]["details"]["logId"])
        if not response.ok:
            raise ApiError(body["error"]["message"])
        return str(body["data"]["logId"])

    def enable_webhooks(self, integration_id: str) -> str:
        """Enable webhooks for the integration, and return the address to which SoftPro must send them."""
        body = {"integrationId": integration_id, "webhooksEnabled": True}
        return str(self._call("PATCH", "/webhooks/config", json=body)["data"]["receiverUrl"])

    def logs(self, integration_id: str) -> list[dict[str, Any]]:
        """Return the newest sync logs, newest first."""
        response = self._call("GET", "/sync/logs", params={"integrationId": integration_id, "limit": 200})
        data: list[dict[str, Any]] = response["data"]
        return data

    def wait(
        self, integration_id: str, table: str, log_id: str, seconds: float, show: Callable[[dict[str, Any]], None]
    ) -> str:
        """Poll a sync log until it is finished, and return its id.

        A run that found another one at work (the scheduler's) is cancelled; then start the sync again.

        Args:
            integration_id: the integration of the sync.
            table: the table in `roi` of its entity type.
            log_id: the log to wait for.
            seconds: the timeout.
            show: receives the log at every poll.

        Raises:
            ApiError: the sync does not end in time, or the log does not exist.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            log = next((log for log in self.logs(integration_id) if log["id"] == log_id), None)
            if log is None:
                raise ApiError(f"sync log {log_id} does not exist")
            show(log)
            if log["status"] == "CANCELLED":
                log_id = self.sync(integration_id, table)
            elif log["status"] not in ("PENDING", "IN_PROGRESS"):
                return log_id
            time.sleep(0.5)
        raise ApiError(f"the sync did not finish within {seconds:.0f} s")

    def totals(self, integration_id: str, entity_type: str, log_id: str, since: str) -> dict[str, Any]:
        """Add up the counts of this run and of all runs since `since`, with the status of the newest.

        The scheduler may have loaded the records in a run of its own.
        """
        of_type = [log for log in self.logs(integration_id) if log["entityType"] == entity_type]
        done = [log for log in of_type if log["startedAt"] >= since and log["status"] != "CANCELLED"]
        logs = done or [log for log in of_type if log["id"] == log_id]
        summed = ("recordsFetched", "recordsProcessed", "recordsFailed", "apiRequests", "duration")
        warnings = sum((Counter(log["warnings"]) for log in logs), Counter[str]())
        return {**logs[0], **{name: sum(log[name] or 0 for log in logs) for name in summed}, "warnings": warnings}

    def _call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        response = self.session.request(method, f"{self.airflow_url}{API}{path}", timeout=60, **options)
        body: dict[str, Any] = response.json()
        if not response.ok:
            raise ApiError(body["error"]["message"])
        return body
