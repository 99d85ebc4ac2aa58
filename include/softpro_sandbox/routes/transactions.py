"""Calls on transactions (contract, Endpoints)."""

from typing import Annotated

from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from softpro_sandbox.answers import Transaction, TransactionPage
from softpro_sandbox.clock import iso
from softpro_sandbox.filters import select_transactions
from softpro_sandbox.models import TransactionCreate, TransactionPatch
from softpro_sandbox.queries import TransactionQuery
from softpro_sandbox.records.codec import Record
from softpro_sandbox.records.transactions import order_id, order_number
from softpro_sandbox.routes.access import ReadsTransactions, TheWorld, WritesTransactions, errors
from softpro_sandbox.routes.records import change, create, missing, page_response, read
from softpro_sandbox.world import EntityType

router = APIRouter(prefix="/transactions", tags=["transactions"])
_KIND = EntityType.TRANSACTION


@router.get("", response_model=TransactionPage, responses=errors(400, 403))
async def list_transactions(
    world: TheWorld, grant: ReadsTransactions, query: Annotated[TransactionQuery, Query()]
) -> Response:
    """A page of the organization's transactions. Lists are live: what changes while being paged moves."""
    selection = select_transactions(query, world.switches)
    return page_response(world, grant.organization_id, _KIND, selection, query.limit, query.offset)


@router.get("/{orderId}", response_model=Transaction, responses=errors(403, 404))
async def get_transaction(world: TheWorld, grant: ReadsTransactions, orderId: str) -> Response:
    """One transaction, with its `ETag`."""
    return read(world, grant.organization_id, _KIND, orderId)


@router.post("", status_code=201, response_model=Transaction, responses=errors(400, 403))
async def create_transaction(world: TheWorld, grant: WritesTransactions, body: TransactionCreate) -> Response:
    """A new transaction. There is no idempotency key: a POST whose answer was lost may have happened."""
    number = world.next_number(grant.organization_id, _KIND, order_id)
    fields: Record = body.model_dump(by_alias=True, exclude_unset=True)
    made_up = fields.pop("orderNumber", None) or order_number(iso(world.stamp()), number)
    ids = {"orderId": order_id(number), "orderNumber": made_up}
    return create(world, grant.organization_id, _KIND, order_id(number), ids, fields)


@router.patch("/{orderId}", response_model=Transaction, responses=errors(400, 403, 404, 409))
async def patch_transaction(
    world: TheWorld,
    grant: WritesTransactions,
    orderId: str,
    body: TransactionPatch,
    if_match: Annotated[str | None, Header(description="the ETag of the version to change")] = None,
) -> Response:
    """Change only the fields sent; a null clears, an object is merged, an array is replaced."""
    fields: Record = body.model_dump(by_alias=True, exclude_unset=True)
    return change(world, grant.organization_id, _KIND, orderId, fields, if_match)


@router.delete("/{orderId}", status_code=204, response_class=Response, responses=errors(403, 404))
async def delete_transaction(world: TheWorld, grant: WritesTransactions, orderId: str) -> Response:
    """Delete a transaction: it is gone from lists at once and answers 404."""
    if not world.catalogue(grant.organization_id, _KIND).delete(orderId):
        raise missing(_KIND, orderId)
    return Response(status_code=204)
