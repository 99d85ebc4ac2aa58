"""An organization's way to and from a connection: connect, callback, disconnect."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from uuid import UUID

from softpro.connections.redirects import checked_path
from softpro.db import integration_settings, integrations, oauth_tokens
from softpro.db.database import Connection
from softpro.db.integration_settings import NextConnection
from softpro.db.integrations import Integration, checked_organization
from softpro.db.oauth_tokens import Credentials, Grant
from softpro.entities import EntityType
from softpro.errors import AuthenticationError, ConsentRefused, NotConnected, StateError, UsageError
from softpro.mapping import repository
from softpro.services import Services
from softpro.settings import CredentialSettings, load
from softpro.softpro360 import consent, oauth
from softpro.softpro360.consent import Authorization
from softpro.softpro360.models import Profile

log = logging.getLogger(__name__)


def connect(
    services: Services,
    organization_id: str,
    *,
    client_id: str | None = None,
    client_secret: str | None = None,
    environment: str | None = None,
    browser: str | None = None,
    user_name: str | None = None,
    redirect_path: str | None = None,
) -> str:
    """Makes the organization's integration if it is absent, and returns the address that asks a person for consent.

    Client and environment are those given, else what the integration's options name, else the client of the settings
    and, for a new integration, SANDBOX. `redirect_path` is where in the frontend the person goes afterwards. Raises
    UsageError, SettingsError. See `consent.get_authorization_url` for `browser`.
    """
    if redirect_path is not None:
        checked_path(redirect_path)
    checked_organization(organization_id)
    with services.database.connect() as connection:
        chosen = integration_settings.next_connection(connection, services.vault, organization_id)
        environment = environment or (chosen.environment if chosen else "SANDBOX")
        if client_id is None or client_secret is None:
            client_id, client_secret = _client(chosen)
        integration = integrations.ensure(
            connection,
            services.vault,
            organization_id,
            client_id=client_id,
            client_secret=client_secret,
            environment=environment,
            sync_frequency=services.sync.interval,
        )
        return consent.get_authorization_url(
            connection,
            services.vault,
            services.oauth,
            organization_id,
            Credentials(integration.id, client_id, client_secret),
            environment,
            browser=browser,
            user_name=user_name,
            redirect_path=redirect_path,
        )


def callback(services: Services, answer: Mapping[str, str], browser: str | None = None) -> Integration:
    """Finishes an authorization from the parameters the vendor sent the browser back with (RFC 6749 section 4.1.2).

    Stores the tokens and the default mappings, all or nothing. Raises StateError, ConsentRefused, UsageError,
    SoftProAPIError; a connection that stood before stands after any of them.
    """
    answer = {name: value.replace("\x00", "") for name, value in answer.items()}
    if not answer.get("state"):
        raise StateError("The address holds no state: start again with connect")
    with services.database.connect() as connection:
        authorization = consent.consume_state(connection, services.vault, answer["state"], browser)
        if answer.get("error") or not answer.get("code"):
            raise consent.refuse(
                connection, authorization, answer.get("error", "no code came back"), answer.get("error_description", "")
            )
        try:
            _finish(services, connection, authorization, answer["code"])
        except Exception as failed:
            consent.refuse(connection, authorization, type(failed).__name__, str(failed))
            if isinstance(failed, AuthenticationError):
                raise ConsentRefused(f"SoftPro refused the authorization: {failed}") from failed
            raise
        return integrations.get(connection, authorization.integration_id)


def redirect_path(services: Services, answer: Mapping[str, str], browser: str | None = None) -> str | None:
    """Where in the frontend the person goes after the callback with this answer, whatever comes of it.

    None: nothing was asked for, or the state is not good.
    """
    with services.database.connect() as connection:
        return consent.redirect_path(connection, answer.get("state", ""), browser)


def disconnect(services: Services, integration_id: UUID) -> bool:
    """Erases the tokens and ends the grant. Returns False when the vendor was not told.

    Raises NotFoundHere, NotConnected.
    """
    with services.database.connect() as connection:
        integrations.get(connection, integration_id)
        return oauth.revoke_access(connection, services.vault, services.oauth, integration_id)


def _client(chosen: NextConnection | None) -> tuple[str, str]:
    """Id and secret of the OAuth client that the options name, or else the settings. Raises SettingsError."""
    if chosen and chosen.client:
        return chosen.client.client_id, chosen.client.client_secret
    (credentials,) = load(CredentialSettings)
    return credentials.client_id, credentials.client_secret.get_secret_value()


def _finish(services: Services, connection: Connection, authorization: Authorization, code: str) -> None:
    """Code to tokens, tokens to profile, and all of it to the integration; or nothing, and the grant is given back.

    The grant that stood before is ended at the vendor once the new one is committed, if the vendor can be told.
    """
    client = authorization.client
    tokens = oauth.exchange_code_for_tokens(services.oauth, client, code, authorization.code_verifier)
    former: Grant | None
    try:
        profile = oauth.validate_token(
            connection, services.vendor, client.integration_id, authorization.environment, tokens.access_token
        )
        with connection.transaction():
            _require_same_organization(connection, authorization, profile)
            try:
                former = oauth.grant_to_end(connection, services.vault, client.integration_id)
            except NotConnected:  # disconnected: it was ended then
                former = None
            integrations.adopt(
                connection,
                services.vault,
                client.integration_id,
                client_id=client.client_id,
                client_secret=client.client_secret,
                environment=authorization.environment,
                softpro_organization_id=profile.organization_id,
            )
            oauth_tokens.store(connection, services.vault, client.integration_id, tokens)
            repository.ensure_defaults(connection, client.integration_id, authorization.organization_id, EntityType)
    except BaseException:
        # Nobody would ever use this grant, so it is not left standing at the vendor.
        oauth.revoke_token(services.oauth, client, tokens.refresh_token or tokens.access_token)
        raise
    if former and former.refresh_token and tokens.refresh_token not in (None, former.refresh_token):
        told = oauth.revoke_token(services.oauth, former.credentials, former.refresh_token)
        log.info("former_grant_ended", extra={"integration_id": str(client.integration_id), "vendor_told": told})


def _require_same_organization(connection: Connection, authorization: Authorization, profile: Profile) -> None:
    known = integrations.get(connection, authorization.integration_id).softpro_organization_id
    if known is not None and known != profile.organization_id:
        raise UsageError(
            f"{authorization.organization_id} holds the data of SoftPro's organization {known!r}, "
            f"but the consent was given for {profile.organization_id!r}: choose {known!r} when you connect again"
        )
