"""Start what is attacked: an API server with two connected organizations, whose rows fill every route."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from softpro.db.database import Connection, Database
from softpro.services import Services
from softpro.timestamps import format_milliseconds

from ..support.api_server import ApiServer, running
from ..support.databases import Server, execute, load, one
from ..support.product import begin_connection, build_services, command, environment, finish_connection
from ..support.routes import FILLED, Route, filled, insert_rows
from ..support.sandbox import Sandbox
from .http_client import JSON, HttpClient, Request, Response
from .state import NOTHING, Changes, State

OWN, OTHER = "confined-org", "attacked-org"
MARK = "zq4f1c-of-the-attacked"
"""A text in rows of the attacked organization, which no request holds."""

USER, TEAM = "named", "a-team"
WEBHOOK_SECRET = "a secret for webhooks of 34 bytes."
STARTS_RUN = ("/sync/", "/push/", "/mappings/remap", "/quarantine")
CONFINE = """
insert into softpro.confinements (subject_kind, subject, organization_id, created_by) values (%s, %s, %s, 'a test')
"""
DETAILS = (
    "update softpro.sync_logs set error_message = %(mark)s where organization_id = %(organization)s",
    """
    update softpro.quarantine
    set payload = convert_to(jsonb_build_object('contactId', %(mark)s::text)::text, 'UTF8'),
        reasons = jsonb_build_array(jsonb_build_object('column', 'email', 'rule', 'a rule', 'message', %(mark)s::text))
    where organization_id = %(organization)s
    """,
    """
    update softpro.holds
    set status = 'WAITING',
        findings = jsonb_build_array(jsonb_build_object('column', 'email', 'rule', 'a rule', 'message', %(mark)s::text))
    where organization_id = %(organization)s
    """,
    """
    update softpro.webhook_events
    set payload = jsonb_build_object('contactId', %(mark)s::text), processing_error = %(mark)s
    where organization_id = %(organization)s
    """,
    """
    update softpro.conflicts
    set entity_id = %(contact)s, roi = jsonb_build_object('notes', %(mark)s::text),
        base = '{"notes": "a"}', softpro = '{"notes": "b"}',
        roi_entity_id = (select id from roi.contacts
                         where softpro_contact_id = %(contact)s and organization_id = %(organization)s)
    where organization_id = %(organization)s
    """,
    """
    insert into softpro.conflicts
        (integration_id, organization_id, entity_type, entity_id, roi_entity_id, kind, status, resolved_at, base,
         softpro, roi, result, decisions)
    select integration_id, c.organization_id, entity_type, entity_id, roi_entity_id, kind, 'RESOLVED', now(), base,
           jsonb_build_object('notes', notes), roi, jsonb_build_object('notes', notes),
           '{"notes": {"strategy": "SOFTPRO_WINS", "winner": "SOFTPRO", "why": "a test"}}'
    from softpro.conflicts c
    join roi.contacts r on r.id = c.roi_entity_id
    where c.organization_id = %(organization)s
    """,
    """
    update softpro.integrations
    set client_id = %(mark)s, last_error_message = %(mark)s, push_deletes = true, webhooks_enabled = true
    where organization_id = %(organization)s
    """,
    """
    delete from roi.transactions
    where organization_id = %(organization)s
      and softpro_order_id <> (select min(softpro_order_id) from roi.transactions
                               where organization_id = %(organization)s)
    """,
)
"""Statements that fill an organization's rows, the last with deletes that wait."""


@dataclass(frozen=True)
class Organization:
    """An organization with the ids of its rows.

    Attributes:
        ids: the ids that requests name.
        deletes: the number of deletes that wait for a decision.
        marks: the texts that only its own users may read.
    """

    name: str
    vendor: str
    ids: Mapping[str, str]
    deletes: int
    marks: tuple[str, ...]

    def request(self, route: Route) -> Request:
        """Return the request of the route for this organization's rows."""
        path, query = filled(route.path, self._ids(route)), filled(route.query, self._ids(route))
        if route.method != "GET" and route.path.startswith(STARTS_RUN):
            query = "&".join(filter(None, (query, "wait=0")))
        target = f"{path}?{query}" if query else path
        body = self.body(route)
        if body is None:
            return Request(route.method, target)
        return Request(route.method, target, (JSON,), json.dumps(body).encode())

    def body(self, route: Route) -> dict[str, Any] | None:
        if route.body is None:
            return None
        body: dict[str, Any] = json.loads(filled(json.dumps(route.body), self._ids(route)))
        if "deletes" in body:
            body |= {"entityType": "TRANSACTION", "deletes": self.deletes}
        if "record" in body:
            now = format_milliseconds(datetime.now(UTC))
            body["record"] = {"contactId": self.ids["contact_id"], "createdAt": now, "updatedAt": now}
        if "subject" in body:
            body["subject"] = USER
        if "ids" in body:
            body["ids"] = [self.ids["conflict_id"]]
        return body

    def _ids(self, route: Route) -> dict[str, str]:
        roi_id = self.ids["contact_row" if "/contacts/" in route.path else "transaction_row"]
        conflict_id = self.ids["resolved_id" if route.path.endswith("/reverse") else "conflict_id"]
        return {**FILLED, **self.ids, "roi_id": roi_id, "conflict_id": conflict_id}


@dataclass(frozen=True)
class Target:
    """The running product, as attackers reach it."""

    api: ApiServer
    http: HttpClient
    database: Database
    services: Services
    state: State
    own: Organization
    other: Organization

    def send(self, request: Request) -> Response:
        """Send a request below the API's path. Where strangers have only one address, wait for its rate."""
        whole = replace(request, target=self.path(request.target))
        while (response := self.http.send(whole)).status == 429 and request.stranger:
            time.sleep(float(response.header("Retry-After") or 1))
        return response

    def path(self, target: str | bytes) -> str | bytes:
        """Return the target below the API's path."""
        prefix = self.api.url.removeprefix(self.api.origin)
        return prefix.encode() + target if isinstance(target, bytes) else prefix + target

    def changed(self) -> Changes:
        """Return what the last request changed, and restore it."""
        changes = self.state.changes()
        if changes:
            self.state.restore(changes)
        return changes or NOTHING

    def foreign_text(self, request: Request, response: Response) -> str:
        """Return a text of the attacked organization that the response shows, empty if none."""
        shown = response.text + "".join(value for _, value in response.headers)
        return next((mark for mark in self.other.marks if mark in shown and not request.shows(mark)), "")


@contextmanager
def running_target(server: Server, sandbox: Sandbox) -> Iterator[Target]:
    """Run the product in a database of its own, with `OWN` and `OTHER` connected to the sandbox."""
    with ExitStack() as stack:
        database = stack.enter_context(server.fresh())
        settings = environment(
            database, sandbox, SOFTPRO_WEBHOOK_SECRET=WEBHOOK_SECRET, SOFTPRO_SYNC_CALLS_PER_MINUTE="100000"
        )
        services = build_services(settings, database)
        own, other = (_connected(services, settings, sandbox, name) for name in (OWN, OTHER))
        other = replace(other, marks=tuple(mark for mark in other.marks if mark not in own.marks))
        for kind, subject in (("USER", USER), ("TEAM", TEAM)):
            execute(database, CONFINE, kind, subject, OWN)
        api = stack.enter_context(running(settings))
        session: Connection = stack.enter_context(database.connect())
        http = HttpClient(api.origin)
        stack.callback(http.close)
        yield Target(api, http, database, services, State(session, OWN), own, other)


def _connected(services: Services, settings: Mapping[str, str], sandbox: Sandbox, name: str) -> Organization:
    vendor, database = sandbox.unused_organization(), Database(settings["SOFTPRO_MIGRATE_DATABASE_URL"])
    integration = finish_connection(services, sandbox.consent(begin_connection(services, name), vendor))
    synced = command(settings, "sync", name)
    assert synced.code == 0, synced.err
    begin_connection(services, name)  # leaves a state that waits for consent
    made = insert_rows(lambda query, *values: load(database, query, *values), str(integration.id))
    ids = {
        **made,
        "organization": name,
        "contact_id": one(
            database, "select min(softpro_contact_id) from roi.contacts where organization_id = %s", name
        ),
        "order_id": one(
            database, "select min(softpro_order_id) from roi.transactions where organization_id = %s", name
        ),
    }
    mark = MARK if name == OTHER else "a mark"
    for statement in DETAILS:
        execute(database, statement, mark=mark, organization=name, contact=ids["contact_id"])
    resolved = "select id::text from softpro.conflicts where organization_id = %s and status = 'RESOLVED'"
    ids["resolved_id"] = one(database, resolved, name)
    for table in ("contact", "transaction"):
        query = f"select min(id::text) from roi.{table}s where organization_id = %s"
        ids[f"{table}_row"] = one(database, query, name)
    deletes = one(
        database,
        "select count(*) from softpro.outbox where organization_id = %s and operation = 'DELETE'",
        name,
    )
    emails = one(database, "select array_agg(email) from roi.contacts where organization_id = %s", name)
    marks = (mark, name, vendor, *(email for email in emails if email), *ids.values())
    return Organization(name, vendor, ids, deletes, marks)
