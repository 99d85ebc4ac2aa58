"""Grants that no sync uses are refreshed, so that they do not end: a refresh token lives 30 days from its issue."""

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

REFRESH_AFTER_DAYS = 7  # several tries, and a vendor that is away for days, before the 30 are over
TRY_AGAIN_AFTER_DAYS = 1  # where a refresh brings no new refresh token, its age says nothing of the last refresh

log = logging.getLogger(__name__)


@dataclass
class KeptAlive:
    """What became of the grants that were old: how many were refreshed, and `{organization: why}` for the others."""

    refreshed: int = 0
    expired: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def keep_alive(database: Database, vault: Vault, settings: OAuthSettings) -> KeptAlive:
    """Refreshes every connected grant whose refresh token is older than 7 days, one after the other.

    A tenant whose refresh fails is named, and the others go on. A grant whose last refresh was sent and not answered
    waits until its access token has ended, as everywhere. Raises DatabaseUnavailable, SchemaError.
    """
    with database.connect() as connection:
        old = _old_grants(connection)
    kept = KeptAlive()
    for integration_id, organization_id in old:
        fields = {"integration_id": str(integration_id), "organization_id": organization_id}
        try:
            kept.refreshed += _refresh(database, vault, settings, integration_id)
        except (DatabaseUnavailable, SchemaError):  # no tenant's own
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
    """The integrations (id, organization) whose grants are to be refreshed, those that end first first."""
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
        {"old": REFRESH_AFTER_DAYS, "again": TRY_AGAIN_AFTER_DAYS},
    ).fetchall()
    return [(row["id"], row["organization_id"]) for row in found]


def _refresh(database: Database, vault: Vault, settings: OAuthSettings, integration_id: UUID) -> bool:
    """Whether there is another pair now than there was, ours or one that a sync has got meanwhile."""
    with database.connect() as connection:
        seen = oauth_tokens.read(connection, vault, integration_id)
        return oauth.refresh_access_token(connection, vault, settings, seen).version != seen.version
