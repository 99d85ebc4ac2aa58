"""Refresh grants that no sync uses, because a refresh token expires 30 days after its issue."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from uuid import UUID

from softpro.db import oauth_tokens
from softpro.db.database import Connection, Database
from softpro.db.encryption import Vault
from softpro.errors import DatabaseUnavailable, NotConnected, SchemaError, SoftProError
from softpro.settings import OAuthSettings
from softpro.softpro360 import oauth

REFRESH_AFTER_DAYS = 7  # leaves time for retries before the 30 days end, even if the vendor is down for days
RETRY_AFTER_DAYS = 1  # a refresh may return no new refresh token, so its age does not show the last refresh

log = logging.getLogger(__name__)


@dataclass
class KeepAliveResult:
    """The number of refreshed grants, and the reasons of the others by organization."""

    refreshed: int = 0
    expired: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def keep_alive(database: Database, vault: Vault, settings: OAuthSettings) -> KeepAliveResult:
    """Refresh every connected grant whose refresh token is older than 7 days, one after the other.

    A tenant whose refresh fails is reported, and the others continue. A grant whose last refresh got no response is
    skipped until its access token has expired.

    Raises:
        DatabaseUnavailable, SchemaError: the database can't be used.
    """
    with database.connect() as connection:
        old = _old_grants(connection)
    kept = KeepAliveResult()
    for integration_id, organization_id in old:
        fields = {"integration_id": str(integration_id), "organization_id": organization_id}
        try:
            kept.refreshed += _refresh(database, vault, settings, integration_id)
        except (DatabaseUnavailable, SchemaError):  # concerns all tenants
            raise
        except NotConnected as ended:
            log.warning("grant_ended", extra={**fields, "error": str(ended)})
            kept.expired[organization_id] = str(ended)
        except SoftProError as failed:
            log.warning("keep_alive_failed", extra={**fields, "error": str(failed)})
            kept.failed[organization_id] = str(failed)
        except Exception as unexpected:
            log.exception("keep_alive_failed", extra=fields)
            kept.failed[organization_id] = type(unexpected).__name__
    return kept


def _old_grants(connection: Connection) -> list[tuple[UUID, str]]:
    """Return the grants to refresh as (integration id, organization), those that expire first at the beginning."""
    found = connection.execute(
        """
        select id, organization_id
        from softpro.integrations
        where status = 'CONNECTED' and deleted_at is null and refresh_token is not null
          and coalesce(refresh_token_issued_at, token_issued_at) < now() - make_interval(days => %(old)s)
          and token_issued_at < now() - make_interval(days => %(again)s)
          and not (refresh_uncertain and token_expires_at > now())
        order by coalesce(refresh_token_issued_at, token_issued_at), id
        """,
        {"old": REFRESH_AFTER_DAYS, "again": RETRY_AFTER_DAYS},
    ).fetchall()
    return [(row["id"], row["organization_id"]) for row in found]


def _refresh(database: Database, vault: Vault, settings: OAuthSettings, integration_id: UUID) -> bool:
    """Refresh the grant. Return whether its tokens are new, from us or from a concurrent sync."""
    with database.connect() as connection:
        seen = oauth_tokens.read(connection, vault, integration_id)
        return oauth.refresh_access_token(connection, vault, settings, seen).version != seen.version
