"""Make the credentials of every kind of caller: users, confined users, and strangers with forged tokens."""

from __future__ import annotations

import base64
import json
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt

from ..support.api_server import JWT_SECRET
from ..support.routes import RIGHTS
from .http_client import Headers, Request
from .target import TEAM, USER, Target

OTHER_SECRET = "another secret, which Airflow's API server does not have, and long enough for SHA-512"


@dataclass(frozen=True)
class Caller:
    """A caller with its credential.

    Attributes:
        rights: the rights that the credential gives.
        confined: the caller may see only the organization `OWN`.
        headers: where the credential is sent.
        query: a credential in the address, which has to count for nothing.
    """

    name: str
    rights: frozenset[str] = frozenset()
    confined: bool = False
    headers: Headers = field(default=(), repr=False)
    query: str = field(default="", repr=False)

    @property
    def is_stranger(self) -> bool:
        return not self.rights

    def sign(self, request: Request) -> Request:
        """Return the request with this caller's credential."""
        separator = "&" if isinstance(request.target, str) and "?" in request.target else "?"
        target = f"{request.target!s}{separator}{self.query}" if self.query else request.target
        return Request(
            request.method, target, request.headers + self.headers, request.body, request.host, request.stranger
        )


def users(target: Target) -> list[Caller]:
    """Return the roles of Airflow, unconfined."""
    return [Caller(name, frozenset(rights), headers=bearer(target.api.tokens[name])) for name, rights in RIGHTS.items()]


def confined(target: Target) -> list[Caller]:
    """Return users who are confined to `OWN` by name and by team, in the roles with the most rights."""
    return [
        Caller(
            f"{role} confined by {how}",
            frozenset(RIGHTS[role]),
            confined=True,
            headers=bearer(signed(target, role, **claims)),
        )
        for how, claims in (("name", {"sub": USER}), ("team", {"sub": "teamed", "teams": [TEAM]}))
        for role in ("operator", "admin")
    ]


def strangers(target: Target) -> list[Caller]:
    """Return callers without a valid credential: none, forged tokens, and valid tokens in wrong places."""
    admin = target.api.tokens["admin"]
    in_headers = {
        "Basic": f"Basic {base64.b64encode(f'admin:{admin}'.encode()).decode()}",
        "Token": f"Token {admin}",
        "no scheme": admin,
        "Bearer without a token": "Bearer",
        "Bearer null": "Bearer null",
        "JWT scheme": f"JWT {admin}",
    }
    elsewhere = {name: ((name, admin),) for name in ("X-Auth-Token", "Proxy-Authorization", "X-Access-Token", "Token")}
    cookies = {name: (("Cookie", f"{name}={admin}"),) for name in ("token", "session", "access_token", "Authorization")}
    return [
        Caller("anonymous"),
        *(Caller(name, headers=bearer(token)) for name, token in forged(target).items()),
        *(Caller(f"authorization: {name}", headers=(("Authorization", value),)) for name, value in in_headers.items()),
        *(Caller(f"header {name}", headers=headers) for name, headers in elsewhere.items()),
        *(Caller(f"cookie {name}", headers=headers) for name, headers in cookies.items()),
        Caller("a proxy's user", headers=(("X-Forwarded-User", "admin"), ("X-Remote-User", "admin"))),
        *(Caller(f"query {name}", query=f"{name}={admin}") for name in ("token", "access_token", "jwt", "_token")),
    ]


def forged(target: Target) -> dict[str, str]:
    """Return tokens that are no longer valid, or were never signed by this server."""
    admin, reader = target.api.tokens["admin"], target.api.tokens["reader"]
    past, later = int(time.time()) - 3600, int(time.time()) + 3600
    head, claims, signature = admin.split(".")
    raised = _part({**_claims(reader), "role": "ADMIN", "sub": "admin"})
    return {
        "expired": signed(target, "admin", iat=past - 60, nbf=past - 60, exp=past),
        "not valid yet": signed(target, "admin", nbf=later, exp=later + 60),
        "without an expiry": signed(target, "admin", exp=None),
        "other audience": signed(target, "admin", aud="another-service"),
        "other key": _encode(_claims(admin), OTHER_SECRET, "HS512"),
        "empty key": f"{head}.{claims}.",
        "HS256": _encode(_claims(admin), JWT_SECRET, "HS256"),
        "HS384": _encode(_claims(admin), JWT_SECRET, "HS384"),
        **{
            f"algorithm {name}": f"{_part({'alg': name, 'typ': 'JWT'})}.{claims}."
            for name in ("none", "None", "NONE", "nOnE", "")
        },
        "algorithm none with a signature": f"{_part({'alg': 'none'})}.{claims}.{signature}",
        "raised role": f"{head}.{raised}.{reader.split('.')[2]}",
        "cut signature": admin[:-8],
        "changed signature": f"{head}.{claims}.{_flipped(signature)}",
        "changed claims": f"{head}.{_flipped(claims)}.{signature}",
        "key id of a file": f"{_part({'alg': 'HS512', 'kid': '/dev/null'})}.{claims}.{signature}",
        "embedded key": f"{_part({'alg': 'HS512', 'jwk': {'kty': 'oct', 'k': 'AAAA'}})}.{claims}.{signature}",
        "no token": "of.no.token",
        "JSON": json.dumps(_claims(admin)),
        "twice": f"{admin},{admin}",
    }


def signed(target: Target, user: str, **changes: Any) -> str:
    """Return the user's token with other claims, signed with the server's own key. A claim of None is left out."""
    claims = {**_claims(target.api.tokens[user]), **changes}
    return _encode({name: value for name, value in claims.items() if value is not None}, JWT_SECRET, "HS512")


def bearer(token: str) -> Headers:
    return (("Authorization", f"Bearer {token}"),)


def cookie(token: str) -> Headers:
    """Return the cookie with which Airflow's pages call its API."""
    return (("Cookie", f"_token={token}"),)


def _claims(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def _encode(claims: Mapping[str, Any], secret: str, algorithm: str) -> str:
    with warnings.catch_warnings(action="ignore"):  # about the length of the secret
        return jwt.encode(dict(claims), secret, algorithm=algorithm)


def _part(content: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def _flipped(text: str) -> str:
    middle = len(text) // 2
    return f"{text[:middle]}{'A' if text[middle] != 'A' else 'B'}{text[middle + 1 :]}"
