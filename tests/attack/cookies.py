"""Change something with a browser's cookie alone, as a page of another site could."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from urllib.parse import urlencode, urlsplit

from ..support.routes import ROUTES, Route
from .attempts import Attempt
from .http_client import Headers, Request, Response
from .identities import cookie
from .judge import attack, control
from .target import Target

EVIL = "https://evil.example"
CSRF = ("X-Requested-With", "XMLHttpRequest")
REFUSED = frozenset({400, 401, 403, 404, 405, 413})


def forgeries(own: str) -> Mapping[str, Headers]:
    """Return by name the headers that a page of another site could cause, or that prove too little.

    `own` is this server's origin.
    """
    host = urlsplit(own).netloc
    return {
        "no header": (),
        "origin of another site": (("Origin", EVIL), CSRF),
        "origin null": (("Origin", "null"), CSRF),
        "empty origin": (("Origin", ""), CSRF),
        "own origin without the header": (("Origin", own),),
        "own origin in upper case": (("Origin", own.upper()),),
        "own host as a prefix": (("Origin", f"{own}.evil.example"), CSRF),
        "own host as a suffix": (("Origin", f"https://evil-{host}"), CSRF),
        "own host as a user": (("Origin", f"{own}@evil.example"), CSRF),
        "own host with a path": (("Origin", f"{own}/"), CSRF),
        "another port": (("Origin", "http://127.0.0.1:1"), CSRF),
        "another scheme": (("Origin", own.replace("http:", "https:")), CSRF),
        "another name of the host": (("Origin", own.replace("127.0.0.1", "localhost")), CSRF),
        "two origins": (("Origin", EVIL), ("Origin", own), CSRF),
        "a list of origins": (("Origin", f"{own}, {EVIL}"), CSRF),
        "own referer": (("Referer", f"{own}/"), CSRF),
        "referer of another site": (("Referer", f"{EVIL}/?{own}"), CSRF),
        "cross-site": (("Sec-Fetch-Site", "cross-site"), ("Origin", own), CSRF),
        "same-site": (("Sec-Fetch-Site", "same-site"), ("Origin", own), CSRF),
        "none": (("Sec-Fetch-Site", "none"), CSRF),
        "same-origin without the header": (("Sec-Fetch-Site", "same-origin"), ("Origin", own)),
        "Same-Origin in capitals": (("Sec-Fetch-Site", "Same-Origin"), ("Origin", EVIL), CSRF),
        "same-origin in a list": (("Sec-Fetch-Site", "cross-site, same-origin"), CSRF),
        "empty bearer": (("Authorization", "Bearer "),),
        "bearer and a tab": (("Authorization", "Bearer \t"),),
        "bearer of another": (("Authorization", "Bearer x"), CSRF),
        "basic": (("Authorization", "Basic eDp4"), CSRF),
        "two authorizations": (("Authorization", "Bearer x"), ("Authorization", "Basic eDp4")),
        "bearer without a value and spaces": (("Authorization", b"bearer \xc2\xa0"),),
        "method in a header": (("X-HTTP-Method-Override", "POST"), ("Origin", EVIL)),
    }


def forms(body: bytes) -> Mapping[str, tuple[str, bytes]]:
    """Return by name the types and the bodies that a form of another site can send without being asked."""
    boundary = "b"
    part = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + body + b"\r\n--b--\r\n"
    return {
        "text/plain": ("text/plain", body),
        "text/plain with JSON in its name": ("text/plain; application/json", body),
        "form": ("application/x-www-form-urlencoded", urlencode({"a": body}).encode()),
        "form with JSON": ("application/x-www-form-urlencoded", body),
        "multipart": (f"multipart/form-data; boundary={boundary}", part),
        "no type": ("", body),
    }


def attempts(target: Target) -> Iterator[Attempt]:
    """Yield every changing route with every forgery, and every GET by a page of another site."""
    browser = cookie(target.api.tokens["admin"])
    proof: Headers = (*browser, ("Origin", target.api.origin), CSRF)
    for route in ROUTES:
        name, request = f"{route.method} {route.path}", target.own.request(route)
        if route.method == "GET":
            sent = _from_elsewhere(request, browser)
            yield attack(target, "GET of another site", name, sent, {200}, _not_shared, sees_all=True)
            continue
        yield control(target, "own page", name, request.with_headers(*proof))
        for kind, headers in forgeries(target.api.origin).items():
            yield attack(target, kind, name, request.with_headers(*browser, *headers), REFUSED)
        for kind, (content_type, body) in forms(request.body or b"").items():
            typed = (("Content-Type", content_type),) if content_type else ()
            form = Request(request.method, request.target, (*typed, *browser, ("Origin", EVIL)), body)
            yield attack(target, f"form: {kind}", name, form, REFUSED)
        yield from _by_get(target, route, request, browser)


def _by_get(target: Target, route: Route, request: Request, browser: Headers) -> Iterator[Attempt]:
    """Yield the change as a link, with the method and the body in its address."""
    named = {"_method": route.method, "method": route.method, "body": (request.body or b"").decode()}
    separator = "&" if "?" in str(request.target) else "?"
    link = replace(request, method="GET", target=f"{request.target!s}{separator}{urlencode(named)}", body=None)
    yield attack(target, "link", f"{route.method} {route.path}", _from_elsewhere(link, browser), REFUSED | {200})
    preflight = Request(
        "OPTIONS", request.target, (*browser, ("Origin", EVIL), ("Access-Control-Request-Method", route.method))
    )
    yield attack(target, "preflight", f"{route.method} {route.path}", preflight, REFUSED, _not_shared)


def _from_elsewhere(request: Request, browser: Headers) -> Request:
    return replace(request, headers=(*browser, ("Origin", EVIL), ("Sec-Fetch-Site", "cross-site")))


def _not_shared(request: Request, response: Response) -> str:
    """Return a problem if the response lets another site read it."""
    allowed = response.header("Access-Control-Allow-Origin")
    return f"another origin may read it: {allowed}" if allowed else ""
