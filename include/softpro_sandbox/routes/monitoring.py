"""Control calls for those who watch: where webhooks go, and every call that arrived."""

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
    """What `PUT /sandbox/webhooks` takes."""

    url: AnyHttpUrl
    secret: str


@router.put("/webhooks")
async def register_webhook(state: State, body: WebhookRequest) -> dict[str, Any]:
    """Send an organization's events to an address from now on; one each, another one replaces it.

    What was still on its way to the former goes to the new one.
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
    """Every receiver, and how many deliveries wait or are on their way. Secrets are not told."""
    return [_receiver_json(state, organization_id) for organization_id in state.webhook_senders]


@router.delete("/webhooks", status_code=204, response_class=Response)
async def remove_webhook(state: State, organization_id: OrganizationId = None) -> Response:
    """Send an organization's events nowhere; those on their way are dropped."""
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
    """The last 100,000 calls of the API in the order they were counted, by the machine's clock."""
    calls = [each for each in state.stats.calls if since is None or each.at >= since]
    return Response(msgspec.json.encode(calls), media_type=JSON)


def _receiver_json(state: SandboxState, organization_id: str) -> dict[str, Any]:
    sender = state.webhook_senders[organization_id]
    return {"organizationId": organization_id, "url": sender.receiver.url, "waiting": sender.waiting}
