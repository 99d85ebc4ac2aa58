"""Check authorization requests (RFC 6749 §4.1).

Some errors are shown to the user, others are sent to the client.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit, urlunsplit

from softpro_sandbox.oauth.pkce import is_challenge
from softpro_sandbox.oauth.scopes import parse_scope

PARAMETERS = (
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "code_challenge",
    "code_challenge_method",
)


@dataclass(frozen=True)
class AuthorizationRequest:
    """A valid request for consent."""

    client_id: str
    redirect_uri: str
    scopes: tuple[str, ...]
    state: str | None
    code_challenge: str | None


class UntrustedRequest(Exception):
    """The client or redirect URI is unknown: show the error as a page, never redirect (§4.1.2.1)."""


class RefusedRequest(Exception):
    """An error that is sent to the client through its redirect URI (§4.1.2.1)."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.location = location


def read_request(params: Mapping[str, str], client_id: str, redirect_uris: Sequence[str]) -> AuthorizationRequest:
    """Check the parameters of an authorization request.

    Args:
        params: the parameters as sent.
        client_id: the id of the only known client.
        redirect_uris: the exact URIs allowed; when empty, any URI on a loopback address.

    Raises:
        UntrustedRequest: the client or the redirect URI is unknown.
        RefusedRequest: any other parameter is wrong.
    """
    if params.get("client_id") != client_id:
        raise UntrustedRequest("The client_id is unknown.")
    redirect_uri = params.get("redirect_uri", "")
    if not is_allowed(redirect_uri, redirect_uris):
        raise UntrustedRequest(f"The redirect_uri is not registered for this client: {redirect_uri or '(none)'}")
    state = params.get("state")

    def refuse(error: str, description: str) -> RefusedRequest:
        return RefusedRequest(redirect_to(redirect_uri, error=error, error_description=description, state=state))

    if params.get("response_type") != "code":
        raise refuse("unsupported_response_type", "response_type must be code")
    challenge = params.get("code_challenge")
    method = params.get("code_challenge_method")
    if challenge is not None and (method != "S256" or not is_challenge(challenge)):
        raise refuse("invalid_request", "code_challenge must be 43 base64url characters, code_challenge_method S256")
    if challenge is None and method is not None:
        raise refuse("invalid_request", "code_challenge_method without code_challenge")
    try:
        scopes = parse_scope(params.get("scope"))
    except ValueError as error:
        raise refuse("invalid_scope", str(error)) from None
    return AuthorizationRequest(client_id, redirect_uri, scopes, state, challenge)


def is_allowed(uri: str, registered: Sequence[str]) -> bool:
    """Return whether a redirect URI is registered or, when none is registered, on loopback."""
    if registered:
        return uri in registered
    try:
        parts = urlsplit(uri)
        host = parts.hostname or ""
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and is_loopback and "#" not in uri and parts.username is None


def redirect_to(uri: str, **parameters: str | None) -> str:
    """Add parameters to the query of a redirect URI, without those that are None."""
    parts = urlsplit(uri)
    added = urlencode({name: value for name, value in parameters.items() if value is not None})
    return urlunsplit(parts._replace(query="&".join(part for part in (parts.query, added) if part)))
