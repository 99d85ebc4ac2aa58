"""Measure how fast a change at the sandbox arrives in `roi` by webhook."""

from __future__ import annotations

import time

import requests

from softpro.db.database import Database
from softpro_demo.api_client import ApiClient

TIMEOUT_SECONDS = 60.0
POLL_SECONDS = 0.05


def register(api: ApiClient, sandbox_url: str, integration_id: str, vendor_organization: str, secret: str) -> None:
    """Enable webhooks for the integration, and register its address at the sandbox.

    Raises:
        ApiError: the plugin returned an error.
        requests.HTTPError: the sandbox returned an error.
    """
    response = requests.put(
        f"{sandbox_url}/sandbox/webhooks",
        json={
            "organizationId": vendor_organization,
            "url": api.enable_webhooks(integration_id),
            "secret": secret,
        },
        timeout=30,
    )
    response.raise_for_status()


def measure_delay(database: Database, sandbox_url: str, organization_id: str, vendor_organization: str) -> float:
    """Measure the seconds from a change at the sandbox until it is in `roi`. Raise TimeoutError."""
    newest = "select max(softpro_updated_at) as newest from roi.transactions where organization_id = %s"
    with database.connect() as connection:
        before = connection.execute(newest, [organization_id]).fetchone()
        body = {"organizationId": vendor_organization, "entityType": "TRANSACTION", "count": 1}
        response = requests.post(f"{sandbox_url}/sandbox/changes", json=body, timeout=30)
        response.raise_for_status()
        started = time.monotonic()
        while connection.execute(newest, [organization_id]).fetchone() == before:
            if time.monotonic() - started > TIMEOUT_SECONDS:
                raise TimeoutError(f"The change did not arrive in roi within {TIMEOUT_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)
    return time.monotonic() - started
