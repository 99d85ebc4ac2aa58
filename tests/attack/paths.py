"""Spell the paths of closed routes in ways that a router, a proxy or a server could read differently."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from urllib.parse import urlsplit

from ..support.api_server import PREFIX
from ..support.routes import ROUTES, Route
from . import identities
from .attempts import Attempt, Verdict
from .http_client import Headers, Request, Response
from .identities import Caller
from .judge import REFUSED, answer, attack, control, shown
from .target import Target

CLOSED = 0
MOVED = frozenset({307, 308})
TOO_LONG = frozenset({414, 431})
Spell = Callable[[str, str], str | bytes]
"""A function of the path and the query, which returns another spelling of the whole address."""


def _path(change: Callable[[str], str | bytes]) -> Spell:
    """Return a spelling that changes the path below the prefix."""

    def spell(path: str, query: str) -> bytes:
        changed = change(path)
        changed = changed if isinstance(changed, bytes) else changed.encode()
        return PREFIX.encode() + changed + (f"?{query}".encode() if query else b"")

    return spell


def _whole(change: Callable[[str, str], str]) -> Spell:
    """Return a spelling that changes the prefix and the path."""

    def spell(path: str, query: str) -> str:
        changed = change(PREFIX, path)
        return f"{changed}?{query}" if query else changed

    return spell


def _encoded(path: str) -> str:
    """Return the path with every letter as %XX."""
    return "".join(f"%{ord(letter):02x}" if letter.isalpha() else letter for letter in path)


SAME: Mapping[str, Spell] = {
    "as it is": _path(lambda path: path),
    "encoded letters": _path(_encoded),
    "encoded first letter": _path(lambda path: f"/%{ord(path[1]):02X}{path[2:]}"),
    "encoded prefix": _whole(lambda prefix, path: _encoded(prefix) + path),
    "absolute address": lambda path, query: f"http://localhost{PREFIX}{path}" + (f"?{query}" if query else ""),
    "parameters twice": _path(lambda path: path + "?a=1&a=2"),
    "fragment": lambda path, query: f"{PREFIX}{path}?{query}#/health",
}
"""Spellings that mean the path itself. A caller with the right gets its response for the first three."""

OTHER: Mapping[str, Spell] = {
    "double encoding": _path(lambda path: _encoded(path).replace("%", "%25")),
    "triple encoding": _path(lambda path: _encoded(path).replace("%", "%2525")),
    "encoded slash": _path(lambda path: "/" + path[1:].replace("/", "%2f")),
    "encoded first slash": _path(lambda path: "%2F" + path[1:]),
    "doubly encoded slash": _path(lambda path: "%252f" + path[1:]),
    "backslash": _path(lambda path: path.replace("/", "\\")),
    "encoded backslash": _path(lambda path: path.replace("/", "%5c")),
    "slash at the end": _path(lambda path: path + "/"),
    "slashes at the end": _path(lambda path: path + "//"),
    "encoded slash at the end": _path(lambda path: path + "%2f"),
    "double slash": _path(lambda path: "/" + path),
    "triple slash": _path(lambda path: path.replace("/", "///")),
    "double slash in the prefix": _whole(lambda prefix, path: "/" + prefix + path),
    "dot": _path(lambda path: "/." + path),
    "dot at the end": _path(lambda path: path + "/."),
    "encoded dot": _path(lambda path: "/%2e" + path),
    "trailing dot": _path(lambda path: path + "."),
    "dots through health": _path(lambda path: "/health/.." + path),
    "encoded dots through health": _path(lambda path: "/health/%2e%2e" + path),
    "encoded segments through health": _path(lambda path: "/health%2f..%2f" + path[1:]),
    "doubly encoded dots": _path(lambda path: "/health/%252e%252e" + path),
    "dots with a parameter": _path(lambda path: "/health/..;" + path),
    "dots out of the API": _whole(lambda prefix, path: f"{prefix}/../softpro{path}"),
    "dots from the root": _whole(lambda prefix, path: f"/airflow/..{prefix}{path}"),
    "dots of the webhook": _path(lambda path: "/webhooks/.." + path),
    "dots of the connection": _path(lambda path: "/connect/.." + path),
    "callback before": _path(lambda path: "/callback" + path),
    "health before": _path(lambda path: "/health" + path),
    "health after": _path(lambda path: path + "/health"),
    "health as a parameter": _path(lambda path: path + ";/health"),
    "semicolon": _path(lambda path: path + ";"),
    "semicolon with a name": _path(lambda path: path + ";a=b"),
    "semicolon before": _path(lambda path: "/;" + path),
    "session id": _path(lambda path: path + ";jsessionid=1"),
    "upper case": _path(str.upper),
    "first letter in upper case": _path(lambda path: "/" + path[1:].capitalize()),
    "prefix in upper case": _whole(lambda prefix, path: prefix.upper() + path),
    "NUL at the end": _path(lambda path: path + "%00"),
    "NUL and a suffix": _path(lambda path: path + "%00.js"),
    "raw NUL": _path(lambda path: path.encode() + b"\x00"),
    "NUL before": _path(lambda path: "/%00" + path[1:]),
    "line break": _path(lambda path: path + "%0d%0aX-Injected:%20yes"),
    "raw line break": _path(lambda path: path.encode() + b"\n"),
    "tab": _path(lambda path: path + "%09"),
    "raw tab": _path(lambda path: path.encode() + b"\t"),
    "space": _path(lambda path: path + "%20"),
    "space before": _path(lambda path: "/%20" + path[1:]),
    "overlong slash": _path(lambda path: path.replace("/", "%c0%af")),
    "overlong dots": _path(lambda path: "/health/%c0%ae%c0%ae" + path),
    "overlong letter": _path(lambda path: f"/%c1%{ord(path[1]) + 0x40 & 0xFF:02x}{path[2:]}"),
    "wide letter": _path(lambda path: f"/{chr(ord(path[1]) + 0xFEE0)}{path[2:]}"),
    "wide slash": _path(lambda path: "/" + path[1:] + "\uff0f"),
    "dotless i": _path(lambda path: path.replace("i", "\u0131")),
    "long s": _path(lambda path: path.replace("s", "\u017f")),
    "combining mark": _path(lambda path: path + "\u0301"),
    "zero width": _path(lambda path: "/\u200b" + path[1:]),
    "invalid UTF-8": _path(lambda path: path.encode() + b"\xff\xfe"),
    "percent u": _path(lambda path: f"/%u{ord(path[1]):04x}{path[2:]}"),
    "half an escape": _path(lambda path: path + "%"),
    "suffix .json": _path(lambda path: path + ".json"),
    "suffix .css": _path(lambda path: path + "/a.css"),
    "asterisk": _path(lambda path: path + "*"),
    "tilde": _path(lambda path: path + "~"),
    "very long": _path(lambda path: path + "/" + "a" * 8_000),
    "many dots": _path(lambda path: "/" + "a/../" * 300 + path[1:]),
    "without the prefix": lambda path, query: f"{path}?{query}",
    "half the prefix": lambda path, query: f"/softpro{path}?{query}",
    "prefix twice": _whole(lambda prefix, path: prefix + prefix + path),
    "another version": _whole(lambda prefix, path: prefix.replace("v1", "v2") + path),
    "user in the address": lambda path, query: f"http://admin:admin@localhost{PREFIX}{path}?{query}",
}

HEADERS: Mapping[str, Headers] = {
    "original address": (("X-Original-URL", f"{PREFIX}/health"), ("X-Rewrite-URL", f"{PREFIX}/health")),
    "forwarded prefix": (("X-Forwarded-Prefix", "/health"), ("X-Script-Name", "/health")),
    "forwarded for": (("X-Forwarded-For", "127.0.0.1"), ("X-Real-IP", "127.0.0.1"), ("Forwarded", "for=127.0.0.1")),
    "forwarded host": (("X-Forwarded-Host", "localhost"), ("X-Forwarded-Proto", "https")),
    "other method": (("X-HTTP-Method-Override", "GET"), ("X-Method-Override", "GET"), ("X-HTTP-Method", "GET")),
}
"""Headers by which a server could take another path or caller."""


ANONYMOUS = Caller("anonymous")


def attempts(target: Target, stranger: Caller = ANONYMOUS) -> Iterator[Attempt]:
    """Yield every closed route in every spelling, by a stranger, and by the viewer where the viewer may not call it."""
    known = {caller.name: caller for caller in identities.users(target)}
    for route in ROUTES:
        callers = [stranger] + ([known["reader"]] if route.right != "read" else [])
        for caller in callers:
            yield from _of(target, caller, route)
        for name in ("as it is", "encoded letters", "encoded first letter"):
            allowed = known["admin"].sign(target.own.request(route))
            spelled = replace(allowed, target=_below(_spelled(allowed, SAME[name]).target))
            yield control(target, f"admin: {name}", f"{route.method} {route.path}", spelled)


def _of(target: Target, caller: Caller, route: Route) -> Iterator[Attempt]:
    request, named = caller.sign(target.other.request(route)), f"{route.method} {route.path}"
    for name, spell in {**SAME, **OTHER}.items():
        yield _attempt(target, f"{caller.name}: {name}", named, _spelled(request, spell))
    for name, headers in HEADERS.items():
        yield attack(target, f"{caller.name}: {name}", named, request.with_headers(*headers), REFUSED)


def _spelled(request: Request, spell: Spell) -> Request:
    path, _, query = str(request.target).partition("?")
    return replace(request, target=spell(path, query))


def _below(address: str | bytes) -> bytes:
    """Return the part of an address below the prefix of the API."""
    whole = address if isinstance(address, bytes) else address.encode()
    return whole.removeprefix(PREFIX.encode())


def _attempt(target: Target, kind: str, name: str, request: Request) -> Attempt:
    def act() -> Verdict:
        response = target.http.send(request)
        first = answer(response)
        if response.status in MOVED:
            response = target.http.send(_followed(request, response))
        changes, problems = target.changed(), []
        if response.status not in REFUSED | TOO_LONG | {CLOSED}:
            problems.append(f"{request}: status {shown(response)}")
        if mark := target.foreign_text(request, response):
            problems.append(f"{request}: shows {mark!r}")
        if response.header("X-Injected"):
            problems.append(f"{request}: a header of the request came back")
        if changes:
            problems.append(f"{request}: changed {changes}")
        return Verdict(first, "; ".join(problems))

    return Attempt(kind, name, act)


def _followed(request: Request, response: Response) -> Request:
    """Return the request to the place that a redirect names, below this server."""
    place = urlsplit(response.header("Location") or "/")
    return replace(request, target=f"{place.path}?{place.query}")
