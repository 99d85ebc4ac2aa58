"""Asking a person for consent: the authorization request (RFC 6749 section 4.1) with PKCE (RFC 7636), and its state."""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from urllib.parse import urlencode
from uuid import UUID

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
    """An authorization that came back from the vendor with a good state: of whom, and what was asked for."""

    organization_id: str
    client: Credentials
    environment: str
    code_verifier: str = field(repr=False)

    @property
    def integration_id(self) -> UUID:
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
    """Begins an authorization and returns the address to send the person to.

    `browser` is the secret of the cookie given to the browser that began; the callback must bring it again. None: begun
    on the command line. The state is stored hashed, works once and for 10 minutes. Client and environment stay with it:
    they are in force only once consent was given. `redirect_path` stays with it, too, for the way back.
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
    challenge = base64.urlsafe_b64encode(hashlib.sha256(code_verifier.encode()).digest()).rstrip(b"=").decode()
    query = urlencode(
        {
            "response_type": "code",
            "client_id": client.client_id,
            "redirect_uri": settings.redirect_uri,
            "scope": SCOPES,
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
    )
    return f"{settings.authorize_url}{'&' if '?' in settings.authorize_url else '?'}{query}"


def consume_state(connection: Connection, vault: Vault, state: str, browser: str | None) -> Authorization:
    """Uses up a state that the vendor sent back. Raises StateError, which does not tell an attacker which it was."""
    with connection.transaction():  # a secret that does not open leaves the state unused
        row = connection.execute(
            """
            update softpro.oauth_states
            set used_at = now()
            where state_hash = %(state)s and used_at is null and expires_at > now()
              and browser_hash is not distinct from %(browser)s
            returning integration_id, organization_id, client_id, client_secret, environment, code_verifier
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
            code_verifier=vault.open(row["code_verifier"], Place(STATES, "code_verifier", integration_id)),
        )


def redirect_path(connection: Connection, state: str, browser: str | None) -> str | None:
    """Where in the frontend this browser goes after the authorization; None where nothing was asked for."""
    row = connection.execute(
        "select redirect_path from softpro.oauth_states where state_hash = %s and browser_hash is not distinct from %s",
        [_hash(state), _hash(browser) if browser else None],
    ).fetchone()
    return row["redirect_path"] if row else None


def purge_states(connection: Connection) -> int:
    """Deletes the states that a day ago were already too old to be used. Returns how many."""
    query = "delete from softpro.oauth_states where expires_at < now() - interval '1 day'"
    return connection.execute(query).rowcount


def refuse(connection: Connection, authorization: Authorization, error: str, description: str) -> ConsentRefused:
    """Notes that consent was refused, and returns the error to raise. A connection that stood before still stands."""
    message = f"SoftPro did not authorize {authorization.organization_id}: {description or error}"
    connection.execute(
        """
        update softpro.integrations
        set status = case status when 'AUTHENTICATING' then 'PENDING' else status end,
            last_error_at = now(), last_error_message = %s, updated_at = now()
        where id = %s
        """,
        [message, authorization.integration_id],
    )
    return ConsentRefused(message)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
