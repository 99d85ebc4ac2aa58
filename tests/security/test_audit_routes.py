"""Each changing route is recorded with its user and address."""

from __future__ import annotations

import itertools
from typing import Any

import requests

from softpro.db import integrations
from softpro.entities import EntityType, Mode

from ..support.databases import execute, one, rows
from ..support.product import build_services, environment, sync
from ..support.quarantine_cases import find_case, order
from ..support.writeback import BothSides
from .conftest import Web

TRANSACTION = EntityType.TRANSACTION
TABLES = ("contacts", "transactions")
DELETES = "select count(*) from softpro.outbox where operation = 'DELETE' and settled_at is null"
WRITES = ("POST", "PUT", "PATCH", "DELETE")
CHANGES_NOTHING = {
    ("POST", "/mappings/preview"),
    ("POST", "/mappings/coverage/refresh"),
    ("POST", "/webhooks/{integration_id}"),  # SoftPro's events, which have a table of their own
}
HOLD = """
insert into softpro.holds (integration_id, organization_id, entity_type, log_id, findings, records, status)
select integration_id, organization_id, entity_type, id, '[]', 1, 'WAITING'
from softpro.sync_logs where entity_type = 'CONTACT' limit 1
returning id
"""
EVENT = """
insert into softpro.webhook_events
    (integration_id, organization_id, event_type, event_id, entity_type, entity_id, payload, signature_verified,
     attempts, max_attempts)
select id, organization_id, 'CONTACT_UPDATED', %s, 'CONTACT', 'con-1', '{}', true, 5, 5
from softpro.integrations where organization_id = 'acme'
returning id
"""


class Walk:
    """Calls changing routes, and checks after each that it was recorded."""

    def __init__(self, web: Web) -> None:
        self.web, self.session = web, web.as_user()
        self.walked: set[tuple[str, str]] = set()
        self._number = itertools.count()

    def __call__(self, method: str, path: str, body: Any = None, *, action: str, **ids: object) -> requests.Response:
        last = one(self.web.database, "select coalesce(max(id), 0) from softpro.audit_log")
        url, at_once = self.web.url + path.format(**ids), {"wait": 0} if action in ("run.start", "case.correct") else {}
        answer = self.session.request(method, url, params=at_once, json=body, timeout=60)
        assert answer.ok, (path, answer.text)
        added = rows(self.web.database, "select * from softpro.audit_log where id > %s", last)
        assert action in {entry["action"] for entry in added}, path
        assert {(entry["user_name"], entry["source"], entry["address"]) for entry in added} == {
            ("admin", "HTTP", "127.0.0.1")
        }
        self.walked.add((method, path))
        return answer

    def forget_runs(self) -> None:
        """Let further runs be announced, although no scheduler begins these."""
        execute(self.web.database, "delete from softpro.sync_logs where status = 'PENDING'")

    def event(self) -> str:
        return str(one(self.web.database, EVENT, f"evt-{next(self._number)}"))


def test_every_changing_route_is_recorded(web: Web) -> None:
    walk = Walk(web)
    it = {"integrationId": web.connected("acme")}
    walk("POST", "/connect", {"organizationId": "acme"}, action="connection.begin")
    services = build_services(environment(web.database, web.sandbox), web.database)
    with services.database.connect() as connection:
        acme = integrations.find(connection, "acme")
    sides = BothSides(services, acme, web.sandbox, acme.softpro_organization_id or "")
    sides.sync(TRANSACTION)

    changes = {"syncFrequency": 600, "pushDeletes": True, "conflictStrategy": "MANUAL_REVIEW"}
    walk("PATCH", "/settings/{integration_id}", changes, action="settings.update", integration_id=acme.id)
    walk("PATCH", "/webhooks/config", {**it, "webhooksEnabled": True}, action="settings.update")
    walk("PUT", "/access", {"kind": "USER", "subject": "ann", "organizations": ["acme"]}, action="access.update")
    _runs(walk, it, sides)
    _mappings(walk, it)
    _holds(walk, it)
    _conflicts(walk, it, sides)
    _cases(walk, it, sides)
    _deletes(walk, it, sides)
    walk("POST", "/webhooks/events/{event_id}/retry", it, action="webhooks.retry", event_id=walk.event())
    walk("POST", "/webhooks/events/retry", {**it, "ids": [walk.event()]}, action="webhooks.retry")
    walk("DELETE", "/disconnect/{integration_id}", action="connection.end", integration_id=acme.id)

    described = walk.session.get(f"{web.url}/openapi.json", timeout=30).json()["paths"]
    changing = {
        (method.upper(), path) for path, methods in described.items() for method in methods if method.upper() in WRITES
    }
    assert walk.walked == changing - CHANGES_NOTHING


def _runs(walk: Walk, it: dict[str, Any], sides: BothSides) -> None:
    order_id = one(walk.web.database, "select min(softpro_order_id) from roi.transactions")
    rows_of = {table: one(walk.web.database, f"select min(id::text) from roi.{table}") for table in TABLES}
    for path, ids in {
        "/sync/contacts": {},
        "/sync/transactions": {},
        "/sync/contacts/{contact_id}": {"contact_id": sides.key},
        "/sync/transactions/{order_id}": {"order_id": order_id},
        "/push/contacts": {},
        "/push/transactions": {},
        "/push/contacts/{roi_id}": {"roi_id": rows_of["contacts"]},
        "/push/transactions/{roi_id}": {"roi_id": rows_of["transactions"]},
    }.items():
        walk("POST", path, it, action="run.start", **ids)
        walk.forget_runs()
    walk("POST", "/mappings/remap", {**it, "entityType": "CONTACT"}, action="run.start")
    walk.forget_runs()


def _mappings(walk: Walk, it: dict[str, Any]) -> None:
    stored = walk.session.get(f"{walk.web.url}/mappings", params=it, timeout=30).json()["data"]
    last = next(each for each in reversed(stored) if each["entityType"] == "CONTACT")
    changed = {name: value for name, value in last.items() if name != "id"} | {"enabled": not last["enabled"]}
    walk("PUT", "/mappings", {**it, "mappings": [changed]}, action="mappings.replace")
    walk("POST", "/mappings/rollback", {**it, "entityType": "CONTACT", "version": 1}, action="mappings.rollback")


def _holds(walk: Walk, it: dict[str, Any]) -> None:
    for decide in ("approve", "reject"):
        hold = one(walk.web.database, HOLD)
        body = {**it, "reason": "a test"}
        walk("POST", f"/holds/{{hold_id}}/{decide}", body, action="hold.decide", hold_id=hold)
        execute(walk.web.database, "update softpro.holds set status = 'CLEARED'")


def _conflicts(walk: Walk, it: dict[str, Any], sides: BothSides) -> None:
    def conflict(note: str) -> str:
        sides.edit_in_roi(notes=note)
        sides.edit_at_softpro(notes=f"not {note}")
        sides.sync()
        return str(one(walk.web.database, "select id from softpro.conflicts where status = 'OPEN'"))

    first, body = conflict("ours"), {**it, "winner": "SOFTPRO"}
    walk("POST", "/conflicts/{conflict_id}/resolve", body, action="conflict.resolve", conflict_id=first)
    sides.sync()
    walk("POST", "/conflicts/{conflict_id}/reverse", it, action="conflict.reverse", conflict_id=first)
    second = conflict("ours again")
    walk("POST", "/conflicts/resolve", {**body, "ids": [second]}, action="conflict.resolve")
    sides.sync()


def _cases(walk: Walk, it: dict[str, Any], sides: BothSides) -> None:
    for order_id in ("one", "two"):
        sides.sandbox.put(sides.organization, order(order_id, -1), "TRANSACTION")
    sync(sides.services, sides.integration, TRANSACTION, Mode.FULL)
    corrected, discarded = (find_case(sides.services, key).id for key in ("one", "two"))
    body = {"record": order("one", 1.25)}
    walk("PUT", "/quarantine/{case_id}", body, action="case.correct", case_id=corrected)
    walk.forget_runs()
    walk("POST", "/quarantine/replay", {**it, "entityType": "TRANSACTION"}, action="run.start")
    walk.forget_runs()
    walk("POST", "/quarantine/{case_id}/discard", {"reason": "a test"}, action="case.discard", case_id=discarded)


def _deletes(walk: Walk, it: dict[str, Any], sides: BothSides) -> None:
    for decide in ("withdraw", "approve"):
        execute(walk.web.database, "delete from roi.transactions where softpro_order_id is not null")
        waiting = one(walk.web.database, DELETES)
        body = {**it, "entityType": "TRANSACTION", "deletes": waiting}
        walk("POST", f"/outbox/deletes/{decide}", body, action=f"deletes.{decide}")
        sides.sync(TRANSACTION)
