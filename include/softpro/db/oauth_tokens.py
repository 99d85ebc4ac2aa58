"""Read and write an integration's secrets in their encrypted columns. They are never logged or shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from softpro.db import queries
from softpro.db.database import Connection
from softpro.db.encryption import Place, Vault
from softpro.db.integrations import TABLE
from softpro.errors import NotConnected


@dataclass(frozen=True)
class Tokens:
    """A token endpoint's response (RFC 6749 section 5.1); `expires_in` in seconds."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    expires_in: float


@dataclass(frozen=True)
class Credentials:
    """The OAuth client that an integration connects as."""

    integration_id: UUID
    client_id: str
    client_secret: str = field(repr=False)


@dataclass(frozen=True)
class Grant:
    """An integration's current authorization at SoftPro.

    Attributes:
        version: increases whenever the tokens change.
        due_in: the seconds until the access token should be refreshed.
        uncertain: the response to a refresh was lost, so SoftPro may have ended this refresh token.
    """

    credentials: Credentials
    access_token: str | None = field(repr=False)
    refresh_token: str | None = field(repr=False)
    version: int
    due_in: float
    uncertain: bool

    @property
    def due(self) -> bool:
        """Return whether the access token should be refreshed before it is used."""
        return self.due_in <= 0


def credentials(connection: Connection, vault: Vault, integration_id: UUID) -> Credentials:
    """Return the integration's OAuth client. Raises DecryptionError, or NotConnected if the integration is deleted."""
    row = connection.execute(
        "select client_id, client_secret from softpro.integrations where id = %s and deleted_at is null",
        [integration_id],
    ).fetchone()
    if row is None:
        raise NotConnected(f"Integration {integration_id} is not connected")
    secret = vault.open(row["client_secret"], Place(TABLE, "client_secret", integration_id))
    return Credentials(integration_id, row["client_id"], secret)


def read(connection: Connection, vault: Vault, integration_id: UUID) -> Grant:
    """Return the integration's client and tokens. Raises DecryptionError, or NotConnected if it is deleted.

    A token is due 5 minutes before its expiry, or at half its lifetime if that is later. After a lost response to a
    refresh it is due only at its expiry. Another refresh could look like a stolen token (RFC 9700 section 4.14).
    """
    client = credentials(connection, vault, integration_id)
    row = queries.one(
        connection,
        """
        select access_token, refresh_token, token_version, refresh_uncertain,
               coalesce(extract(epoch from token_expires_at - now() - case
                   when refresh_uncertain then interval '0'
                   else least(interval '5 minutes', (token_expires_at - token_issued_at) / 2) end), 0)::float8 as due_in
        from softpro.integrations
        where id = %s
        """,
        [integration_id],
    )

    def opened(column: str) -> str | None:
        return vault.open(row[column], Place(TABLE, column, integration_id)) if row[column] else None

    return Grant(
        credentials=client,
        access_token=opened("access_token"),
        refresh_token=opened("refresh_token"),
        version=row["token_version"],
        due_in=row["due_in"],
        uncertain=row["refresh_uncertain"],
    )


def store(
    connection: Connection, vault: Vault, integration_id: UUID, tokens: Tokens, *, replaces: int | None = None
) -> bool:
    """Replace the token pair and return whether it was replaced.

    A response without a refresh token keeps the stored one and the time of its issue (RFC 6749 section 6).

    Args:
        replaces: only replace a stored pair of this version.
    """
    refresh_token = tokens.refresh_token
    return bool(
        connection.execute(
            """
            update softpro.integrations
            set access_token = %(access)s, refresh_token = coalesce(%(refresh)s, refresh_token),
                refresh_token_issued_at =
                    case when %(refresh)s::text is null then refresh_token_issued_at else now() end,
                token_issued_at = now(), token_expires_at = now() + make_interval(secs => %(seconds)s),
                token_version = token_version + 1, refresh_uncertain = false, status = 'CONNECTED', updated_at = now()
            where id = %(id)s and token_version = coalesce(%(replaces)s, token_version)
            """,
            {
                "id": integration_id,
                "access": vault.seal(tokens.access_token, Place(TABLE, "access_token", integration_id)),
                "refresh": refresh_token and vault.seal(refresh_token, Place(TABLE, "refresh_token", integration_id)),
                "seconds": tokens.expires_in,
                "replaces": replaces,
            },
        ).rowcount
    )


def mark_uncertain(connection: Connection, integration_id: UUID, version: int) -> None:
    """Mark the pair of this version: the response to its refresh was lost, so SoftPro may have rotated it or not."""
    connection.execute(
        "update softpro.integrations set refresh_uncertain = true where id = %s and token_version = %s",
        [integration_id, version],
    )


def expire(connection: Connection, integration_id: UUID, version: int, message: str) -> bool:
    """Set the integration to EXPIRED, because SoftPro no longer accepts the pair of this version.

    Returns:
        False if another pair is stored.
    """
    return bool(
        connection.execute(
            """
            update softpro.integrations
            set access_token = null, refresh_token = null, refresh_token_issued_at = null,
                token_issued_at = null, token_expires_at = null,
                token_version = token_version + 1, status = 'EXPIRED',
                last_error_at = now(), last_error_message = %(message)s, updated_at = now()
            where id = %(id)s and token_version = %(version)s
            """,
            {"id": integration_id, "version": version, "message": message},
        ).rowcount
    )


def erase(connection: Connection, integration_id: UUID) -> None:
    """Delete the tokens and set the integration to DISCONNECTED. Rows, mappings and cursors stay for a reconnection."""
    connection.execute(
        """
        update softpro.integrations
        set access_token = null, refresh_token = null, refresh_token_issued_at = null,
            token_issued_at = null, token_expires_at = null,
            token_version = token_version + 1, status = 'DISCONNECTED', deleted_at = now(), updated_at = now()
        where id = %s
        """,
        [integration_id],
    )
