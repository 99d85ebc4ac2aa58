"""Keep grants, and the codes and tokens issued for them."""

import secrets
from dataclasses import dataclass, field

from softpro_sandbox.oauth.authorize import AuthorizationRequest
from softpro_sandbox.oauth.pkce import verify
from softpro_sandbox.rate_limit import Window

CODE_SECONDS = 60


@dataclass
class Grant:
    """An organization's consent. A token that is not in its dictionary is dead.

    Attributes:
        window: the grant's requests, for the rate limit.
        access: when each access token expires, in seconds.
        refresh: when each refresh token expires, in seconds.
    """

    organization_id: str
    scopes: tuple[str, ...]
    window: Window = field(default_factory=Window)
    access: dict[str, float] = field(default_factory=dict)
    refresh: dict[str, float] = field(default_factory=dict)
    revoked: bool = False

    def revoke(self) -> None:
        """Revoke the grant and all its tokens."""
        self.revoked = True
        self.access.clear()
        self.refresh.clear()


@dataclass
class Code:
    """An authorization code.

    Attributes:
        request: the request that the user approved.
        expires: when the code expires, in seconds.
        grant: the grant created when the code was redeemed.
    """

    organization_id: str
    request: AuthorizationRequest
    expires: float
    grant: Grant | None = None


@dataclass(frozen=True)
class Tokens:
    """The content of a token response; `refresh_token` is None when the old one stays valid."""

    access_token: str
    refresh_token: str | None
    expires_in: int
    scopes: tuple[str, ...]


@dataclass(frozen=True)
class Lifetimes:
    """The lifetimes of new tokens, in seconds."""

    access: int
    refresh: int


class InvalidGrant(Exception):
    """`invalid_grant` of RFC 6749 §5.2, with the problem as its message.

    Attributes:
        reused: a code or refresh token was used before, which revokes the whole grant (RFC 9700 §4.14).
    """

    def __init__(self, problem: str, *, reused: bool = False) -> None:
        super().__init__(problem)
        self.reused = reused


@dataclass
class Grants:
    """All grants, with every code and token ever issued. Dead ones are kept to detect their reuse."""

    grants: list[Grant] = field(default_factory=list)
    codes: dict[str, Code] = field(default_factory=dict)
    by_access: dict[str, Grant] = field(default_factory=dict)
    by_refresh: dict[str, Grant] = field(default_factory=dict)

    def issue_code(self, organization_id: str, request: AuthorizationRequest, now: float) -> str:
        """Issue an authorization code that works once, within 60 s."""
        code = f"spc_{secrets.token_urlsafe(24)}"
        self.codes[code] = Code(organization_id, request, now + CODE_SECONDS)
        return code

    def redeem(self, code: str, redirect_uri: str, verifier: str | None, now: float, lifetimes: Lifetimes) -> Tokens:
        """Exchange a code for the tokens of a new grant. Raise InvalidGrant."""
        held = self.codes.get(code)
        if held is None:
            raise InvalidGrant("the code is unknown")
        if held.grant is not None:
            held.grant.revoke()
            raise InvalidGrant("the code was used before; its grant is revoked", reused=True)
        if now >= held.expires:
            raise InvalidGrant("the code has expired")
        if redirect_uri != held.request.redirect_uri:
            raise InvalidGrant("redirect_uri differs from the authorization request")
        if not verify(verifier, held.request.code_challenge):
            raise InvalidGrant("code_verifier does not match code_challenge")
        grant = held.grant = Grant(held.organization_id, held.request.scopes)
        self.grants.append(grant)
        return self._issue(grant, now, lifetimes, with_refresh=True)

    def refresh(self, token: str, now: float, lifetimes: Lifetimes, *, rotate: bool) -> Tokens:
        """Exchange a refresh token for new tokens; it dies when it rotates. Raise InvalidGrant."""
        grant = self.by_refresh.get(token)
        if grant is None:
            raise InvalidGrant("the refresh token is unknown")
        if token not in grant.refresh:
            grant.revoke()
            raise InvalidGrant("the refresh token was used before or revoked; its grant is revoked", reused=True)
        if now >= grant.refresh[token]:
            raise InvalidGrant("the refresh token has expired")
        if rotate:
            del grant.refresh[token]
        return self._issue(grant, now, lifetimes, with_refresh=rotate)

    def revoke_token(self, token: str) -> None:
        """Revoke a refresh token with its whole grant, or an access token alone (RFC 7009 §2.1)."""
        if token in self.by_refresh:
            self.by_refresh[token].revoke()
        elif token in self.by_access:
            self.by_access[token].access.pop(token, None)

    def find_grant(self, access_token: str, now: float) -> Grant | None:
        """Return the grant of an access token, or None when the token is unknown, expired or revoked."""
        grant = self.by_access.get(access_token)
        if grant is None or now >= grant.access.get(access_token, 0.0):
            return None
        return grant

    def _issue(self, grant: Grant, now: float, lifetimes: Lifetimes, *, with_refresh: bool) -> Tokens:
        access = f"spa_{secrets.token_urlsafe(32)}"
        grant.access[access] = now + lifetimes.access
        self.by_access[access] = grant
        refresh = None
        if with_refresh:
            refresh = f"spr_{secrets.token_urlsafe(32)}"
            grant.refresh[refresh] = now + lifetimes.refresh
            self.by_refresh[refresh] = grant
        return Tokens(access, refresh, lifetimes.access, grant.scopes)
