"""Obtain SoftPro's OAuth 2.0 tokens: code exchange and refresh (RFC 6749), revocation (RFC 7009)."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from uuid import UUID

import msgspec
import requests

from softpro.db import audit_log, locks, oauth_tokens
from softpro.db.database import Connection, Database
from softpro.db.encryption import Vault
from softpro.db.locks import Lock
from softpro.db.oauth_tokens import Credentials, Grant, Tokens
from softpro.errors import (
    AuthenticationError,
    DecryptionError,
    NetworkError,
    NotConnected,
    ServerError,
    SoftProAPIError,
    TokenUnavailable,
)
from softpro.settings import OAuthSettings, VendorSettings
from softpro.softpro360.client import client_for
from softpro.softpro360.models import Profile
from softpro.softpro360.responses import MAX_CODE_LENGTH, MAX_MESSAGE_LENGTH, printable
from softpro.softpro360.transport import ApiResponse, exchange

PROFILE_SECONDS = 20

DEFAULT_TOKEN_SECONDS, MAX_TOKEN_SECONDS = 3600.0, 10 * 365 * 86_400.0
"""Lifetimes of an access token: an hour (docs/softpro-api.md) if the vendor gives no plausible value."""

_ACCESS_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
"""The characters that the header allows (RFC 6750 section 2.1)."""

_REFRESH_TOKEN = re.compile(r"[ -~]*")
"""RFC 6749 appendix A.17. An empty token counts as none."""

log = logging.getLogger(__name__)


class _TokenResponse(msgspec.Struct):
    """The tokens. `expires_in` is read leniently, because an odd value must not lose a rotated pair."""

    access_token: str
    expires_in: msgspec.Raw = msgspec.Raw()
    refresh_token: str | None = None


class _TokenError(msgspec.Struct):
    error: str
    error_description: str = ""


def exchange_code_for_tokens(settings: OAuthSettings, client: Credentials, code: str, code_verifier: str) -> Tokens:
    """Exchange the code for tokens.

    Raises:
        AuthenticationError: the code or the client is refused.
        SoftProAPIError: the request failed.
    """
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
    """Return an access token, refreshed if necessary, and the seconds for which it may be used without asking again.

    The token is not about to expire and is not the `refused` one.

    Raises:
        NotConnected: no usable grant exists.
        DecryptionError: a stored secret can't be decrypted.
        SoftProAPIError: the refresh failed.
    """
    with database.connect() as connection:
        grant = oauth_tokens.read(connection, vault, integration_id)
        if grant.access_token is None or grant.due or grant.access_token == refused:
            grant = refresh_access_token(connection, vault, settings, grant, refused)
    assert grant.access_token is not None
    return grant.access_token, grant.due_in


def token_source(
    database: Database, vault: Vault, settings: OAuthSettings, integration_id: UUID
) -> Callable[[str | None], str]:
    """Return a token function for a `Client`. It serves the access token from memory while it is valid and not refused.

    The function raises TokenUnavailable, NotConnected and DecryptionError.
    """
    token, good_until = "", 0.0

    def give(refused: str | None) -> str:
        nonlocal token, good_until
        if refused is not None or time.monotonic() >= good_until:
            try:
                token, due_in = get_valid_access_token(database, vault, settings, integration_id, refused)
            except SoftProAPIError as failed:  # not an error of the API, so its retries and circuit breaker ignore it
                raise TokenUnavailable(f"SoftPro issued no access token: {failed}") from failed
            good_until = time.monotonic() + due_in
        return token

    return give


def refresh_access_token(
    connection: Connection, vault: Vault, settings: OAuthSettings, seen: Grant, refused_token: str | None = None
) -> Grant:
    """Refresh the grant that was `seen`, unless another process has refreshed it. Return the grant to use.

    A lock admits one process at a time, and the new pair is committed before it is used. If a response was
    lost, here or in another process, the current access token stays in use until it expires, unless it is the
    `refused_token`.

    Raises:
        NotConnected: no grant is left.
        SoftProAPIError: the refresh failed.
    """
    integration_id = seen.credentials.integration_id
    with locks.locked(connection, Lock.TOKEN_REFRESH, integration_id):
        grant = oauth_tokens.read(connection, vault, integration_id)
        usable = grant.access_token and not grant.due and grant.access_token != refused_token
        if usable and (grant.version != seen.version or grant.uncertain):
            return grant
        if grant.refresh_token is None:
            raise NotConnected("The grant no longer exists: connect the organization again")
        form = {"grant_type": "refresh_token", "refresh_token": grant.refresh_token}
        try:
            tokens = _token_request(settings, grant.credentials, form)
        except AuthenticationError as refused:
            if refused.error_code != "invalid_grant":  # the client is refused, the grant may still be valid
                raise
            message = "SoftPro no longer honors the grant: connect the organization again"
            if oauth_tokens.expire(connection, integration_id, grant.version, message):
                raise NotConnected(message) from refused
        except (NetworkError, ServerError) as lost:
            if not (isinstance(lost, NetworkError) and not lost.sent):
                oauth_tokens.mark_uncertain(connection, integration_id, grant.version)
            doubted = oauth_tokens.read(connection, vault, integration_id)
            if doubted.due or doubted.access_token == refused_token:
                raise
            return doubted
        else:
            if oauth_tokens.store(connection, vault, integration_id, tokens, replaces=grant.version):
                log.info("token_refreshed", extra={"integration_id": str(integration_id)})
            elif tokens.refresh_token:  # a user reconnected or disconnected, so this pair would never be used
                revoke_token(settings, grant.credentials, tokens.refresh_token)
        # The pair that was just stored, or the one of a user who reconnected.
        grant = oauth_tokens.read(connection, vault, integration_id)
        if grant.access_token is None:
            raise NotConnected("The organization was disconnected during the token refresh: connect it again")
        return grant


def revoke_access(connection: Connection, vault: Vault, settings: OAuthSettings, integration_id: UUID) -> bool:
    """Erase the tokens and end the grant at the vendor (RFC 7009). Return False if the vendor was not notified.

    Raises:
        NotConnected: no grant exists.
    """
    with connection.transaction():
        grant = grant_to_end(connection, vault, integration_id)
        oauth_tokens.erase(connection, integration_id)
        audit_log.record(connection, "connection.end", integration_id=integration_id)
    if grant is None:
        return False
    token = grant.refresh_token or grant.access_token
    return token is None or revoke_token(settings, grant.credentials, token)


def grant_to_end(connection: Connection, vault: Vault, integration_id: UUID) -> Grant | None:
    """Return the current grant and its client, or None if it can't be decrypted.

    The row is locked, so a concurrent refresh can't store a newer pair before the transaction ends.

    Raises:
        NotConnected: no grant exists.
    """
    connection.execute("select from softpro.integrations where id = %s for update", [integration_id])
    try:
        return oauth_tokens.read(connection, vault, integration_id)
    except DecryptionError as lost:
        log.warning("grant_unknown", extra={"integration_id": str(integration_id), "error": str(lost)})
        return None


def revoke_token(settings: OAuthSettings, client: Credentials, token: str) -> bool:
    """End a grant at the vendor. Return False if the vendor was not notified."""
    form = {"token": token, "client_id": client.client_id, "client_secret": client.client_secret}
    try:
        response = _post(settings.revoke_url, form)
    except SoftProAPIError as away:
        log.warning("revoke_failed", extra={"integration_id": str(client.integration_id), "error": str(away)})
        return False
    return response.ok


def validate_token(
    connection: Connection, settings: VendorSettings, integration_id: UUID, environment: str, access_token: str
) -> Profile:
    """Ask the vendor for the owner of the token.

    Raises:
        AuthenticationError: the token is not valid.
        SoftProAPIError: the request failed.
    """
    client = client_for(connection, integration_id, environment, settings, lambda refused: access_token)
    client.deadline = time.monotonic() + PROFILE_SECONDS  # a user waits for this
    with client.session:
        return client.profile()


def _token_request(settings: OAuthSettings, client: Credentials, form: dict[str, str]) -> Tokens:
    credentials = {"client_id": client.client_id, "client_secret": client.client_secret}
    response = _post(settings.token_url, {**form, **credentials})
    if response.status_code in (400, 401):
        try:
            error_body = msgspec.json.decode(response.content, type=_TokenError)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            error_body = _TokenError(error="unreadable_response")
        kind = AuthenticationError if error_body.error != "unreadable_response" else ServerError
        error, description = (
            printable(error_body.error, MAX_CODE_LENGTH),
            printable(error_body.error_description, MAX_MESSAGE_LENGTH),
        )
        raise kind(
            f"The token endpoint responded {error}" + (f": {description}" if description else ""),
            status_code=response.status_code,
            error_code=error,
        )
    try:
        if not response.ok:
            raise ValueError(f"status {response.status_code}")
        good = msgspec.json.decode(response.content, type=_TokenResponse)
        if not (_ACCESS_TOKEN.fullmatch(good.access_token) and _REFRESH_TOKEN.fullmatch(good.refresh_token or "")):
            raise ValueError("characters that no token has")
    except (msgspec.DecodeError, ValueError, RecursionError) as broken:
        # The body may contain tokens, so the message quotes nothing of it.
        raise ServerError(
            f"The token endpoint's response can't be used ({type(broken).__name__}, status {response.status_code})",
            status_code=response.status_code,
        ) from None
    return Tokens(good.access_token, good.refresh_token or None, _token_seconds(bytes(good.expires_in)))


def _token_seconds(expires_in: bytes) -> float:
    """Return the seconds of `expires_in`, which is a number or a text that holds one. Zero would refresh every call."""
    try:
        seconds = float(expires_in.strip(b'"'))
    except ValueError:
        return DEFAULT_TOKEN_SECONDS
    return seconds if 0 < seconds <= MAX_TOKEN_SECONDS else DEFAULT_TOKEN_SECONDS


def _post(url: str, form: dict[str, str]) -> ApiResponse:
    with requests.Session() as session:
        return exchange(session, "POST", url, "SoftPro's OAuth server", data=form)
