"""Serve the browser on its way to SoftPro's consent page and back. Errors are pages with words."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import Path, Query, Request
from fastapi.responses import RedirectResponse

from softpro.connections import oauth_flow, redirects
from softpro.db.refusals import Refusal
from softpro.errors import SoftProError, StateError
from softpro.settings import WebSettings, load
from softpro_web import cookie
from softpro_web.deps import ServicesDep
from softpro_web.limiters import Brake
from softpro_web.refusals import counter
from softpro_web.responses import PAGE_RESPONSES, describe_to_stranger
from softpro_web.routing import APIRouter, PageRoute, limits
from softpro_web.threads import VENDOR

MAX_TOKEN_CHARACTERS = 200

Given = Annotated[str, Query(max_length=4_000)]

router = APIRouter(kind=PageRoute)
log = logging.getLogger(__name__)


@router.get("/connect/{token}", response_class=RedirectResponse, status_code=302, responses=PAGE_RESPONSES)
@limits(brake=Brake(at_once=8, at_once_each=4, per_second=5, burst=60), secret_address=True)
def open_connection(
    token: Annotated[str, Path(max_length=MAX_TOKEN_CHARACTERS)], request: Request, services: ServicesDep
) -> RedirectResponse:
    """Bind this browser to a connection that a server or another site began, and redirect it to the consent page.

    The route requires no login, because the browser has no token. `POST /connect` returned the address, which works
    once. It writes nothing but that.
    """
    state, _, given = token.partition(".")
    browser = secrets.token_urlsafe(32)
    with _counting_refused_states():
        consent_page = oauth_flow.rebind(services, state, given, browser)
    response = RedirectResponse(consent_page, 302, headers={"Referrer-Policy": "no-referrer"})
    cookie.bind(response, request, state, browser)
    return response


@router.get("/callback", response_class=RedirectResponse, status_code=302, responses=PAGE_RESPONSES)
@limits(threads=VENDOR, brake=Brake(at_once=8, at_once_each=4, per_second=5, burst=60), secret_address=True)
def callback(
    request: Request,
    services: ServicesDep,
    state: Given = "",
    code: Given = "",
    error: Given = "",
    error_description: Given = "",
) -> RedirectResponse:
    """Finish a connection; SoftPro sends the browser here.

    The route requires no login, because the browser has no token. The state, which works once, and the cookie of
    the browser that began the connection authenticate it. Nothing is passed on to the frontend before.
    """
    (web,) = load(WebSettings)
    given = {"state": state, "code": code, "error": error, "error_description": error_description}
    parameters = {name: value for name, value in given.items() if value}
    with _counting_refused_states():
        authorization = oauth_flow.accept(services, parameters, cookie.secret(request, state))
    try:
        oauth_flow.finish(services, authorization, parameters)
        outcome = {"integration": "softpro", "status": "connected"}
    except SoftProError as failed:
        log.warning("connection failed: %s", failed)
        outcome = {"integration": "softpro", "status": "error", "message": describe_to_stranger(failed).message}
    response = RedirectResponse(redirects.address(web.frontend_url, authorization.redirect_path, outcome), 302)
    cookie.release(response, request, state)
    return response


@contextmanager
def _counting_refused_states() -> Iterator[None]:
    try:
        yield
    except StateError:
        counter.count(Refusal.OAUTH_STATE)
        raise
