"""OAuth 2.0 tokens of SoftPro: code exchange and refresh (RFC 6749), revocation (RFC 7009)."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from uuid import UUID

import msgspec
import requests

from softpro.db import oauth_tokens
from softpro.db.database import Connection, Database
from softpro.db.encryption import Vault
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
from softpro.softpro360.responses import CODE_LENGTH, MESSAGE_LENGTH, plain
from softpro.softpro360.transport import ApiResponse, exchange

PROFILE_SECONDS = 20

USUAL_LIFE, LONGEST_LIFE = 3600.0, 10 * 365 * 86_400.0
"""Seconds. An access token lives for an hour (docs/softpro-api.md) where the vendor says nothing that can be so."""

_ACCESS_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
"""RFC 6750 section 2.1: what may stand in the header."""

_REFRESH_TOKEN = re.compile(r"[ -~]*")
"""RFC 6749 appendix A.17; an empty one is as good as none."""

log = logging.getLogger(__name__)


class _TokenAnswer(msgspec.Struct):
    """`expires_in` is read leniently: for its sake no rotated pair is thrown away."""

    access_token: str
    expires_in: msgspec.Raw = msgspec.Raw()
    refresh_token: str | None = None


class _TokenError(msgspec.Struct):
    error: str
    error_description: str = ""


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
        grant = oauth_tokens.read(connection, vault, integration_id)
        if grant.access_token is None or grant.due or grant.access_token == refused:
            grant = refresh_access_token(connection, vault, settings, grant, refused)
    assert grant.access_token is not None
    return grant.access_token, grant.due_in


def token_source(
    database: Database, vault: Vault, settings: OAuthSettings, integration_id: UUID
) -> Callable[[str | None], str]:
    """For a `Client`: gives the access token, from memory while it is good and was not refused.

    What it gives raises TokenUnavailable, NotConnected, DecryptionError.
    """
    token, good_until = "", 0.0

    def give(refused: str | None) -> str:
        nonlocal token, good_until
        if refused is not None or time.monotonic() >= good_until:
            try:
                token, due_in = get_valid_access_token(database, vault, settings, integration_id, refused)
            except SoftProAPIError as failed:  # not the API's: neither its retries nor its circuit breaker count it
                raise TokenUnavailable(f"SoftPro gave no access token: {failed}") from failed
            good_until = time.monotonic() + due_in
        return token

    return give


def refresh_access_token(
    connection: Connection, vault: Vault, settings: OAuthSettings, seen: Grant, refused_token: str | None = None
) -> Grant:
    """Refreshes the grant that was `seen`, unless another process did so meanwhile. Returns the grant to use.

    One process at a time, under an advisory lock; the new pair is committed before anyone uses it. Where the answer is
    lost, by this process or another, the access token that is there is used to its end, unless it is the
    `refused_token`. Raises NotConnected where no grant is left, SoftProAPIError.
    """
    integration_id = seen.credentials.integration_id
    key = ["softpro token refresh", str(integration_id)]
    connection.execute("select pg_advisory_lock(hashtext(%s), hashtext(%s))", key)
    try:
        grant = oauth_tokens.read(connection, vault, integration_id)
        usable = grant.access_token and not grant.due and grant.access_token != refused_token
        if usable and (grant.version != seen.version or grant.uncertain):
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
            elif tokens.refresh_token:  # a person connected anew or disconnected: nobody would ever use this pair
                revoke_token(settings, grant.credentials, tokens.refresh_token)
        grant = oauth_tokens.read(
            connection, vault, integration_id
        )  # ours, or that of a person who connected meanwhile
        if grant.access_token is None:
            raise NotConnected("The organization was disconnected meanwhile")
        return grant
    finally:
        connection.execute("select pg_advisory_unlock(hashtext(%s), hashtext(%s))", key)


def revoke_access(connection: Connection, vault: Vault, settings: OAuthSettings, integration_id: UUID) -> bool:
    """Erases the tokens and ends the grant at the vendor (RFC 7009). Returns False when the vendor was not told.

    Raises NotConnected.
    """
    with connection.transaction():
        grant = grant_to_end(connection, vault, integration_id)
        oauth_tokens.erase(connection, integration_id)
    if grant is None:
        return False
    token = grant.refresh_token or grant.access_token
    return token is None or revoke_token(settings, grant.credentials, token)


def grant_to_end(connection: Connection, vault: Vault, integration_id: UUID) -> Grant | None:
    """The grant that stands, with the client it was given to; None where it can't be read. Raises NotConnected.

    Its row is locked: a refresh under way can't store a newer pair between this and the end of the transaction.
    """
    connection.execute("select from softpro.integrations where id = %s for update", [integration_id])
    try:
        return oauth_tokens.read(connection, vault, integration_id)
    except DecryptionError as lost:
        log.warning("grant_unknown", extra={"integration_id": str(integration_id), "error": str(lost)})
        return None


def revoke_token(settings: OAuthSettings, client: Credentials, token: str) -> bool:
    """Ends a grant at the vendor. Returns False when the vendor was not told."""
    form = {"token": token, "client_id": client.client_id, "client_secret": client.client_secret}
    try:
        answer = _post(settings.revoke_url, form)
    except SoftProAPIError as away:
        log.warning("revoke_failed", extra={"integration_id": str(client.integration_id), "error": str(away)})
        return False
    return answer.ok


def validate_token(
    connection: Connection, settings: VendorSettings, integration_id: UUID, environment: str, access_token: str
) -> Profile:
    """Asks the vendor whose token this is. Raises AuthenticationError when it is not good, SoftProAPIError."""
    client = client_for(connection, integration_id, environment, settings, lambda refused: access_token)
    client.deadline = time.monotonic() + PROFILE_SECONDS  # a person waits for this
    with client.session:
        return client.profile()


def _token_request(settings: OAuthSettings, client: Credentials, form: dict[str, str]) -> Tokens:
    credentials = {"client_id": client.client_id, "client_secret": client.client_secret}
    answer = _post(settings.token_url, {**form, **credentials})
    if answer.status_code in (400, 401):
        try:
            said = msgspec.json.decode(answer.content, type=_TokenError)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            said = _TokenError(error="unreadable_answer")
        kind = AuthenticationError if said.error != "unreadable_answer" else ServerError
        error, description = plain(said.error, CODE_LENGTH), plain(said.error_description, MESSAGE_LENGTH)
        raise kind(
            f"The token endpoint answered {error}" + (f": {description}" if description else ""),
            status_code=answer.status_code,
            error_code=error,
        )
    try:
        if not answer.ok:
            raise ValueError(f"status {answer.status_code}")
        good = msgspec.json.decode(answer.content, type=_TokenAnswer)
        if not (_ACCESS_TOKEN.fullmatch(good.access_token) and _REFRESH_TOKEN.fullmatch(good.refresh_token or "")):
            raise ValueError("characters that no token has")
    except (msgspec.DecodeError, ValueError, RecursionError) as broken:
        # The body may hold tokens, so the message holds nothing of it.
        raise ServerError(
            f"The token endpoint's answer can't be used ({type(broken).__name__}, status {answer.status_code})",
            status_code=answer.status_code,
        ) from None
    return Tokens(good.access_token, good.refresh_token or None, _life(bytes(good.expires_in)))


def _life(expires_in: bytes) -> float:
    """The seconds of `expires_in`, a number or a text that holds one."""
    try:
        seconds = float(expires_in.strip(b'"'))
    except ValueError:
        return USUAL_LIFE
    return seconds if 0 <= seconds <= LONGEST_LIFE else USUAL_LIFE


def _post(url: str, form: dict[str, str]) -> ApiResponse:
    with requests.Session() as session:
        return exchange(session, "POST", url, "SoftPro's OAuth server", data=form)
