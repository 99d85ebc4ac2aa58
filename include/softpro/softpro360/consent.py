"""Ask a user for consent: the authorization request (RFC 6749 section 4.1) with PKCE (RFC 7636), and its state."""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from urllib.parse import urlencode
from uuid import UUID

from softpro.db import audit_log
from softpro.db.database import Connection
from softpro.db.encryption import Place, Vault
from softpro.db.oauth_tokens import Credentials
from softpro.errors import ConsentRefused, StateError
from softpro.settings import OAuthSettings

SCOPES = "read:transactions write:transactions read:contacts write:contacts read:documents write:documents webhooks"
STATE_MINUTES = 10
STATES = "softpro.oauth_states"


@dataclass(frozen=True)
class Authorization:
    """An authorization that the vendor returned with a valid state.

    Its organization, its client and environment, and where in the frontend the user returns to.
    """

    organization_id: str
    client: Credentials
    environment: str
    user_name: str | None
    redirect_path: str | None
    code_verifier: str = field(repr=False)

    @property
    def integration_id(self) -> UUID:
        """Return the integration that the client belongs to."""
        return self.client.integration_id


def get_authorization_url(
    connection: Connection,
    vault: Vault,
    settings: OAuthSettings,
    organization_id: str,
    client: Credentials,
    environment: str,
    *,
    browser: str | None = None,
    user_name: str | None = None,
    redirect_path: str | None = None,
) -> str:
    """Begin an authorization, and return the address to send the user to.

    The state is stored hashed, works once and expires after 10 minutes. The client and the environment are stored with
    it and take effect only after consent.

    Args:
        browser: the secret of the browser's cookie, which the callback must present; None on the command line.
        user_name: the user who begins.
        redirect_path: where in the frontend the user returns to.
    """
    state, code_verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(64)
    integration_id = client.integration_id
    with connection.transaction():
        connection.execute(
            """
            insert into softpro.oauth_states
                (state_hash, integration_id, organization_id, client_id, client_secret, environment,
                 code_verifier, browser_hash, user_name, redirect_path, expires_at)
            values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, now() + make_interval(mins => %s))
            """,
            [
                _hash(state),
                integration_id,
                organization_id,
                client.client_id,
                vault.seal(client.client_secret, Place(STATES, "client_secret", integration_id)),
                environment,
                vault.seal(code_verifier, Place(STATES, "code_verifier", integration_id)),
                _hash(browser) if browser else None,
                user_name,
                redirect_path,
                STATE_MINUTES,
            ],
        )
        connection.execute(
            """
            update softpro.integrations set status = 'AUTHENTICATING', updated_at = now()
            where id = %s and status = 'PENDING'
            """,
            [integration_id],
        )
    return _authorization_url(settings, client.client_id, state, code_verifier)


def rebind_state(
    connection: Connection, vault: Vault, settings: OAuthSettings, state: str, browser: str, new_browser: str
) -> str:
    """Bind a pending authorization to another browser, and return its address. That works once per `browser`.

    Raises:
        StateError: the authorization is not pending, or not bound to `browser`.
    """
    row = connection.execute(
        """
        update softpro.oauth_states
        set browser_hash = %(new)s
        where state_hash = %(state)s and used_at is null and expires_at > now() and browser_hash = %(browser)s
        returning integration_id, client_id, code_verifier
        """,
        {"state": _hash(state), "browser": _hash(browser), "new": _hash(new_browser)},
    ).fetchone()
    if row is None:
        raise StateError(
            "This address is unknown here, was already opened, or is older than 10 minutes: start again with connect"
        )
    verifier = vault.open(row["code_verifier"], Place(STATES, "code_verifier", row["integration_id"]))
    return _authorization_url(settings, row["client_id"], state, verifier)


def _authorization_url(settings: OAuthSettings, client_id: str, state: str, code_verifier: str) -> str:
    challenge = base64.urlsafe_b64encode(hashlib.sha256(code_verifier.encode()).digest()).rstrip(b"=").decode()
    query = urlencode(
        {
            "response_type": "code",
            "client_id": client_id,
            "redirect_uri": settings.redirect_uri,
            "scope": SCOPES,
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
    )
    return f"{settings.authorize_url}{'&' if '?' in settings.authorize_url else '?'}{query}"


def consume_state(connection: Connection, vault: Vault, state: str, browser: str | None) -> Authorization:
    """Use up a state that the vendor sent back.

    Raises:
        StateError: the state can't be used. The message does not reveal the cause, so that an attacker learns nothing.
    """
    with connection.transaction():  # a secret that can't be decrypted leaves the state unused
        row = connection.execute(
            """
            update softpro.oauth_states
            set used_at = now()
            where state_hash = %(state)s and used_at is null and expires_at > now()
              and browser_hash is not distinct from %(browser)s
            returning integration_id, organization_id, client_id, client_secret, environment, user_name, redirect_path,
                      code_verifier
            """,
            {"state": _hash(state), "browser": _hash(browser) if browser else None},
        ).fetchone()
        if row is None:
            raise StateError(
                "This authorization is unknown here, was already used, is older than 10 minutes, "
                "or was begun in another browser: start again with connect"
            )
        integration_id = row["integration_id"]
        secret = vault.open(row["client_secret"], Place(STATES, "client_secret", integration_id))
        return Authorization(
            organization_id=row["organization_id"],
            client=Credentials(integration_id, row["client_id"], secret),
            environment=row["environment"],
            user_name=row["user_name"],
            redirect_path=row["redirect_path"],
            code_verifier=vault.open(row["code_verifier"], Place(STATES, "code_verifier", integration_id)),
        )


def purge_states(connection: Connection) -> int:
    """Delete the states that expired more than a day ago, and return their number."""
    query = "delete from softpro.oauth_states where expires_at < now() - interval '1 day'"
    return connection.execute(query).rowcount


def forget(connection: Connection, integration_id: UUID) -> None:
    """Delete the authorizations of an integration, and what its calls to the vendor left."""
    connection.execute("delete from softpro.oauth_states where integration_id = %s", [integration_id])
    connection.execute("delete from softpro.budgets where integration_id = %s", [integration_id])
    connection.execute("delete from softpro.breakers where integration_id = %s", [integration_id])


def refuse(connection: Connection, authorization: Authorization, error: str, description: str) -> ConsentRefused:
    """Record that consent was refused, and return the error to raise. An earlier connection is kept."""
    refused = ConsentRefused(f"SoftPro did not authorize {authorization.organization_id}: {description or error}")
    with connection.transaction():
        connection.execute(
            """
            update softpro.integrations
            set status = case status when 'AUTHENTICATING' then 'PENDING' else status end,
                last_error_at = now(), last_error_message = %s, updated_at = now()
            where id = %s
            """,
            [str(refused), authorization.integration_id],
        )
        audit_log.record(
            connection,
            "connection.refuse",
            integration_id=authorization.integration_id,
            after={"error": error},
            began_by=authorization.user_name,
        )
    return refused


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
