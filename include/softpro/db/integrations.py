"""Read and change organizations' integrations with SoftPro 360. `oauth_tokens` reads their secrets."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from softpro.db import outbox, queries
from softpro.db.database import Connection
from softpro.db.encryption import Place, Vault
from softpro.entities import EntityType, Stream
from softpro.errors import NotConnected, NotFoundHere, UsageError
from softpro.json_codec import camel_case
from softpro.timestamps import format_milliseconds

TABLE = "softpro.integrations"
REFRESH_TOKEN_DAYS = 30  # counted from its issue; only SoftPro's documentation says so, no response does


@dataclass(frozen=True)
class Integration:
    """A row of `softpro.integrations`, without its secrets."""

    id: UUID
    organization_id: str
    softpro_organization_id: str | None
    client_id: str
    environment: str
    status: str
    token_expires_at: datetime | None
    refresh_token_issued_at: datetime | None
    sync_enabled: bool
    sync_frequency: int
    sync_transactions: bool
    sync_contacts: bool
    last_sync_at: datetime | None
    last_error_at: datetime | None
    last_error_message: str | None
    consecutive_failures: int
    next_attempt_at: datetime | None

    @property
    def grant_expires_at(self) -> datetime | None:
        """Return when the grant ends unless it is refreshed before."""
        issued_at = self.refresh_token_issued_at
        return issued_at + timedelta(days=REFRESH_TOKEN_DAYS) if issued_at else None

    def stream(self, entity_type: EntityType) -> Stream:
        """Return the integration's stream of this entity type."""
        return Stream(self.id, self.organization_id, entity_type)

    def entity_types(self) -> list[EntityType]:
        """Return the enabled entity types in sync order: contacts first, because orders refer to them."""
        switches = {EntityType.CONTACT: self.sync_contacts, EntityType.TRANSACTION: self.sync_transactions}
        return [entity_type for entity_type, on in switches.items() if on]


@dataclass(frozen=True)
class Outage:
    """An open circuit breaker: after repeated failures, SoftPro is not asked before `next_try_at`."""

    opened_at: datetime
    next_try_at: datetime
    reason: str

    def as_json(self) -> dict[str, str]:
        return {"since": format_milliseconds(self.opened_at), **camel_case(self, "next_try_at", "reason")}


COLUMNS = sql.SQL(", ").join(map(sql.Identifier, Integration.__dataclass_fields__))


def validate_organization(organization_id: str) -> str:
    """Return the id if it consists of 1-128 visible characters. Raises UsageError."""
    visible = organization_id.isprintable() and not any(character.isspace() for character in organization_id)
    if not (1 <= len(organization_id) <= 128 and visible):
        raise UsageError("An organization id is 1 to 128 visible characters, without spaces")
    return organization_id


def find(connection: Connection, organization_id: str, within: Collection[str] | None = None) -> Integration:
    """Return the organization's integration. Raises NotFoundHere, also for one not `within`, and UsageError."""
    validate_organization(organization_id)
    name = f"organization {organization_id!r}"
    return _one(connection, sql.SQL("organization_id = %(value)s"), organization_id, name, within)


def get(connection: Connection, integration_id: UUID, within: Collection[str] | None = None) -> Integration:
    """Return the integration with this id. Raises NotFoundHere, also if its organization is not `within`."""
    return _one(connection, sql.SQL("id = %(value)s"), integration_id, f"id {integration_id}", within)


def list_all(connection: Connection) -> list[Integration]:
    """Return all integrations, by organization."""
    query = sql.SQL("select {} from softpro.integrations order by organization_id").format(COLUMNS)
    return connection.cursor(row_factory=class_row(Integration)).execute(query).fetchall()


def ensure(
    connection: Connection,
    vault: Vault,
    organization_id: str,
    *,
    client_id: str,
    client_secret: str,
    environment: str,
    sync_frequency: int,
) -> Integration:
    """Return the organization's integration, and create it if it does not exist.

    An existing integration keeps its client and environment until a user consents to others (`apply_consent`).
    """
    validate_organization(organization_id)
    integration_id = uuid4()
    connection.execute(
        """
        insert into softpro.integrations
            (id, organization_id, client_id, client_secret, environment, sync_frequency)
        values (%(id)s, %(organization)s, %(client_id)s, %(client_secret)s, %(environment)s, %(frequency)s)
        on conflict (organization_id) do nothing
        """,
        {
            "id": integration_id,
            "organization": organization_id,
            "client_id": client_id,
            "client_secret": vault.seal(client_secret, Place(TABLE, "client_secret", integration_id)),
            "environment": environment,
            "frequency": sync_frequency,
        },
    )
    integration = find(connection, organization_id)
    if integration.id == integration_id:
        outbox.queue_unlinked_rows(connection, integration_id, organization_id)
    return integration


def apply_consent(
    connection: Connection,
    vault: Vault,
    integration_id: UUID,
    *,
    client_id: str,
    client_secret: str,
    environment: str,
    softpro_organization_id: str,
) -> None:
    """Put the client and environment that a user consented to in force, and restart the schedule."""
    connection.execute(
        """
        update softpro.integrations
        set client_id = %(client_id)s, client_secret = %(client_secret)s, environment = %(environment)s,
            softpro_organization_id = %(softpro_organization)s, deleted_at = null, next_environment = null,
            consecutive_failures = 0, next_attempt_at = null, last_error_at = null, last_error_message = null,
            updated_at = now()
        where id = %(id)s
        """,
        {
            "id": integration_id,
            "client_id": client_id,
            "client_secret": vault.seal(client_secret, Place(TABLE, "client_secret", integration_id)),
            "environment": environment,
            "softpro_organization": softpro_organization_id,
        },
    )
    connection.execute(
        "update softpro.cursors set failures = 0, next_attempt_at = null where integration_id = %s", [integration_id]
    )


def remove_unconnected(connection: Connection, integration_id: UUID) -> bool:
    """Remove an integration that never had a grant and to which nothing refers. Return whether it was removed."""
    query = """
        delete from softpro.integrations
        where id = %s and softpro_organization_id is null and access_token is null
    """
    try:
        with connection.transaction():
            return connection.execute(query, [integration_id]).rowcount == 1
    except psycopg.errors.ForeignKeyViolation:
        return False


def require_connected(integration: Integration) -> None:
    """Raise NotConnected unless the integration has a grant."""
    if integration.status != "CONNECTED":
        raise NotConnected(
            f"{integration.organization_id} is {integration.status}"
            + (f" ({integration.last_error_message})" if integration.status == "EXPIRED" else "")
            + ": a user has to connect it"
        )


def _one(
    connection: Connection, condition: sql.SQL, value: Any, name: str, within: Collection[str] | None
) -> Integration:
    query = sql.SQL(
        """
        select {} from softpro.integrations
        where {} and (%(within)s::text[] is null or organization_id = any(%(within)s))
        """
    ).format(COLUMNS, condition)
    parameters = {"value": value, "within": None if within is None else list(within)}
    found = connection.cursor(row_factory=class_row(Integration)).execute(query, parameters).fetchone()
    if found is None:
        raise NotFoundHere(f"No integration has the {name}: connect it first")
    return found


def outage(connection: Connection, integration_id: UUID) -> Outage | None:
    """Return the outage for which SoftPro is not asked for this integration now, if any."""
    query = """
        select opened_at, next_try_at, reason from softpro.breakers
        where integration_id = %s and opened_at is not null
    """
    return connection.cursor(row_factory=class_row(Outage)).execute(query, [integration_id]).fetchone()


def stream_status(connection: Connection, integration: Integration, entity_type: EntityType) -> dict[str, Any]:
    """Return the state of a stream for operators, as JSON.

    It holds the connection, the last sync, the held batch, and counts of rows, pending records, quarantine cases,
    waiting edits and open conflicts.
    """
    counts = queries.one(
        connection,
        sql.SQL(
            """
            select (select count(*) from {} where organization_id = %(organization)s and deleted_at is null) as rows,
                   (select count(*) from raw.pending
                    where integration_id = %(integration)s and entity_type = %(entity_type)s) as pending,
                   (select count(*) from softpro.quarantine
                    where integration_id = %(integration)s and entity_type = %(entity_type)s
                      and resolved_at is null) as quarantined,
                   (select max(completed_at) from softpro.sync_logs
                    where integration_id = %(integration)s and entity_type = %(entity_type)s
                      and mode in ('incremental', 'delta', 'full')
                      and status in ('COMPLETED', 'PARTIAL_SUCCESS')) as last_sync_at,
                   (select jsonb_build_object('id', id, 'status', status, 'findings', findings, 'records', records)
                    from softpro.holds
                    where integration_id = %(integration)s and entity_type = %(entity_type)s
                      and status in ('WAITING', 'APPROVED')) as hold,
                   (select count(*)
                    from softpro.outbox o
                    where o.integration_id = %(integration)s and o.entity_type = %(entity_type)s
                      and o.settled_at is null
                      and (o.operation <> 'UPDATE' or exists (
                        select from softpro.mappings m
                        where m.integration_id = o.integration_id and m.entity_type = o.entity_type
                          and m.enabled and m.direction <> 'SOFTPRO_TO_ROI'
                          and (m.roi_systems_field = o.field
                               or (m.roi_systems_field = 'custom' and starts_with(o.field, 'custom.')))))
                   ) as edits,
                   (select count(*) from softpro.conflicts
                    where integration_id = %(integration)s and entity_type = %(entity_type)s
                      and status = 'OPEN') as conflicts
            """
        ).format(sql.Identifier("roi", entity_type.table)),
        {
            "organization": integration.organization_id,
            "integration": integration.id,
            "entity_type": entity_type.value,
        },
    )
    grant_expires_at = integration.grant_expires_at
    away = outage(connection, integration.id)
    return {
        "organizationId": integration.organization_id,
        "integrationId": str(integration.id),
        "status": integration.status,
        "environment": integration.environment,
        "grantExpiresAt": format_milliseconds(grant_expires_at) if grant_expires_at else None,
        "entityType": entity_type.value,
        "rows": counts["rows"],
        "pending": counts["pending"],
        "quarantined": counts["quarantined"],
        "lastSyncAt": format_milliseconds(counts["last_sync_at"]) if counts["last_sync_at"] else None,
        "lastErrorMessage": integration.last_error_message if integration.consecutive_failures else None,
        "outage": away and away.as_json(),
        "hold": counts["hold"],
        "editsWaiting": counts["edits"],
        "openConflicts": counts["conflicts"],
    }
