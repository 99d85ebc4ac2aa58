"""The secrets of an integration, in and out of their encrypted columns. Nothing here is ever logged or shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from softpro.errors import NotConnected
from softpro.store.database import Connection
from softpro.store.encryption import Place, Vault
from softpro.store.integrations import TABLE


@dataclass(frozen=True)
class Tokens:
    """A token endpoint's answer (RFC 6749 section 5.1); `expires_in` in seconds."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    expires_in: float


@dataclass(frozen=True)
class Grant:
    """What an integration may do at the vendor now; `due_in` seconds its access token should be refreshed."""

    integration_id: UUID
    client_id: str
    client_secret: str = field(repr=False)
    access_token: str | None = field(repr=False)
    refresh_token: str | None = field(repr=False)
    expires_at: datetime | None
    version: int
    due_in: float

    @property
    def due(self) -> bool:
        """The access token should be refreshed before it is used."""
        return self.due_in <= 0


def read(connection: Connection, vault: Vault, integration_id: UUID) -> Grant:
    """The integration's credentials and tokens. Raises DecryptionError, NotConnected where there is no such row.

    A token is due for refresh ahead of its expiry by the smaller of 5 minutes and half its life.
    """
    row = connection.execute(
        """
        select client_id, client_secret, access_token, refresh_token, token_expires_at, token_version,
               coalesce(extract(epoch from token_expires_at - now()
                   - least(interval '5 minutes', (token_expires_at - token_issued_at) / 2)), 0)::float8 as due_in
        from softpro.integrations
        where id = %s and deleted_at is null
        """,
        [integration_id],
    ).fetchone()
    if row is None:
        raise NotConnected(f"Integration {integration_id} is not connected")

    def opened(column: str) -> str | None:
        return vault.open(row[column], Place(TABLE, column, integration_id)) if row[column] else None

    return Grant(
        integration_id=integration_id,
        client_id=row["client_id"],
        client_secret=opened("client_secret") or "",
        access_token=opened("access_token"),
        refresh_token=opened("refresh_token"),
        expires_at=row["token_expires_at"],
        version=row["token_version"],
        due_in=row["due_in"],
    )


def store(connection: Connection, vault: Vault, integration_id: UUID, tokens: Tokens) -> None:
    """Replaces the token pair; an answer without a refresh token keeps the one that is there (RFC 6749 section 6)."""
    refresh_token = tokens.refresh_token
    connection.execute(
        """
        update softpro.integrations
        set access_token = %(access)s, refresh_token = coalesce(%(refresh)s, refresh_token),
            token_issued_at = now(), token_expires_at = now() + make_interval(secs => %(seconds)s),
            token_version = token_version + 1, status = 'CONNECTED', updated_at = now()
        where id = %(id)s
        """,
        {
            "id": integration_id,
            "access": vault.seal(tokens.access_token, Place(TABLE, "access_token", integration_id)),
            "refresh": refresh_token and vault.seal(refresh_token, Place(TABLE, "refresh_token", integration_id)),
            "seconds": tokens.expires_in,
        },
    )


def erase(connection: Connection, integration_id: UUID, status: str, message: str | None = None) -> None:
    """Forgets the tokens: the integration is DISCONNECTED, or EXPIRED when the vendor no longer honours its grant."""
    connection.execute(
        """
        update softpro.integrations
        set access_token = null, refresh_token = null, token_issued_at = null, token_expires_at = null,
            token_version = token_version + 1, status = %(status)s, updated_at = now(),
            last_error_at = case when %(message)s::text is null then last_error_at else now() end,
            last_error_message = coalesce(%(message)s, last_error_message),
            deleted_at = case when %(status)s = 'DISCONNECTED' then now() else deleted_at end
        where id = %(id)s
        """,
        {"id": integration_id, "status": status, "message": message},
    )
