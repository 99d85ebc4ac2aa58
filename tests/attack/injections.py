"""Send texts of other languages in every parameter and every field of a body.

The caller is an administrator who is confined to one organization, so that a request gets as far as possible, and
changes only that organization.
"""

from __future__ import annotations

import copy
import html
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from ..support.hostile_rules import HOSTILE
from ..support.routes import OPEN, ROUTES, Route
from . import identities, payloads
from .attempts import SEED, Attempt
from .http_client import JSON, Request, Response
from .judge import attack, control
from .target import Target

EACH_FIELD = 20
"""Payloads for each parameter and field; every payload is used for some of them."""

ANSWERS = frozenset({200, 202, 307, *range(400, 432)} - {429})
OPEN_ANSWERS = frozenset({400, 401, 403, 404, 405, 413})
DEPTH = 3
INTERNALS = re.compile(
    r"psycopg|sqlalchemy|sqlstate|at or near|relation \"|violates \w+ constraint|LINE \d+:|Traceback|File \"/"
    r"|/dev/shm|/tmp/|PGSQL|host=|port=|dbname=|softpro_api|softpro_loader|pg_catalog|invalid input syntax"
    r"|out of range for type|invalid byte sequence|xmin|root:x:0",
    re.IGNORECASE,
)
"""Texts of the database, of Python and of the machine, which no response may hold."""

Steps = tuple[str | int, ...]


@dataclass(frozen=True)
class Place:
    """A parameter, or a field of the body, of one route."""

    route: Route
    kind: str
    steps: Steps

    def __str__(self) -> str:
        return f"{self.route.method} {self.route.path} {self.kind} {'.'.join(map(str, self.steps))}"


def attempts(target: Target) -> Iterator[Attempt]:
    """Yield every parameter and field with payloads from a fixed seed, then hostile rules."""
    chosen = random.Random(SEED)
    admin = identities.confined(target)[1]
    described = target.send(admin.sign(Request("GET", "/openapi.json"))).json()
    texts: list[str] = []
    values: list[Any] = []
    for place in places(described):
        if not texts:
            texts = chosen.sample(payloads.TEXTS, len(payloads.TEXTS))
        given: list[Any] = [texts.pop() for _ in range(min(EACH_FIELD, len(texts)))]
        if place.kind == "body":
            if not values:
                values = chosen.sample(payloads.VALUES, len(payloads.VALUES))
            given += [values.pop() for _ in range(min(EACH_FIELD // 4, len(values)))]
        for payload in given:
            yield _attempt(target, admin, place, payload)
    for route in ROUTES:
        yield control(target, "the same caller", f"{route.method} {route.path}", admin.sign(target.own.request(route)))
    for rule in HOSTILE:
        yield _attempt(target, admin, RULE, rule)


def places(described: dict[str, Any]) -> Iterator[Place]:
    """Yield every parameter and field of the OpenAPI description."""
    known = {(route.method, route.path): route for route in ROUTES}
    known |= {(method, path): Route(method, path, "", body={} if method == "POST" else None) for method, path in OPEN}
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            route = known[method.upper(), path]
            for parameter in operation.get("parameters", ()):
                yield Place(route, parameter["in"], (parameter["name"],))
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            for steps in _fields(described, content.get("schema", {})):
                yield Place(route, "body", steps)


def _fields(described: dict[str, Any], schema: dict[str, Any], steps: Steps = ()) -> Iterator[Steps]:
    """Yield the steps to every field of a schema, with 0 for the items of a list."""
    if "$ref" in schema:
        yield from _fields(described, described["components"]["schemas"][schema["$ref"].rpartition("/")[2]], steps)
        return
    if len(steps) > DEPTH:
        return
    for choice in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from _fields(described, choice, steps)
    if "items" in schema:
        yield (*steps, 0)
        yield from _fields(described, schema["items"], (*steps, 0))
    for name, inner in schema.get("properties", {}).items():
        yield (*steps, name)
        yield from _fields(described, inner, (*steps, name))
    if schema.get("additionalProperties"):
        yield (*steps, "notes")


RULE = Place(
    next(route for route in ROUTES if route.path == "/mappings/preview"), "body", ("mappings", 0, "transformationRule")
)


def _attempt(target: Target, admin: identities.Caller, place: Place, payload: Any) -> Attempt:
    is_open = (place.route.method, place.route.path) in OPEN
    request = injected(target, place, payload)
    sent = replace(request, stranger=True) if is_open else admin.sign(request)

    def look(_: Request, response: Response) -> str:
        return problem(place, payload, response)

    name = f"{place} = {json.dumps(payload)[:80]}"
    kind = "hostile rules" if place is RULE else payloads.kind(payload)
    allowed = OPEN_ANSWERS | {200} if place.route.path == "/health" else OPEN_ANSWERS if is_open else ANSWERS
    return attack(target, kind, name, sent, allowed, look, may_change_own=True)


def injected(target: Target, place: Place, payload: Any) -> Request:
    """Return the request of the route for the caller's own organization, with the payload in one place."""
    route, (name, *_) = place.route, place.steps
    request = target.own.request(route)
    if place.kind == "body":
        body = copy.deepcopy(target.own.body(route)) or {}
        _put(body, place.steps, payload)
        return replace(request, headers=(JSON,), body=json.dumps(body).encode())
    text = quote(payload, safe="", errors="surrogatepass")
    if place.kind == "path":
        path = route.path.replace(f"{{{name}}}", text)
        return target.own.request(replace(route, path=path))
    if place.kind == "header":
        clean = payload.encode(errors="surrogatepass").replace(b"\r", b"").replace(b"\n", b"")
        return request.with_headers((str(name), clean))
    path, _, query = str(request.target).partition("?")
    kept = [each for each in query.split("&") if each and each.partition("=")[0] != name]
    return replace(request, target=f"{path}?{'&'.join([*kept, f'{name}={text}'])}")


def _put(body: Any, steps: Steps, payload: Any) -> None:
    """Set a field, and create the objects and lists on the way."""
    *way, last = steps
    for step, following in zip(way, steps[1:], strict=True):
        inner: Any = [] if following == 0 else {}
        if isinstance(body, list):
            if not body:
                body.append(inner)
            body = body[0]
        else:
            if not isinstance(body.get(step), type(inner)):
                body[step] = inner
            body = body[step]
    if isinstance(body, list):
        body[:1] = [payload]
    else:
        body[last] = payload


def problem(place: Place, payload: Any, response: Response) -> str:
    """Return what a response shows that it must not: internals, a computed template, all rows of a list."""
    text = _without(response.text, payload)
    if found := INTERNALS.search(text):
        return f"status {response.status} shows {found.group()!r}: {text[:300]}"
    if response.header("X-Injected") or "_token=a" in (response.header("Set-Cookie") or ""):
        return "a header of the payload came back"
    if isinstance(payload, str) and payload in payloads.TEMPLATES and str(payloads.PRODUCT) in text:
        return "a template was computed"
    if payload in payloads.WILDCARDS and place.kind == "query" and response.status == 200:
        found_rows = ((response.json() or {}).get("meta") or {}).get("total", 0)
        return f"a wildcard found {found_rows} rows" if found_rows else ""
    return ""


def _without(text: str, payload: Any) -> str:
    """Return the text without the payload, in each form in which a response may repeat it."""
    written = payload if isinstance(payload, str) else json.dumps(payload)
    for form in (
        json.dumps(written)[1:-1],
        json.dumps(written, ensure_ascii=False)[1:-1],
        html.escape(written),
        written,
    ):
        text = text.replace(form, "") if form else text
    return text
