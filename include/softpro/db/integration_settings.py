"""Read and change an integration's options: what is synced, how often, and the client of the next connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from softpro.db import audit_log
from softpro.db.database import Connection
from softpro.db.encryption import Place, Vault
from softpro.db.integrations import TABLE
from softpro.db.oauth_tokens import Credentials
from softpro.errors import UsageError


class ConflictStrategy(StrEnum):
    """The side that wins if both changed a field since the last sync."""

    SOFTPRO_WINS = "SOFTPRO_WINS"
    ROI_WINS = "ROI_WINS"
    NEWEST_WINS = "NEWEST_WINS"
    MERGE = "MERGE"
    MANUAL_REVIEW = "MANUAL_REVIEW"


@dataclass(frozen=True)
class IntegrationSettings:
    """The part of a row of `softpro.integrations` that users decide.

    Attributes:
        sync_frequency: the seconds between two syncs.
        environment: the environment in force.
        client_id: the OAuth client in force.
        next_environment: takes effect with the next consent; None keeps the environment.
        next_client_id: takes effect with the next consent; None is the client shared by all organizations.
    """

    id: UUID
    organization_id: str
    sync_enabled: bool
    sync_frequency: int
    sync_transactions: bool
    sync_contacts: bool
    sync_documents: bool
    webhooks_enabled: bool
    conflict_strategy: str
    conflict_overrides: dict[str, str]
    push_deletes: bool
    environment: str
    client_id: str
    next_environment: str | None
    next_client_id: str | None


@dataclass(frozen=True)
class NextConnection:
    """The client and environment of the next connection; without a client, the one of the environment variables."""

    client: Credentials | None
    environment: str


COLUMNS = sql.SQL(", ").join(map(sql.Identifier, IntegrationSettings.__dataclass_fields__))
PLAIN_COLUMNS = (
    "sync_enabled",
    "sync_frequency",
    "sync_transactions",
    "sync_contacts",
    "webhooks_enabled",
    "conflict_strategy",
    "conflict_overrides",
    "push_deletes",
    "next_environment",
)
"""The columns that `change` writes unchanged."""


def read(connection: Connection, integration_id: UUID) -> IntegrationSettings:
    """Return the options of an existing integration."""
    query = sql.SQL("select {} from softpro.integrations where id = %s").format(COLUMNS)
    found = connection.cursor(row_factory=class_row(IntegrationSettings)).execute(query, [integration_id]).fetchone()
    assert found is not None
    return found


def change(connection: Connection, integration_id: UUID, changes: Mapping[str, Any]) -> None:
    """Write the given `PLAIN_COLUMNS` options, and leave the others unchanged."""
    if not changes:
        return
    sets = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name))
        for name in PLAIN_COLUMNS
        if name in changes
    )
    query = sql.SQL("update softpro.integrations set {}, updated_at = now() where id = %(id)s").format(sets)
    values = {name: Jsonb(value) if isinstance(value, dict) else value for name, value in changes.items()}
    with connection.transaction():
        before = read(connection, integration_id)
        connection.execute(query, {**values, "id": integration_id})
        was = {name: getattr(before, name) for name in changes}
        audit_log.record(connection, "settings.update", integration_id=integration_id, before=was, after=changes)


def change_client(
    connection: Connection, vault: Vault, integration_id: UUID, client_id: str | None, secret: str | None
) -> None:
    """Set the OAuth client of the next connection; None for the client that all organizations share.

    Raises:
        UsageError: only one of the two is given.
    """
    if (client_id is None) != (secret is None):
        raise UsageError("clientId and clientSecret belong together: give both, or null for both")
    place = Place(TABLE, "next_client_secret", integration_id)
    with connection.transaction():
        before = read(connection, integration_id)
        connection.execute(
            """
            update softpro.integrations
            set next_client_id = %(client_id)s, next_client_secret = %(sealed)s, updated_at = now()
            where id = %(id)s
            """,
            {
                "id": integration_id,
                "client_id": client_id,
                "sealed": None if secret is None else vault.seal(secret, place),
            },
        )
        audit_log.record(
            connection,
            "client.update",
            integration_id=integration_id,
            before={"next_client_id": before.next_client_id},
            after={"next_client_id": client_id},
        )


def next_connection(connection: Connection, vault: Vault, organization_id: str) -> NextConnection | None:
    """Return the client and environment of an organization's next connection. Raises DecryptionError.

    Returns:
        The next connection; None if the organization has no integration.
    """
    row = connection.execute(
        """
        select id, next_client_id, next_client_secret, coalesce(next_environment, environment) as environment
        from softpro.integrations
        where organization_id = %s
        """,
        [organization_id],
    ).fetchone()
    if row is None:
        return None
    if row["next_client_id"] is None:
        return NextConnection(None, row["environment"])
    secret = vault.open(row["next_client_secret"], Place(TABLE, "next_client_secret", row["id"]))
    return NextConnection(Credentials(row["id"], row["next_client_id"], secret), row["environment"])
