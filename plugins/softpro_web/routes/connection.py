"""Connect and disconnect an organization, and show its connection."""

from __future__ import annotations

import logging
import secrets
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from softpro.connections import oauth_flow, redirects
from softpro.db import integrations
from softpro.errors import SoftProError, StateError
from softpro.settings import WebSettings, load
from softpro.timestamps import format_milliseconds
from softpro_web.deps import Configurer, DatabaseDep, Reader, ServicesDep
from softpro_web.models.base import DataResponse, MessageResponse
from softpro_web.models.connection import AuthorizationUrl, ConnectBody, ConnectionStatus, Outage

COOKIE = "softpro_connect"
COOKIE_SECONDS = 600

Given = Annotated[str, Query(max_length=4_000)]

router = APIRouter()
log = logging.getLogger(__name__)


@router.post("/connect")
def connect(
    body: ConnectBody, request: Request, response: Response, user: Configurer, services: ServicesDep
) -> DataResponse[AuthorizationUrl]:
    """Begin a connection, and return the address to which to send the user.

    A cookie binds the callback to this browser.
    """
    user.require(body.organization_id)
    browser = request.cookies.get(COOKIE) or secrets.token_urlsafe(32)  # two tabs of one browser share it
    url = oauth_flow.connect(
        services,
        body.organization_id,
        client_id=body.client_id,
        client_secret=body.client_secret.get_secret_value() if body.client_secret else None,
        environment=body.environment,
        browser=browser,
        user_name=user.name,
        redirect_path=body.redirect_path,
    )
    response.set_cookie(
        COOKIE,
        browser,
        max_age=COOKIE_SECONDS,
        path=request.scope.get("root_path") or "/",
        httponly=True,
        samesite="lax",  # the vendor's redirect is a top-level navigation, which Lax lets through
        secure=request.url.scheme == "https",
    )
    response.headers["Cache-Control"] = "no-store"
    return DataResponse(data=AuthorizationUrl(authorization_url=url))


@router.get("/callback", response_class=RedirectResponse, status_code=302)
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
    the browser that began the connection authenticate it.
    """
    (web,) = load(WebSettings)
    given = {"state": state, "code": code, "error": error, "error_description": error_description}
    parameters, browser = {name: value for name, value in given.items() if value}, request.cookies.get(COOKIE)
    path: str | None = None
    try:
        path = oauth_flow.redirect_path(services, parameters, browser)
        oauth_flow.callback(services, parameters, browser)
        outcome = {"integration": "softpro", "status": "connected"}
    except StateError:
        raise  # an unknown caller: nothing is passed on to the frontend
    except SoftProError as failed:
        log.warning("connection failed: %s", failed)
        outcome = {"integration": "softpro", "status": "error", "message": str(failed)}
    url = redirects.address(web.frontend_url, path, outcome)
    return RedirectResponse(url, 302, headers={"Cache-Control": "no-store"})


@router.delete("/disconnect/{integration_id}")
def disconnect(integration_id: UUID, user: Configurer, services: ServicesDep) -> MessageResponse:
    """Erase the tokens and end the grant at SoftPro. Synced rows stay."""
    with services.database.connect() as connection:
        user.integration(connection, integration_id)
    revoked = oauth_flow.disconnect(services, integration_id)
    return MessageResponse(
        message="Integration disconnected successfully"
        if revoked
        else "Integration disconnected. SoftPro could not be reached, so end the grant there as well"
    )


@router.get("/status")
def get_status(
    organization_id: Annotated[str, Query(alias="organizationId")], user: Reader, database: DatabaseDep
) -> DataResponse[ConnectionStatus]:
    """Return the state of an organization's connection."""
    with database.connect() as connection:
        found = user.organization(connection, organization_id)
        outage = integrations.outage(connection, found.id)
    return DataResponse(
        data=ConnectionStatus(
            id=found.id,
            status=found.status,
            environment=found.environment,
            last_sync_at=format_milliseconds(found.last_sync_at) if found.last_sync_at else None,
            sync_enabled=found.sync_enabled,
            sync_frequency=found.sync_frequency,
            last_error_at=format_milliseconds(found.last_error_at) if found.last_error_at else None,
            last_error_message=found.last_error_message,
            outage=Outage.model_validate(outage.as_json()) if outage else None,
        )
    )
