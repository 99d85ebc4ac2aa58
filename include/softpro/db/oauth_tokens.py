"""The secrets of an integration, in and out of their encrypted columns. Nothing here is ever logged or shown."""

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
    """A token endpoint's answer (RFC 6749 section 5.1); `expires_in` in seconds."""

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
    """What an integration may do at the vendor now; in `due_in` seconds its access token should be refreshed.

    `uncertain`: a refresh was sent and its answer lost, so the vendor may have ended this refresh token.
    """

    credentials: Credentials
    access_token: str | None = field(repr=False)
    refresh_token: str | None = field(repr=False)
    version: int
    due_in: float
    uncertain: bool

    @property
    def due(self) -> bool:
        """The access token should be refreshed before it is used."""
        return self.due_in <= 0


def credentials(connection: Connection, vault: Vault, integration_id: UUID) -> Credentials:
    """The integration's OAuth client. Raises DecryptionError, NotConnected where there is no such integration."""
    row = connection.execute(
        "select client_id, client_secret from softpro.integrations where id = %s and deleted_at is null",
        [integration_id],
    ).fetchone()
    if row is None:
        raise NotConnected(f"Integration {integration_id} is not connected")
    secret = vault.open(row["client_secret"], Place(TABLE, "client_secret", integration_id))
    return Credentials(integration_id, row["client_id"], secret)


def read(connection: Connection, vault: Vault, integration_id: UUID) -> Grant:
    """The integration's client and tokens. Raises DecryptionError, NotConnected where there is no such integration.

    A token is due for refresh ahead of its expiry by the smaller of 5 minutes and half its life; but only at its end
    where the answer to a refresh was lost, as another one may be taken for a stolen token (RFC 9700 section 4.14).
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
    """Replaces the token pair; an answer without a refresh token keeps the one that is there (RFC 6749 section 6),
    and the time of its issue.

    With `replaces`, only while the stored pair is still of that version: returns False where it is not.
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
    """A refresh of the pair of this version was sent and its answer lost: the vendor may have rotated it or not."""
    connection.execute(
        "update softpro.integrations set refresh_uncertain = true where id = %s and token_version = %s",
        [integration_id, version],
    )


def expire(connection: Connection, integration_id: UUID, version: int, message: str) -> bool:
    """The vendor no longer honours the pair of this version: EXPIRED. Returns False where another pair stands there."""
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
    """Forgets the tokens: DISCONNECTED. The synced rows, the mappings and the cursors stay for a reconnection."""
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
