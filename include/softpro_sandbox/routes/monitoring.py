"""Serve the control calls for observers: register webhook receivers, list the calls that arrived."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query
from pydantic import AnyHttpUrl
from starlette.responses import Response

from softpro_sandbox.errors import ApiError
from softpro_sandbox.response_models import CallResponse
from softpro_sandbox.routes.control import ControlRequest, OrganizationId, organization_of
from softpro_sandbox.routes.dependencies import State
from softpro_sandbox.routes.record_operations import JSON
from softpro_sandbox.state import SandboxState
from softpro_sandbox.webhooks.delivery import Receiver, WebhookSender

router = APIRouter(prefix="/sandbox", tags=["sandbox control"])


class WebhookRequest(ControlRequest):
    """The body of `PUT /sandbox/webhooks`."""

    url: AnyHttpUrl
    secret: str


@router.put("/webhooks")
async def register_webhook(state: State, body: WebhookRequest) -> dict[str, Any]:
    """Send an organization's events to an address from now on; each organization has one receiver.

    Pending deliveries to a previous receiver go to the new one.
    """
    chosen = organization_of(state, body.organization_id)
    receiver = Receiver(str(body.url), body.secret)
    sender = state.webhook_senders.get(chosen)
    if sender is None:
        # Not imported at the top: it loads an HTTP client, which a sandbox without webhooks does not need.
        from softpro_sandbox.webhooks.http_client import open_http_post

        state.webhook_senders[chosen] = WebhookSender(
            receiver, state.clock, state.time, state.stats.webhooks, open_http_post
        )
    else:
        sender.receiver = receiver
    return _receiver_json(state, chosen)


@router.get("/webhooks")
async def list_webhooks(state: State) -> list[dict[str, Any]]:
    """List every receiver and its pending deliveries, without secrets."""
    return [_receiver_json(state, organization_id) for organization_id in state.webhook_senders]


@router.delete("/webhooks", status_code=204, response_class=Response)
async def remove_webhook(state: State, organization_id: OrganizationId = None) -> Response:
    """Remove an organization's receiver and drop its pending deliveries."""
    sender = state.webhook_senders.pop(organization_of(state, organization_id), None)
    if sender is None:
        raise ApiError(404, "No webhook is registered.")
    sender.stop()
    return Response(status_code=204)


@router.get("/calls", response_model=list[CallResponse])
async def list_calls(
    state: State,
    since: Annotated[float | None, Query(description="seconds since 1970, inclusive")] = None,
) -> Response:
    """List the last 100,000 calls of the API in the order they were counted, by the machine's clock."""
    calls = [each for each in state.stats.calls if since is None or each.at >= since]
    return Response(msgspec.json.encode(calls), media_type=JSON)


def _receiver_json(state: SandboxState, organization_id: str) -> dict[str, Any]:
    sender = state.webhook_senders[organization_id]
    return {"organizationId": organization_id, "url": sender.receiver.url, "waiting": sender.waiting}
