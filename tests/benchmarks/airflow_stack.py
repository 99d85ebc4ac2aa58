"""Run Airflow as `make demo` does, with an organization that takes webhooks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests

from softpro.entities import EntityType
from softpro_demo import webhook
from softpro_demo.api_client import ApiClient
from softpro_demo.stack import Size, Stack

from ..support.databases import lasting_directory
from .measurement import say

ORGANIZATION = "acme"
SYNC_SECONDS = 300.0


@dataclass(frozen=True)
class Running:
    """The running stack, with the organization's integration and its id at the vendor."""

    stack: Stack
    integration_id: str
    vendor_organization: str

    def records(self) -> list[dict[str, Any]]:
        """Return the transactions at the sandbox."""
        answer = requests.get(
            f"{self.stack.sandbox['url']}/sandbox/export",
            params={"organizationId": self.vendor_organization, "entityType": "TRANSACTION"},
            timeout=30,
        )
        answer.raise_for_status()
        return [json.loads(line) for line in answer.text.splitlines()]

    def pause(self, dag_id: str) -> None:
        """Pause this DAG, so that no further run begins."""
        answer = requests.patch(
            f"{self.stack.airflow_url}/api/v2/dags/{dag_id}",
            json={"is_paused": True},
            headers={"Authorization": f"Bearer {self.stack.token()}"},
            timeout=30,
        )
        answer.raise_for_status()


@contextmanager
def running(transactions: int) -> Iterator[Running]:
    """Yield a stack whose organization is connected and loaded, and gets a webhook for every change."""
    stack = Stack(lasting_directory(), Size(transactions, contacts=100), lambda what: say(f"starting {what}"))
    try:
        stack.start()
        api = ApiClient(stack.airflow_url, stack.token())
        integration_id = api.connect(ORGANIZATION)["id"]
        for entity_type in EntityType:
            log_id = api.sync(integration_id, entity_type.table)
            api.wait(integration_id, entity_type.table, log_id, SYNC_SECONDS, lambda log: None)
        [vendor_organization] = stack.sandbox["organizationIds"]
        webhook.register(api, stack.sandbox["url"], integration_id, vendor_organization, stack.webhook_secret)
        yield Running(stack, integration_id, vendor_organization)
    finally:
        stack.stop()
