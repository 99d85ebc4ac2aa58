"""Serve calls on the property of an order (contract, Endpoints). Changes move the order's `updatedAt`."""

from fastapi import APIRouter
from starlette.responses import Response

from softpro_sandbox.models import PropertyPatch
from softpro_sandbox.record_store import etag_of
from softpro_sandbox.records.changes import merged, stamped
from softpro_sandbox.records.codec import Record, decode, encode
from softpro_sandbox.records.properties import build_property, property_id, split_fields
from softpro_sandbox.response_models import PropertyResponse
from softpro_sandbox.routes.dependencies import IfMatch, ReadsTransactions, State, WritesTransactions, errors
from softpro_sandbox.routes.record_operations import check_if_match, latest_version, record_response, visible_version
from softpro_sandbox.state import EntityType
from softpro_sandbox.webhooks.events import property_events
from softpro_sandbox.webhooks.notify import notify

router = APIRouter(prefix="/transactions/{orderId}/property", tags=["property"])
_KIND = EntityType.TRANSACTION


@router.get("", response_model=PropertyResponse, responses=errors(403, 404))
async def get_property(state: State, grant: ReadsTransactions, orderId: str) -> Response:
    """Return the property of an order, with its own `ETag`. Address and type are the order's."""
    order = decode(visible_version(state, grant.organization_id, _KIND, orderId).body)
    own = state.property_fields(grant.organization_id, orderId, order, latest=False)
    return record_response(state, encode(build_property(orderId, order, own)))


@router.patch("", response_model=PropertyResponse, responses=errors(400, 403, 404, 409))
async def patch_property(
    state: State, grant: WritesTransactions, orderId: str, body: PropertyPatch, if_match: IfMatch = None
) -> Response:
    """Update only the fields sent; a null clears. Address and type change in the order."""
    version = latest_version(state, grant.organization_id, _KIND, orderId)
    order = decode(version.body)
    own = state.property_fields(grant.organization_id, orderId, order, latest=True)
    current = encode(build_property(orderId, order, own))
    check_if_match(state, orderId, if_match, current, etag_of(current))
    fields: Record = body.model_dump(by_alias=True, exclude_unset=True)
    order_fields, own_changes = split_fields(fields)
    if merged(order, order_fields) == order and merged(own, own_changes) == own:
        return record_response(state, current)
    now = state.stamp()
    order, own = stamped(order, order_fields, now), merged(own, own_changes)
    state.write_property(grant.organization_id, orderId, now, encode(order), encode(own))
    written = encode(build_property(orderId, order, own))
    notify(state, grant.organization_id, property_events(orderId, property_id(orderId), written))
    return record_response(state, written)
