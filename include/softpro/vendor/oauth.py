"""OAuth 2.0 with SoftPro: authorization code with PKCE (RFC 6749, RFC 7636), refresh, revocation (RFC 7009)."""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlencode
from uuid import UUID

import msgspec
import requests

from softpro.errors import (
    AuthenticationError,
    ConsentRefused,
    DecryptionError,
    NetworkError,
    NotConnected,
    ServerError,
    SoftProAPIError,
    StateError,
)
from softpro.settings import OAuthSettings, VendorSettings
from softpro.store import grants
from softpro.store.database import Connection, Database
from softpro.store.encryption import Place, Vault
from softpro.store.grants import Credentials, Grant, Tokens
from softpro.vendor.client import TIMEOUT_SECONDS, Profile, client_for, was_sent

SCOPES = "read:transactions write:transactions read:contacts write:contacts read:documents write:documents webhooks"
STATE_MINUTES = 10
PROFILE_SECONDS = 20
STATES = "softpro.oauth_states"

log = logging.getLogger(__name__)


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


class _TokenAnswer(msgspec.Struct):
    access_token: str
    expires_in: float
    refresh_token: str | None = None


class _TokenError(msgspec.Struct):
    error: str
    error_description: str = ""


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
) -> str:
    """Begins an authorization and returns the address to send the person to.

    `browser` is the secret of the cookie given to the browser that began; the callback must bring it again. None: begun
    on the command line. The state is stored hashed, works once and for 10 minutes. Client and environment stay with it:
    they are in force only once consent was given.
    """
    state, code_verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(64)
    integration_id = client.integration_id
    with connection.transaction():
        connection.execute("delete from softpro.oauth_states where expires_at < now() - interval '1 day'")
        connection.execute(
            """
            insert into softpro.oauth_states
                (state_hash, integration_id, organization_id, client_id, client_secret, environment,
                 code_verifier, browser_hash, user_name, expires_at)
            values (%s, %s, %s, %s, %s, %s, %s, %s, %s, now() + make_interval(mins => %s))
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


def take_state(connection: Connection, vault: Vault, state: str, browser: str | None) -> Authorization:
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


def exchange_code_for_tokens(settings: OAuthSettings, client: Credentials, code: str, code_verifier: str) -> Tokens:
    """Trades the code for tokens. Raises SoftProAPIError; AuthenticationError when the code or client is refused."""
    return _token_request(
        settings,
        client,
        {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": settings.redirect_uri,
            "code_verifier": code_verifier,
        },
    )


def get_valid_access_token(
    database: Database, vault: Vault, settings: OAuthSettings, integration_id: UUID, refused: str | None = None
) -> tuple[str, float]:
    """An access token that is not about to expire and is not the `refused` one, refreshed if need be; and for how many
    seconds it may be used before asking again.

    Raises NotConnected, DecryptionError, SoftProAPIError.
    """
    with database.connect() as connection:
        grant = grants.read(connection, vault, integration_id)
        if grant.access_token is None or grant.due or grant.access_token == refused:
            grant = refresh_access_token(connection, vault, settings, grant, refused)
    assert grant.access_token is not None
    return grant.access_token, grant.due_in


def token_source(
    database: Database, vault: Vault, settings: OAuthSettings, integration_id: UUID
) -> Callable[[str | None], str]:
    """For a `Client`: gives the access token, from memory while it is good and was not refused."""
    token, good_until = "", 0.0

    def give(refused: str | None) -> str:
        nonlocal token, good_until
        if refused is not None or time.monotonic() >= good_until:
            token, due_in = get_valid_access_token(database, vault, settings, integration_id, refused)
            good_until = time.monotonic() + due_in
        return token

    return give


def refresh_access_token(
    connection: Connection, vault: Vault, settings: OAuthSettings, seen: Grant, refused_token: str | None = None
) -> Grant:
    """Refreshes the grant that was `seen`, unless another process did so meanwhile. Returns the grant to use.

    One process at a time, under an advisory lock; the new pair is committed before anyone uses it. Where the answer is
    lost, the access token that is there is used to its end, unless it is the `refused_token`. Raises NotConnected where
    no grant is left, SoftProAPIError.
    """
    integration_id = seen.credentials.integration_id
    key = ["softpro token refresh", str(integration_id)]
    connection.execute("select pg_advisory_lock(hashtext(%s), hashtext(%s))", key)
    try:
        grant = grants.read(connection, vault, integration_id)
        if grant.version != seen.version and grant.access_token and not grant.due:
            return grant
        if grant.refresh_token is None:
            raise NotConnected("There is no grant any more: a person has to connect the organization")
        form = {"grant_type": "refresh_token", "refresh_token": grant.refresh_token}
        try:
            tokens = _token_request(settings, grant.credentials, form)
        except AuthenticationError as refused:
            if refused.error_code != "invalid_grant":  # our client is refused, the grant may still be good
                raise
            message = "SoftPro no longer honours the grant: a person has to connect the organization again"
            if grants.expire(connection, integration_id, grant.version, message):
                raise NotConnected(message) from refused
        except (NetworkError, ServerError) as lost:
            if not (isinstance(lost, NetworkError) and not lost.sent):
                grants.doubt(connection, integration_id, grant.version)
            doubted = grants.read(connection, vault, integration_id)
            if doubted.due or doubted.access_token == refused_token:
                raise
            return doubted
        else:
            if grants.store(connection, vault, integration_id, tokens, replaces=grant.version):
                log.info("token_refreshed", extra={"integration_id": str(integration_id)})
        grant = grants.read(connection, vault, integration_id)  # ours, or that of a person who connected meanwhile
        if grant.access_token is None:
            raise NotConnected("The organization was disconnected meanwhile")
        return grant
    finally:
        connection.execute("select pg_advisory_unlock(hashtext(%s), hashtext(%s))", key)


def revoke_access(connection: Connection, vault: Vault, settings: OAuthSettings, integration_id: UUID) -> bool:
    """Erases the tokens and ends the grant at the vendor (RFC 7009). Returns False when the vendor was not told.

    Raises NotConnected.
    """
    try:
        grant = grants.read(connection, vault, integration_id)
    except DecryptionError as lost:
        log.warning("revoke_failed", extra={"integration_id": str(integration_id), "error": str(lost)})
        grants.erase(connection, integration_id)
        return False
    grants.erase(connection, integration_id)
    token = grant.refresh_token or grant.access_token
    return token is None or revoke_token(settings, grant.credentials, token)


def revoke_token(settings: OAuthSettings, client: Credentials, token: str) -> bool:
    """Ends a grant at the vendor. Returns False when the vendor was not told."""
    form = {"token": token, "client_id": client.client_id, "client_secret": client.client_secret}
    try:
        answer = _post(settings.revoke_url, form)
    except SoftProAPIError as away:
        log.warning("revoke_failed", extra={"integration_id": str(client.integration_id), "error": str(away)})
        return False
    return answer.ok


def validate_token(settings: VendorSettings, environment: str, access_token: str) -> Profile:
    """Asks the vendor whose token this is. Raises AuthenticationError when it is not good, SoftProAPIError."""
    client = client_for(environment, settings, lambda refused: access_token)
    client.deadline = time.monotonic() + PROFILE_SECONDS  # a person waits for this
    return client.profile()


def _token_request(settings: OAuthSettings, client: Credentials, form: dict[str, str]) -> Tokens:
    credentials = {"client_id": client.client_id, "client_secret": client.client_secret}
    answer = _post(settings.token_url, {**form, **credentials})
    if answer.status_code in (400, 401):
        try:
            said = msgspec.json.decode(answer.content, type=_TokenError)
        except (msgspec.DecodeError, UnicodeDecodeError):
            said = _TokenError(error="unreadable_answer")
        kind = AuthenticationError if said.error != "unreadable_answer" else ServerError
        raise kind(
            f"The token endpoint answered {said.error}"
            + (f": {said.error_description}" if said.error_description else ""),
            status_code=answer.status_code,
            error_code=said.error,
        )
    try:
        if not answer.ok:
            raise ValueError(f"status {answer.status_code}")
        good = msgspec.json.decode(answer.content, type=_TokenAnswer)
    except (msgspec.DecodeError, ValueError) as broken:
        # The body may hold tokens, so the message holds nothing of it.
        raise ServerError(
            f"The token endpoint's answer can't be used ({type(broken).__name__}, status {answer.status_code})",
            status_code=answer.status_code,
        ) from None
    return Tokens(good.access_token, good.refresh_token, good.expires_in)


def _post(url: str, form: dict[str, str]) -> requests.Response:
    try:
        return requests.post(url, data=form, timeout=TIMEOUT_SECONDS, allow_redirects=False)
    except requests.RequestException as failed:
        message = f"SoftPro's OAuth server did not answer ({type(failed).__name__})"
        raise NetworkError(message, sent=was_sent(failed)) from None


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
