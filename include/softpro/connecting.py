"""An organization's way to and from a connection: connect, callback, disconnect."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from softpro.entities import EntityType
from softpro.errors import AuthenticationError, ConsentRefused, SoftProError, StateError, UsageError
from softpro.mapping import sets
from softpro.services import Services
from softpro.store import grants, integrations
from softpro.store.database import Connection
from softpro.store.grants import Tokens
from softpro.store.integrations import Integration
from softpro.vendor import oauth
from softpro.vendor.client import Profile


def connect(
    services: Services,
    organization_id: str,
    *,
    client_id: str,
    client_secret: str,
    environment: str,
    browser: str | None = None,
    user_name: str | None = None,
) -> str:
    """Makes the organization's integration if it is absent, and returns the address that asks a person for consent.

    Raises UsageError. See `oauth.get_authorization_url` for `browser`.
    """
    with services.database.connect() as connection:
        integration = integrations.ensure(
            connection,
            services.vault,
            organization_id,
            client_id=client_id,
            client_secret=client_secret,
            environment=environment,
            sync_frequency=services.sync.interval,
        )
        return oauth.get_authorization_url(
            connection, services.vault, services.oauth, integration, browser=browser, user_name=user_name
        )


def callback(services: Services, answer: Mapping[str, str], browser: str | None = None) -> Integration:
    """Finishes an authorization from the parameters the vendor sent the browser back with (RFC 6749 section 4.1.2).

    Stores the tokens and the default mappings, all or nothing. Raises StateError, ConsentRefused, UsageError,
    SoftProAPIError; a connection that stood before stands after any of them.
    """
    if not answer.get("state"):
        raise StateError("The address holds no state: start again with connect")
    with services.database.connect() as connection:
        authorization = oauth.take_state(connection, services.vault, answer["state"], browser)
        if answer.get("error") or not answer.get("code"):
            raise oauth.refuse(
                connection, authorization, answer.get("error", "no code came back"), answer.get("error_description", "")
            )
        integration = integrations.get(connection, authorization.integration_id)
        client = grants.credentials(connection, services.vault, integration.id)
        try:
            tokens = oauth.exchange_code_for_tokens(services.oauth, client, answer["code"], authorization.code_verifier)
            try:
                profile = oauth.validate_token(services.vendor, integration.environment, tokens.access_token)
                _store(services, connection, integration, tokens, profile)
            except BaseException:
                # Nobody would ever use this grant, so it is not left standing at the vendor.
                oauth.revoke_token(services.oauth, client, tokens.refresh_token or tokens.access_token)
                raise
        except SoftProError as failed:
            oauth.refuse(connection, authorization, type(failed).__name__, str(failed))
            if isinstance(failed, AuthenticationError):
                raise ConsentRefused(f"SoftPro refused the authorization: {failed}") from failed
            raise
        return integrations.get(connection, integration.id)


def disconnect(services: Services, integration_id: UUID) -> bool:
    """Erases the tokens and ends the grant. Returns False when the vendor was not told.

    Raises NotFoundHere, NotConnected.
    """
    with services.database.connect() as connection:
        integrations.get(connection, integration_id)
        return oauth.revoke_access(connection, services.vault, services.oauth, integration_id)


def _store(
    services: Services, connection: Connection, integration: Integration, tokens: Tokens, profile: Profile
) -> None:
    known = integration.softpro_organization_id
    if known is not None and known != profile.organization_id:
        raise UsageError(
            f"{integration.organization_id} holds the data of SoftPro's organization {known!r}, "
            f"but the consent was given for {profile.organization_id!r}: choose {known!r} when you connect again"
        )
    with connection.transaction():
        grants.store(connection, services.vault, integration.id, tokens)
        connection.execute(
            """
            update softpro.integrations
            set softpro_organization_id = %s, deleted_at = null, consecutive_failures = 0, next_attempt_at = null
            where id = %s
            """,
            [profile.organization_id, integration.id],
        )
        sets.ensure_defaults(connection, integration.id, integration.organization_id, EntityType)
