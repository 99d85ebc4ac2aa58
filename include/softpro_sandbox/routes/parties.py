"""Calls on the parties of an order (contract, Endpoints). They are part of the order and move its `updatedAt`.

A party has no list of its own with an ETag: `If-Match` of a change may name the party's ETag, which writes answer
with, or the order's.
"""

from fastapi import APIRouter
from starlette.responses import Response

from softpro_sandbox.errors import ApiError
from softpro_sandbox.models import PartyCreate, PartyPatch
from softpro_sandbox.record_store import etag_of
from softpro_sandbox.records.codec import Record, decode, encode
from softpro_sandbox.records.parties import added, changed, found, free_id, listed
from softpro_sandbox.response_models import PartyAnswer
from softpro_sandbox.routes.dependencies import IfMatch, ReadsTransactions, TheWorld, WritesTransactions, errors
from softpro_sandbox.routes.record_operations import JSON, amend, check_match, one_response, shown_version, true_version
from softpro_sandbox.state import EntityType
from softpro_sandbox.webhooks.events import of_party
from softpro_sandbox.webhooks.notify import tell

router = APIRouter(prefix="/transactions/{orderId}/parties", tags=["parties"])
_KIND = EntityType.TRANSACTION


@router.get("", response_model=list[PartyAnswer], responses=errors(403, 404))
async def list_parties(world: TheWorld, grant: ReadsTransactions, orderId: str) -> Response:
    """Every party of an order, a plain array: buyers, sellers, lenders, the title company, the others."""
    order = decode(shown_version(world, grant.organization_id, _KIND, orderId).body)
    return Response(b"[%b]" % b",".join(map(encode, listed(order))), media_type=JSON)


@router.post("", status_code=201, response_model=PartyAnswer, responses=errors(400, 403, 404))
async def create_party(world: TheWorld, grant: WritesTransactions, orderId: str, body: PartyCreate) -> Response:
    """A new party. Its type says where in the order it stands; a type the order has no place for: `otherParties`."""
    version = true_version(world, grant.organization_id, _KIND, orderId)
    order = decode(version.body)
    fields: Record = body.model_dump(by_alias=True, exclude_unset=True)
    new_id = free_id(orderId, fields, {str(party.get("partyId")) for party in listed(order)})
    party = {"partyId": new_id, "partyType": fields["partyType"]} | fields
    amend(world, grant.organization_id, _KIND, orderId, version, added(order, party))
    tell(world, grant.organization_id, of_party("party.added", orderId, party))
    return one_response(world, encode(party), 201)


@router.patch("/{partyId}", response_model=PartyAnswer, responses=errors(400, 403, 404, 409))
async def patch_party(
    world: TheWorld,
    grant: WritesTransactions,
    orderId: str,
    partyId: str,
    body: PartyPatch,
    if_match: IfMatch = None,
) -> Response:
    """Change only the fields sent; a null clears. With another type it may stand elsewhere in the order."""
    version = true_version(world, grant.organization_id, _KIND, orderId)
    order = decode(version.body)
    party = found(order, partyId)
    if party is None:
        raise ApiError(404, f"There is no party {partyId} in {orderId}.")
    standing = encode(party)
    check_match(world, partyId, if_match, standing, etag_of(standing), version.etag)
    fields: Record = body.model_dump(by_alias=True, exclude_unset=True)
    written = amend(world, grant.organization_id, _KIND, orderId, version, changed(order, partyId, fields))
    after = found(decode(written.body), partyId) or {}
    if written is not version:
        tell(world, grant.organization_id, of_party("party.updated", orderId, after))
    return one_response(world, encode(after))
