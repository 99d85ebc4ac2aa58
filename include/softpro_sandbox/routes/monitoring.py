"""Control calls for those who watch: where webhooks go, and every call that arrived."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query
from pydantic import AnyHttpUrl
from starlette.responses import Response

from softpro_sandbox.errors import ApiError
from softpro_sandbox.response_models import CallAnswer
from softpro_sandbox.routes.control import Body, OrganizationId, organization_of
from softpro_sandbox.routes.dependencies import TheWorld
from softpro_sandbox.routes.record_operations import JSON
from softpro_sandbox.state import World
from softpro_sandbox.webhooks.delivery import Courier, Receiver

router = APIRouter(prefix="/sandbox", tags=["sandbox control"])


class WebhookOrder(Body):
    """What `PUT /sandbox/webhooks` takes."""

    url: AnyHttpUrl
    secret: str


@router.put("/webhooks")
async def register_webhook(world: TheWorld, order: WebhookOrder) -> dict[str, Any]:
    """Send an organization's events to an address from now on; one each, another one replaces it.

    What was still on its way to the former goes to the new one.
    """
    chosen = organization_of(world, order.organization_id)
    receiver = Receiver(str(order.url), order.secret)
    courier = world.couriers.get(chosen)
    if courier is None:
        from softpro_sandbox.webhooks.http_client import (
            open_post,  # loads an HTTP client, which not every sandbox needs
        )

        world.couriers[chosen] = Courier(receiver, world.clock, world.time, world.stats.webhooks, open_post)
    else:
        courier.receiver = receiver
    return _shown(world, chosen)


@router.get("/webhooks")
async def list_webhooks(world: TheWorld) -> list[dict[str, Any]]:
    """Every receiver, and how many deliveries wait or are on their way. Secrets are not told."""
    return [_shown(world, organization_id) for organization_id in world.couriers]


@router.delete("/webhooks", status_code=204, response_class=Response)
async def remove_webhook(world: TheWorld, organization_id: OrganizationId = None) -> Response:
    """Send an organization's events nowhere; those on their way are dropped."""
    courier = world.couriers.pop(organization_of(world, organization_id), None)
    if courier is None:
        raise ApiError(404, "No webhook is registered.")
    courier.stop()
    return Response(status_code=204)


@router.get("/calls", response_model=list[CallAnswer])
async def list_calls(
    world: TheWorld,
    since: Annotated[float | None, Query(description="seconds since 1970, inclusive")] = None,
) -> Response:
    """The last 100,000 calls of the API in the order they were counted, by the machine's clock."""
    arrivals = [each for each in world.stats.arrivals if since is None or each.at >= since]
    return Response(msgspec.json.encode(arrivals), media_type=JSON)


def _shown(world: World, organization_id: str) -> dict[str, Any]:
    courier = world.couriers[organization_id]
    return {"organizationId": organization_id, "url": courier.receiver.url, "waiting": courier.waiting}
