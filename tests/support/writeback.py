"""Run pushes, and change records on either side."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
from psycopg import sql
from psycopg.types.json import Jsonb
from requests import Session

from softpro.db import integration_settings
from softpro.db.database import Database
from softpro.db.integrations import Integration
from softpro.db.sync_logs import SyncLog
from softpro.entities import EntityType, Mode, SyncType
from softpro.mapping import repository
from softpro.mapping.mapping import Mapping
from softpro.runs.push import push
from softpro.services import Services

from .databases import execute, one, rows
from .product import sync
from .sandbox import Json, Sandbox

OPEN_EDITS = "select count(*) from softpro.outbox where settled_at is null"
MAKE_DUE = (
    "update softpro.pushes set next_attempt_at = clock_timestamp(), missing_at = missing_at - interval '1 hour'",
    "update softpro.creates set due_at = now() where due_at is not null",
)


def run_push(
    services: Services,
    integration: Integration,
    entity_type: EntityType = EntityType.CONTACT,
    *,
    records: Collection[UUID] | None = None,
    patience: float = 0,
) -> SyncLog:
    """Push one entity type from begin to finish."""
    return push(
        services,
        integration,
        entity_type,
        sync_type=SyncType.MANUAL,
        run_id=f"test__{uuid4()}",
        records=records,
        patience=patience,
    )


def edit_in_roi(database: Database, entity_type: EntityType, key: str | UUID, **columns: Any) -> None:
    """Change a row of `roi`, found by SoftPro's id (text) or ours (UUID)."""
    column = "id" if isinstance(key, UUID) else entity_type.key
    query = sql.SQL("update {} set {} where {} = %(key)s").format(
        sql.Identifier("roi", entity_type.table),
        sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in columns),
        sql.Identifier(column),
    )
    values = {name: Jsonb(value) if isinstance(value, dict | list) else value for name, value in columns.items()}
    execute(database, query, key=key, **values)


def create_in_roi(database: Database, entity_type: EntityType, organization: str, **columns: Any) -> UUID:
    """Create a row in `roi` and return its id."""
    query = sql.SQL("insert into {} ({}) values ({}) returning id").format(
        sql.Identifier("roi", entity_type.table),
        sql.SQL(", ").join(map(sql.Identifier, ["organization_id", *columns])),
        sql.SQL(", ").join(map(sql.Placeholder, ["organization", *columns])),
    )
    with database.connect() as connection:
        row = connection.execute(query, {"organization": organization, **columns}).fetchone()
    assert row is not None
    made: UUID = row["id"]
    return made


def edit_at_softpro(sandbox: Sandbox, organization: str, entity_type: EntityType, key: str, **fields: Any) -> Json:
    """Change a record at SoftPro, merging objects, and return the changed record."""
    record = sandbox.records(organization, entity_type.value)[key]
    for name, value in fields.items():
        before = record.get(name)
        record[name] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    record = {**{name: value for name, value in record.items() if name != "updatedAt"}, "updatedAt": moment}
    sandbox.put(organization, exact(record), entity_type.value)
    return record


def exact(record: Json) -> bytes:
    """Encode as JSON with exact fractions."""
    return msgspec.json.Encoder(decimal_format="number").encode(record)


def make_all_due(database: Database) -> None:
    """Make every waiting push and create due now. If no change surfaces late, only the wait is skipped."""
    for statement in MAKE_DUE:
        execute(database, statement)


def open_edits(database: Database) -> int:
    return int(one(database, OPEN_EDITS))


def run_until_killed(act: Callable[[], object], after: int) -> bool:
    """Run `act` in a child process that is killed, as by SIGKILL, when its `after`-th response arrives.

    Returns:
        True if the process was killed, False if `act` ended before.
    """
    child = os.fork()
    if child == 0:
        answered, request = 0, Session.request

        def counted(self: Session, *arguments: Any, **how: Any) -> Any:
            nonlocal answered
            answer = request(self, *arguments, **how)
            answered += 1
            if answered >= after:
                os._exit(9)
            return answer

        Session.request = counted  # type: ignore[method-assign]
        try:
            act()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


class BothSides:
    """An organization that exists on both sides, with its contacts loaded."""

    def __init__(self, services: Services, integration: Integration, sandbox: Sandbox, organization: str) -> None:
        self.services, self.database, self.integration = services, services.database, integration
        self.sandbox, self.organization = sandbox, organization
        sync(services, integration, EntityType.CONTACT)
        self.key: str = one(self.database, "select min(softpro_contact_id) from roi.contacts")

    def sync(self, entity_type: EntityType = EntityType.CONTACT, mode: Mode = Mode.INCREMENTAL) -> None:
        assert sync(self.services, self.integration, entity_type, mode).succeeded

    def edit_in_roi(self, **columns: Any) -> None:
        edit_in_roi(self.database, EntityType.CONTACT, self.key, **columns)

    def edit_at_softpro(self, **fields: Any) -> None:
        edit_at_softpro(self.sandbox, self.organization, EntityType.CONTACT, self.key, **fields)

    def roi_values(self, *columns: str) -> tuple[Any, ...]:
        [row] = rows(self.database, "select * from roi.contacts where softpro_contact_id = %s", self.key)
        return tuple(row[column] for column in columns)

    def softpro_records(self, entity_type: EntityType = EntityType.CONTACT) -> dict[str, Json]:
        return self.sandbox.records(self.organization, entity_type.value)

    def change_settings(self, **changes: Any) -> None:
        with self.database.connect() as connection:
            integration_settings.change(connection, self.integration.id, changes)

    def set_mappings(self, mappings: Sequence[Mapping]) -> None:
        with self.database.connect() as connection:
            repository.replace(connection, self.integration.id, "acme", mappings, "a test")
