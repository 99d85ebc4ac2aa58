"""Call every route with every method as every kind of caller."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..support.routes import OPEN, ROUTES, Route
from . import identities
from .attempts import Attempt
from .identities import Caller
from .judge import REFUSED, UNKNOWN, attack, control
from .target import Organization, Target

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "PROPFIND")
ROW_IDS = ("{hold_id}", "{conflict_id}", "{event_id}", "{roi_id}")
OPEN_ANSWERS = {"/health": {200}, "/callback": {400, 403, 404}, "/connect/{token}": {400, 403, 404}}
"""What the routes without a login may respond to a stranger, besides 401."""


def attempts(target: Target, routes: Sequence[Route] = ROUTES) -> Iterator[Attempt]:
    """Yield the attempts and their controls.

    Args:
        target: the running product.
        routes: the table of routes and rights that responses are judged by.
    """
    strangers = identities.strangers(target)
    known, confined = identities.users(target), identities.confined(target)
    for route in routes:
        for caller in strangers:
            yield _as_stranger(target, caller, route)
        for caller in (*known, *confined):
            yield from _as_user(target, caller, route)
        for caller in confined:
            yield from _with_rows_of_another(target, caller, route)
    yield from _open_routes(target, strangers)
    some = [caller for caller in strangers if caller.name in ("anonymous", "expired", "algorithm none", "raised role")]
    for caller in (*some, *known, *confined[:2]):
        yield from _other_methods(target, caller, routes)


def _as_stranger(target: Target, caller: Caller, route: Route) -> Attempt:
    return attack(
        target, _kind(caller), f"{route.method} {route.path}", caller.sign(target.other.request(route)), UNKNOWN
    )


def _as_user(target: Target, caller: Caller, route: Route) -> Iterator[Attempt]:
    """Yield the request for the attacked organization, and where the caller has the right, the control for its own."""
    name, their = f"{route.method} {route.path}", caller.sign(target.other.request(route))
    if route.right not in caller.rights:
        yield attack(target, caller.name, name, their, {403})
        return
    yield control(target, caller.name, name, caller.sign(target.own.request(route)))
    if caller.confined:
        yield attack(target, caller.name, name, their, {404} if route.tenant else {200})


def _with_rows_of_another(target: Target, caller: Caller, route: Route) -> Iterator[Attempt]:
    """Yield requests that name one organization's integration and another's row."""
    has_row = any(each in route.path for each in ROW_IDS)
    if route.right not in caller.rights or not has_row or "{integration_id}" not in f"{route.query}{route.body}":
        return
    for first, second in ((target.own, target.other), (target.other, target.own)):
        request = caller.sign(_mixed(first, second).request(route))
        # A run over a row that the integration does not have is accepted, and finds nothing to do.
        starts_run = "{roi_id}" in route.path and first is target.own
        yield attack(
            target,
            f"{caller.name}: mixed ids",
            f"{route.method} {route.path}",
            request,
            {202} if starts_run else {404},
            may_change_own=starts_run,
        )


def _mixed(integration: Organization, rows: Organization) -> Organization:
    """Return the second organization's rows below the first one's integration."""
    return replace(rows, ids={**rows.ids, "integration_id": integration.ids["integration_id"]})


def _open_routes(target: Target, strangers: Sequence[Caller]) -> Iterator[Attempt]:
    for method, path in sorted(OPEN):
        route = Route(method, path.replace("{token}", "a-state.a-token"), "", body={} if method == "POST" else None)
        for caller in strangers:
            request = replace(caller.sign(target.other.request(route)), stranger=True)
            yield attack(target, "open routes", f"{method} {path}", request, OPEN_ANSWERS.get(path, {401}))


def _other_methods(target: Target, caller: Caller, routes: Sequence[Route]) -> Iterator[Attempt]:
    """Yield requests with the methods that a path does not have."""
    declared = {(route.method, route.path) for route in routes} | OPEN
    for path in sorted({path for _, path in declared}):
        for method in METHODS:
            if (method, path) in declared:
                continue
            sent = target.other.request(Route(method, path.replace("{token}", "a-state.a-token"), "", body={}))
            allowed = UNKNOWN if caller.is_stranger else REFUSED
            request = replace(caller.sign(sent), stranger=caller.is_stranger)
            yield attack(target, f"{_kind(caller)}: other methods", f"{method} {path}", request, allowed)


def _kind(caller: Caller) -> str:
    return caller.name if not caller.is_stranger or caller.name == "anonymous" else f"stranger: {caller.name}"
