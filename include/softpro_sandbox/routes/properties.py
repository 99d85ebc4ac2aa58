"""Calls on the property of an order (contract, Endpoints). Its changes move the order's `updatedAt`."""

from fastapi import APIRouter
from starlette.responses import Response

from softpro_sandbox.models import PropertyPatch
from softpro_sandbox.record_store import etag_of
from softpro_sandbox.records.changes import merged, stamped
from softpro_sandbox.records.codec import Record, decode, encode
from softpro_sandbox.records.properties import parted, property_id, whole
from softpro_sandbox.response_models import PropertyAnswer
from softpro_sandbox.routes.dependencies import IfMatch, ReadsTransactions, TheWorld, WritesTransactions, errors
from softpro_sandbox.routes.record_operations import check_match, one_response, shown_version, true_version
from softpro_sandbox.state import EntityType
from softpro_sandbox.webhooks.events import of_property
from softpro_sandbox.webhooks.notify import tell

router = APIRouter(prefix="/transactions/{orderId}/property", tags=["property"])
_KIND = EntityType.TRANSACTION


@router.get("", response_model=PropertyAnswer, responses=errors(403, 404))
async def get_property(world: TheWorld, grant: ReadsTransactions, orderId: str) -> Response:
    """The property of an order, with an `ETag` of its own. Address and type are the order's."""
    order = decode(shown_version(world, grant.organization_id, _KIND, orderId).body)
    own = world.property_of(grant.organization_id, orderId, order, true=False)
    return one_response(world, encode(whole(orderId, order, own)))


@router.patch("", response_model=PropertyAnswer, responses=errors(400, 403, 404, 409))
async def patch_property(
    world: TheWorld, grant: WritesTransactions, orderId: str, body: PropertyPatch, if_match: IfMatch = None
) -> Response:
    """Change only the fields sent; a null clears. Address and type change in the order."""
    version = true_version(world, grant.organization_id, _KIND, orderId)
    order = decode(version.body)
    own = world.property_of(grant.organization_id, orderId, order, true=True)
    standing = encode(whole(orderId, order, own))
    check_match(world, orderId, if_match, standing, etag_of(standing))
    fields: Record = body.model_dump(by_alias=True, exclude_unset=True)
    orders, owns = parted(fields)
    if merged(order, orders) == order and merged(own, owns) == own:
        return one_response(world, standing)
    now = world.stamp()
    order, own = stamped(order, orders, now), merged(own, owns)
    world.write_property(grant.organization_id, orderId, now, encode(order), encode(own))
    written = encode(whole(orderId, order, own))
    tell(world, grant.organization_id, of_property(orderId, property_id(orderId), written))
    return one_response(world, written)
