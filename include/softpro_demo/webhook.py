"""What the demo shows after the sync: a change at the sandbox that comes into `roi` by webhook."""

from __future__ import annotations

import time

import requests

from softpro.db.database import Database
from softpro_demo.api_client import Plugin

PATIENCE_SECONDS = 60.0
LOOK_SECONDS = 0.05


def register(api: Plugin, sandbox_url: str, integration_id: str, vendor_organization: str, secret: str) -> None:
    """Lets the integration take webhooks, and the sandbox send them. Raises Failed, requests.HTTPError."""
    answer = requests.put(
        f"{sandbox_url}/sandbox/webhooks",
        json={
            "organizationId": vendor_organization,
            "url": api.take_webhooks(integration_id),
            "secret": secret,
        },
        timeout=30,
    )
    answer.raise_for_status()


def seconds_to_arrive(database: Database, sandbox_url: str, organization_id: str, vendor_organization: str) -> float:
    """Changes a transaction at the sandbox, and waits until the change is in `roi`. Raises TimeoutError."""
    rows = "select max(softpro_updated_at) as newest from roi.transactions where organization_id = %s"
    with database.connect() as connection:
        before = connection.execute(rows, [organization_id]).fetchone()
        order = {"organizationId": vendor_organization, "entityType": "TRANSACTION", "count": 1}
        answer = requests.post(f"{sandbox_url}/sandbox/changes", json=order, timeout=30)
        answer.raise_for_status()
        began = time.monotonic()
        while connection.execute(rows, [organization_id]).fetchone() == before:
            if time.monotonic() - began > PATIENCE_SECONDS:
                raise TimeoutError(f"The change was not in roi within {PATIENCE_SECONDS:.0f} s")
            time.sleep(LOOK_SECONDS)
    return time.monotonic() - began
