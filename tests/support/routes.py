"""List every route of the API with its right and a request that would find something."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import uuid4

IDS = ("integration_id", "case_id", "hold_id", "log_id", "event_id", "conflict_id")
"""The ids that `insert_rows` returns."""

SOME_ID = "00000000-0000-0000-0000-000000000001"
RIGHTS = {
    "admin": {"read", "operate", "configure"},
    "operator": {"read", "operate", "configure"},
    "syncer": {"read", "operate"},
    "reader": {"read"},
}
FILLED = {"roi_id": SOME_ID, "version": "1", "asset": "start.js", "order_id": "ord-1", "contact_id": "con-1"}


@dataclass(frozen=True)
class Route:
    """A route, the right it needs, and a request that would find something.

    Ids in braces are filled in by `filled`. A route without ids concerns no organization.
    """

    method: str
    path: str
    right: str
    query: str = ""
    body: Mapping[str, object] | None = None

    @property
    def tenant(self) -> bool:
        named = f"{self.path}{self.query}{json.dumps(self.body)}"
        return any(f"{{{name}}}" in named for name in (*IDS, "organization"))


OF_STREAM = "integrationId={integration_id}&entityType=CONTACT"
IT = {"integrationId": "{integration_id}"}
STREAM = {**IT, "entityType": "CONTACT"}
MAPPING = {"entityType": "CONTACT", "softproField": "email", "roiSystemsField": "email"}
ROUTES = [
    Route("POST", "/connect", "configure", body={"organizationId": "{organization}"}),
    Route("DELETE", "/disconnect/{integration_id}", "configure"),
    Route("GET", "/status", "read", "organizationId={organization}"),
    Route("GET", "/settings/{integration_id}", "read"),
    Route("PATCH", "/settings/{integration_id}", "configure", body={"syncFrequency": 600}),
    Route("GET", "/mappings", "read", "integrationId={integration_id}"),
    Route("PUT", "/mappings", "configure", body={**IT, "mappings": [MAPPING]}),
    Route("GET", "/mappings/versions", "read", OF_STREAM),
    Route("GET", "/mappings/versions/{version}", "read", OF_STREAM),
    Route("GET", "/mappings/diff", "read", f"{OF_STREAM}&from=1"),
    Route("POST", "/mappings/rollback", "configure", body={**STREAM, "version": 1}),
    Route("POST", "/mappings/preview", "operate", body={**STREAM, "mappings": [MAPPING]}),
    Route("POST", "/mappings/remap", "operate", body=STREAM),
    Route("GET", "/mappings/coverage", "read", "integrationId={integration_id}"),
    Route("POST", "/mappings/coverage/refresh", "operate", body=IT),
    Route("POST", "/sync/transactions", "operate", body=IT),
    Route("POST", "/sync/contacts", "operate", body=IT),
    Route("POST", "/sync/transactions/{order_id}", "operate", body=IT),
    Route("POST", "/sync/contacts/{contact_id}", "operate", body=IT),
    Route("GET", "/sync/logs", "read", "integrationId={integration_id}"),
    Route("GET", "/sync/logs/{log_id}", "read"),
    Route("GET", "/quarantine", "operate", "integrationId={integration_id}"),
    Route("GET", "/quarantine/{case_id}", "operate"),
    Route("PUT", "/quarantine/{case_id}", "operate", body={"record": {"id": "con-1"}}),
    Route("POST", "/quarantine/replay", "operate", body=STREAM),
    Route("POST", "/quarantine/{case_id}/discard", "operate", body={"reason": "none of ours"}),
    Route("GET", "/holds", "read", "integrationId={integration_id}"),
    Route("POST", "/holds/{hold_id}/approve", "operate", body=IT),
    Route("POST", "/holds/{hold_id}/reject", "operate", body={**IT, "reason": "no"}),
    Route("GET", "/conflicts", "operate", "integrationId={integration_id}"),
    Route("GET", "/conflicts/{conflict_id}", "operate", "integrationId={integration_id}"),
    Route("POST", "/conflicts/{conflict_id}/resolve", "operate", body={**IT, "winner": "ROI"}),
    Route("POST", "/conflicts/resolve", "operate", body={**IT, "ids": [SOME_ID], "winner": "ROI"}),
    Route("POST", "/conflicts/{conflict_id}/reverse", "operate", body=IT),
    Route("GET", "/outbox", "operate", "integrationId={integration_id}"),
    Route("POST", "/outbox/deletes/approve", "operate", body={**STREAM, "deletes": 1}),
    Route("POST", "/outbox/deletes/withdraw", "operate", body={**STREAM, "deletes": 1}),
    Route("POST", "/push/transactions", "operate", body=IT),
    Route("POST", "/push/contacts", "operate", body=IT),
    Route("POST", "/push/transactions/{roi_id}", "operate", body=IT),
    Route("POST", "/push/contacts/{roi_id}", "operate", body=IT),
    Route("GET", "/webhooks/events", "read", "integrationId={integration_id}"),
    Route("GET", "/webhooks/events/{event_id}", "operate", "integrationId={integration_id}"),
    Route("POST", "/webhooks/events/{event_id}/retry", "operate", body=IT),
    Route("POST", "/webhooks/events/retry", "operate", body=IT),
    Route("GET", "/webhooks/stats", "read", "integrationId={integration_id}"),
    Route("GET", "/webhooks/config", "read", "integrationId={integration_id}"),
    Route("PATCH", "/webhooks/config", "configure", body={**IT, "webhooksEnabled": True}),
    Route("GET", "/audit", "configure"),
    Route("GET", "/access", "configure"),
    Route(
        "PUT", "/access", "configure", body={"kind": "USER", "subject": "nobody", "organizations": ["{organization}"]}
    ),
    Route("GET", "/health/detail", "read"),
    Route("GET", "/openapi.json", "read"),
    Route("GET", "/docs", "read"),
    Route("GET", "/docs/{asset}", "read"),
]
OPEN = {
    ("GET", "/callback"),
    ("GET", "/connect/{token}"),
    ("GET", "/health"),
    ("POST", "/webhooks/{integration_id}"),
}


def filled(text: str, ids: Mapping[str, str]) -> str:
    """Return the text with each name in braces replaced by its id."""
    for name, value in (FILLED | dict(ids)).items():
        text = text.replace(f"{{{name}}}", value)
    return text


ROWS = {
    "log_id": """
        insert into softpro.sync_logs
            (id, integration_id, organization_id, run_id, sync_type, entity_type, mode, status)
        select %s, id, organization_id, 'made up', 'MANUAL', 'CONTACT', 'full', 'FAILED'
        from softpro.integrations where id = %s
        """,
    "case_id": """
        insert into softpro.quarantine
            (id, integration_id, organization_id, entity_type, record_key, payload, payload_hash, reasons, log_id)
        select %s, id, organization_id, 'CONTACT', 'k', '{}', '', '[]', gen_random_uuid()
        from softpro.integrations where id = %s
        """,
    "hold_id": """
        insert into softpro.holds (id, integration_id, organization_id, entity_type, log_id, findings, records, status)
        select %s, id, organization_id, 'CONTACT', gen_random_uuid(), '[]', 1, 'CLEARED'
        from softpro.integrations where id = %s
        """,
    "event_id": """
        insert into softpro.webhook_events
            (id, integration_id, organization_id, event_type, event_id, entity_type, entity_id, payload,
             signature_verified, attempts, max_attempts)
        select %s, id, organization_id, 'CONTACT_UPDATED', 'evt-1', 'CONTACT', 'con-1', '{}', true, 5, 5
        from softpro.integrations where id = %s
        """,
    "conflict_id": """
        insert into softpro.conflicts
            (id, integration_id, organization_id, entity_type, entity_id, roi_entity_id, kind, base, softpro, roi)
        select %s, id, organization_id, 'CONTACT', 'con-1', gen_random_uuid(), 'FIELDS', '{}', '{}', '{}'
        from softpro.integrations where id = %s
        """,
}


def insert_rows(query: Callable[..., object], integration_id: str) -> dict[str, str]:
    """Give an integration one row behind each route, by a function that executes a statement, and return the ids."""
    made = {name: str(uuid4()) for name in ROWS}
    for name, insert in ROWS.items():
        query(insert, made[name], integration_id)
    return {**made, "integration_id": integration_id}
