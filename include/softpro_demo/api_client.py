"""The plugin's HTTP API as the demo uses it: what a frontend would call."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import requests

from softpro_demo import consent

API = "/api/v1/integrations/softpro"


class ApiError(Exception):
    """The plugin answered an error; the message is its own."""


class ApiClient:
    """One signed-in user. The session keeps the cookie that binds connect and callback."""

    def __init__(self, airflow_url: str, token: str) -> None:
        self.airflow_url = airflow_url
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {token}"

    def connect(self, organization_id: str, **choices: str) -> dict[str, Any]:
        """The whole OAuth flow: connect, the consent page (see `consent.give`), callback. Returns the status."""
        started = self._call("POST", "/connect", json={"organizationId": organization_id})
        callback_url = consent.give(started["data"]["authorizationUrl"], **choices)
        self.session.get(callback_url, allow_redirects=False, timeout=60).raise_for_status()
        status: dict[str, Any] = self.status(organization_id)
        if status["status"] != "CONNECTED":
            raise ApiError(f"{organization_id} is {status['status']}: {status['lastErrorMessage']}")
        return status

    def status(self, organization_id: str) -> dict[str, Any]:
        response = self._call("GET", "/status", params={"organizationId": organization_id})
        data: dict[str, Any] = response["data"]
        return data

    def sync(self, integration_id: str, table: str) -> str:
        """Starts a sync and returns its log's id; where one runs already, the id of that one's."""
        path = f"{self.airflow_url}{API}/sync/{table}"
        response = self.session.post(path, params={"wait": 0}, json={"integrationId": integration_id}, timeout=60)
        body = response.json()
        if response.status_code == 409 and body["error"]["code"] == "SYNC_RUNNING":
            return str(body["error"]["details"]["logId"])
        if not response.ok:
            raise ApiError(body["error"]["message"])
        return str(body["data"]["logId"])

    def enable_webhooks(self, integration_id: str) -> str:
        """Lets the integration take webhooks. Returns the address that SoftPro is to send them to."""
        body = {"integrationId": integration_id, "webhooksEnabled": True}
        return str(self._call("PATCH", "/webhooks/config", json=body)["data"]["receiverUrl"])

    def logs(self, integration_id: str) -> list[dict[str, Any]]:
        """The newest sync logs, newest first."""
        response = self._call("GET", "/sync/logs", params={"integrationId": integration_id, "limit": 200})
        data: list[dict[str, Any]] = response["data"]
        return data

    def wait(
        self, integration_id: str, table: str, log_id: str, seconds: float, show: Callable[[dict[str, Any]], None]
    ) -> str:
        """Shows a log again and again until it is finished, and returns its id. Raises Failed when that takes longer.

        A run that found another one at work (the scheduler's) was cancelled: then it is asked for again.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            log = next((log for log in self.logs(integration_id) if log["id"] == log_id), None)
            if log is None:
                raise ApiError(f"the sync log {log_id} is not there")
            show(log)
            if log["status"] == "CANCELLED":
                log_id = self.sync(integration_id, table)
            elif log["status"] not in ("PENDING", "IN_PROGRESS"):
                return log_id
            time.sleep(0.5)
        raise ApiError(f"the sync did not end within {seconds:.0f} s")

    def totals(self, integration_id: str, entity_type: str, log_id: str, since: str) -> dict[str, Any]:
        """The counts of this run and all others since then, with the newest one's status: the scheduler may have been
        there first."""
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
