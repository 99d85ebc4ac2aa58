"""Connect and disconnect an organization, and show its connection."""

from __future__ import annotations

import secrets
from typing import Annotated
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

from fastapi import Query, Request, Response

from softpro.connections import oauth_flow
from softpro.db import integrations
from softpro.timestamps import format_milliseconds
from softpro_web import cookie
from softpro_web.deps import Configurer, DatabaseDep, Reader, ServicesDep
from softpro_web.models.base import DataResponse, MessageResponse
from softpro_web.models.connection import AuthorizationUrl, ConnectBody, ConnectionStatus, Outage
from softpro_web.paths import public_url
from softpro_web.routing import APIRouter, limits
from softpro_web.threads import VENDOR

router = APIRouter()


@router.post("/connect")
def connect(
    body: ConnectBody, request: Request, response: Response, user: Configurer, services: ServicesDep
) -> DataResponse[AuthorizationUrl]:
    """Begin a connection, and return the address to which to send the user.

    A cookie binds the callback to this browser. A server, or a page of another site, sends the user's browser to
    `browserUrl` instead, which sets the cookie there.
    """
    user.require(body.organization_id)
    browser = secrets.token_urlsafe(32)
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
    state = parse_qs(urlsplit(url).query)["state"][-1]
    cookie.bind(response, request, state, browser)
    is_own_page = request.headers.get("Sec-Fetch-Site") == "same-origin"
    browser_url = None if is_own_page else f"{public_url(request)}/connect/{state}.{browser}"
    return DataResponse(data=AuthorizationUrl(authorization_url=url, browser_url=browser_url))


@router.delete("/disconnect/{integration_id}")
@limits(threads=VENDOR)
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
