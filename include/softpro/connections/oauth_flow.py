"""Connect an organization to SoftPro, handle the callback, and disconnect it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from uuid import UUID

from softpro.connections.redirects import validate_path
from softpro.db import audit_log, integration_settings, integrations, oauth_tokens
from softpro.db.database import Connection
from softpro.db.integration_settings import NextConnection
from softpro.db.integrations import Integration, validate_organization
from softpro.db.oauth_tokens import Credentials, Grant
from softpro.entities import EntityType
from softpro.errors import AuthenticationError, ConsentRefused, NotConnected, StateError, UsageError
from softpro.mapping import repository
from softpro.services import Services
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
    """Create the organization's integration if it does not exist, and return the URL that asks a user for consent.

    Args:
        client_id: the OAuth client; by default that of the integration's options, else that of the settings.
        client_secret: the client's secret.
        environment: by default that of the integration's options, or SANDBOX for a new integration.
        browser: see `consent.get_authorization_url`.
        redirect_path: the page of the frontend that the user returns to.

    Raises:
        UsageError: an argument is invalid.
        SettingsError: no OAuth client is configured.
    """
    if redirect_path is not None:
        validate_path(redirect_path)
    validate_organization(organization_id)
    with services.database.connect() as connection:
        chosen = integration_settings.next_connection(connection, services.vault, organization_id)
        environment = environment or (chosen.environment if chosen else "SANDBOX")
        if client_id is None or client_secret is None:
            client_id, client_secret = _client(services, chosen)
        integration = integrations.ensure(
            connection,
            services.vault,
            organization_id,
            client_id=client_id,
            client_secret=client_secret,
            environment=environment,
            sync_frequency=services.sync.interval,
        )
        with connection.transaction():
            url = consent.get_authorization_url(
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
            wanted = {"environment": environment, "clientId": client_id}
            audit_log.record(connection, "connection.begin", integration_id=integration.id, after=wanted)
        return url


def callback(services: Services, answer: Mapping[str, str], browser: str | None = None) -> Integration:
    """Finish an authorization and return the integration; store the tokens and default mappings, all or nothing.

    An existing connection survives any error.

    Args:
        answer: the parameters with which SoftPro redirected the browser (RFC 6749 section 4.1.2).

    Raises:
        StateError: the state is missing, unknown or expired.
        ConsentRefused: SoftPro or the user refused the authorization.
        UsageError: the consent is for another organization.
        SoftProAPIError: a request to SoftPro failed.
    """
    return finish(services, accept(services, answer, browser), answer)


def accept(services: Services, answer: Mapping[str, str], browser: str | None = None) -> Authorization:
    """Use up the state with which SoftPro redirected the browser, and return its authorization. Raises StateError."""
    if not answer.get("state"):
        raise StateError("The address contains no state: start again with connect")
    with services.database.connect() as connection:
        return consent.consume_state(connection, services.vault, answer["state"], browser)


def finish(services: Services, authorization: Authorization, answer: Mapping[str, str]) -> Integration:
    """Finish an accepted authorization; see `callback`."""
    answer = {name: value.replace("\x00", "") for name, value in answer.items()}
    with services.database.connect() as connection:
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


def rebind(services: Services, state: str, browser: str, new_browser: str) -> str:
    """Bind a pending authorization to another browser; see `consent.rebind_state`."""
    with services.database.connect() as connection:
        return consent.rebind_state(connection, services.vault, services.oauth, state, browser, new_browser)


def disconnect(services: Services, integration_id: UUID) -> bool:
    """Erase the tokens, revoke the grant, and return whether SoftPro was notified.

    Raises:
        NotFoundHere: no such integration exists.
        NotConnected: the integration is disconnected already.
    """
    with services.database.connect() as connection:
        integrations.get(connection, integration_id)
        return oauth.revoke_access(connection, services.vault, services.oauth, integration_id)


def remove(connection: Connection, integration: Integration) -> None:
    """Remove an integration that never connected, with its pending consents.

    Raises:
        UsageError: it was connected, or holds mappings or records.
    """
    with connection.transaction():
        audit_log.record(connection, "connection.remove", integration_id=integration.id)
        consent.forget(connection, integration.id)
        if not integrations.remove_unconnected(connection, integration.id):
            raise UsageError(
                f"{integration.organization_id} was connected, or holds mappings or records: to end its connection, "
                f"run: python -m softpro disconnect {integration.organization_id}"
            )


def _client(services: Services, chosen: NextConnection | None) -> tuple[str, str]:
    """Return the id and secret of the OAuth client from the options, or else the settings. Raises SettingsError."""
    if chosen and chosen.client:
        return chosen.client.client_id, chosen.client.client_secret
    return services.credentials.client_id, services.credentials.client_secret.get_secret_value()


def _finish(services: Services, connection: Connection, authorization: Authorization, code: str) -> None:
    """Exchange the code for tokens, read the profile, and store all of it; after an error, revoke the new grant.

    The previous grant is revoked at SoftPro once the new one is committed, if SoftPro can be reached.
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
            except NotConnected:  # the grant was revoked by the disconnect
                former = None
            integrations.apply_consent(
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
            audit_log.record(
                connection,
                "connection.finish",
                integration_id=client.integration_id,
                after={
                    "environment": authorization.environment,
                    "clientId": client.client_id,
                    "softproOrganizationId": profile.organization_id,
                },
                began_by=authorization.user_name,
            )
    except BaseException:
        # Nothing would ever use this grant, so do not leave it valid at SoftPro.
        oauth.revoke_token(services.oauth, client, tokens.refresh_token or tokens.access_token)
        raise
    if former and former.refresh_token and tokens.refresh_token not in (None, former.refresh_token):
        notified = oauth.revoke_token(services.oauth, former.credentials, former.refresh_token)
        log.info("former_grant_ended", extra={"integration_id": str(client.integration_id), "vendor_told": notified})


def _require_same_organization(connection: Connection, authorization: Authorization, profile: Profile) -> None:
    known = integrations.get(connection, authorization.integration_id).softpro_organization_id
    if known is not None and known != profile.organization_id:
        raise UsageError(
            f"{authorization.organization_id} holds the data of SoftPro's organization {known!r}, "
            f"but the consent was given for {profile.organization_id!r}: choose {known!r} when you connect again"
        )
