"""Bind an authorization to the browser that began it, by a cookie of its own for each state.

A cookie that was there before is never taken over, so that nobody can plant one. Two tabs do not disturb each other.
"""

from __future__ import annotations

import hashlib
from typing import Any

from fastapi import Request, Response

from softpro.settings import OAuthSettings, load

SECONDS = 600


def bind(response: Response, request: Request, state: str, browser: str) -> None:
    """Set the cookie with the secret of the browser."""
    response.set_cookie(
        _name(state),
        browser,
        max_age=SECONDS,
        samesite="lax",  # the vendor's redirect is a top-level navigation, which Lax lets through
        **_attributes(request),
    )


def secret(request: Request, state: str) -> str | None:
    """Return the secret of the browser that began with this state, or None in any other browser."""
    return request.cookies.get(_name(state))


def release(response: Response, request: Request, state: str) -> None:
    """Delete the cookie."""
    response.delete_cookie(_name(state), samesite="lax", **_attributes(request))


def _name(state: str) -> str:
    """Return the name of the cookie. The prefix keeps other hosts of the domain from setting it."""
    digest = hashlib.sha256(state.encode()).hexdigest()[:16]
    return f"__Host-softpro_connect_{digest}" if _is_secure() else f"softpro_connect_{digest}"


def _attributes(request: Request) -> dict[str, Any]:
    secure = _is_secure()
    path = "/" if secure else request.scope.get("root_path") or "/"  # the prefix demands the path /
    return {"path": path, "httponly": True, "secure": secure}


def _is_secure() -> bool:
    """Return whether the browser comes back over TLS, which a proxy may end, so that the request's scheme is http."""
    (settings,) = load(OAuthSettings)
    return settings.redirect_uri.startswith("https:")
