"""Serve calls on the parties of an order (contract, Endpoints). Changes move the order's `updatedAt`.

No list shows a party's ETag. `If-Match` of a change takes either the order's ETag, or the party's, which writes return.
"""

from fastapi import APIRouter
from starlette.responses import Response

from softpro_sandbox.errors import ApiError
from softpro_sandbox.models import PartyCreate, PartyPatch
from softpro_sandbox.record_store import etag_of
from softpro_sandbox.records.codec import Record, decode, encode
from softpro_sandbox.records.parties import add_party, change_party, find_party, free_id, list_parties
from softpro_sandbox.response_models import PartyResponse
from softpro_sandbox.routes.dependencies import IfMatch, ReadsTransactions, State, WritesTransactions, errors
from softpro_sandbox.routes.record_operations import (
    JSON,
    amend,
    check_if_match,
    latest_version,
    record_response,
    visible_version,
)
from softpro_sandbox.state import EntityType
from softpro_sandbox.webhooks.events import party_events
from softpro_sandbox.webhooks.notify import notify

router = APIRouter(prefix="/transactions/{orderId}/parties", tags=["parties"])
_KIND = EntityType.TRANSACTION


@router.get("", response_model=list[PartyResponse], responses=errors(403, 404))
async def list_order_parties(state: State, grant: ReadsTransactions, orderId: str) -> Response:
    """List every party of an order as a plain array: buyers, sellers, lenders, the title company, the others."""
    order = decode(visible_version(state, grant.organization_id, _KIND, orderId).body)
    return Response(b"[%b]" % b",".join(map(encode, list_parties(order))), media_type=JSON)


@router.post("", status_code=201, response_model=PartyResponse, responses=errors(400, 403, 404))
async def create_party(state: State, grant: WritesTransactions, orderId: str, body: PartyCreate) -> Response:
    """Create a party. Its type selects its field in the order; types without an own field are in `otherParties`."""
    version = latest_version(state, grant.organization_id, _KIND, orderId)
    order = decode(version.body)
    fields: Record = body.model_dump(by_alias=True, exclude_unset=True)
    new_id = free_id(orderId, fields, {str(party.get("partyId")) for party in list_parties(order)})
    party = {"partyId": new_id, "partyType": fields["partyType"]} | fields
    amend(state, grant.organization_id, _KIND, orderId, version, add_party(order, party))
    notify(state, grant.organization_id, party_events("party.added", orderId, party))
    return record_response(state, encode(party), 201)


@router.patch("/{partyId}", response_model=PartyResponse, responses=errors(400, 403, 404, 409))
async def patch_party(
    state: State,
    grant: WritesTransactions,
    orderId: str,
    partyId: str,
    body: PartyPatch,
    if_match: IfMatch = None,
) -> Response:
    """Update only the fields sent; a null clears. A new type can move the party to another field of the order."""
    version = latest_version(state, grant.organization_id, _KIND, orderId)
    order = decode(version.body)
    party = find_party(order, partyId)
    if party is None:
        raise ApiError(404, f"Party {partyId} does not exist in {orderId}.")
    current = encode(party)
    check_if_match(state, partyId, if_match, current, etag_of(current), version.etag)
    fields: Record = body.model_dump(by_alias=True, exclude_unset=True)
    written = amend(state, grant.organization_id, _KIND, orderId, version, change_party(order, partyId, fields))
    after = find_party(decode(written.body), partyId) or {}
    if written is not version:
        notify(state, grant.organization_id, party_events("party.updated", orderId, after))
    return record_response(state, encode(after))
