"""Serve calls on transactions (contract, Endpoints)."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from softpro_sandbox.clock import iso
from softpro_sandbox.errors import bad_field
from softpro_sandbox.filters import select_transactions
from softpro_sandbox.models import StatusChange, TransactionCreate, TransactionPatch
from softpro_sandbox.query_params import TransactionQuery
from softpro_sandbox.records.codec import Record, decode
from softpro_sandbox.records.parties import with_ids
from softpro_sandbox.records.statuses import CODES
from softpro_sandbox.records.transactions import order_id, order_number
from softpro_sandbox.response_models import Transaction, TransactionPage
from softpro_sandbox.routes.dependencies import IfMatch, ReadsTransactions, State, WritesTransactions, errors
from softpro_sandbox.routes.record_operations import change, create, latest_version, page_response, read, remove
from softpro_sandbox.state import EntityType
from softpro_sandbox.webhooks.events import order_event
from softpro_sandbox.webhooks.notify import notify

router = APIRouter(prefix="/transactions", tags=["transactions"])
_KIND = EntityType.TRANSACTION


@router.get("", response_model=TransactionPage, responses=errors(400, 403))
async def list_transactions(
    state: State, grant: ReadsTransactions, query: Annotated[TransactionQuery, Query()]
) -> Response:
    """Return a page of the organization's transactions. Lists are live: a record that changes during paging moves."""
    selection = select_transactions(query, state.switches)
    return page_response(state, grant.organization_id, _KIND, selection, query)


@router.get("/{orderId}", response_model=Transaction, responses=errors(403, 404))
async def get_transaction(state: State, grant: ReadsTransactions, orderId: str) -> Response:
    """Return one transaction, with its `ETag`."""
    return read(state, grant.organization_id, _KIND, orderId)


@router.post("", status_code=201, response_model=Transaction, responses=errors(400, 403))
async def create_transaction(state: State, grant: WritesTransactions, body: TransactionCreate) -> Response:
    """Create a transaction. There is no idempotency key: a POST whose response was lost may have succeeded."""
    number = state.next_number(grant.organization_id, _KIND, order_id)
    fields: Record = body.model_dump(by_alias=True, exclude_unset=True)
    fields = with_ids(order_id(number), {}, fields)
    number_text = fields.pop("orderNumber", None) or order_number(iso(state.stamp()), number)
    ids = {"orderId": order_id(number), "orderNumber": number_text}
    return create(state, grant.organization_id, _KIND, order_id(number), ids, fields)


@router.patch("/{orderId}", response_model=Transaction, responses=errors(400, 403, 404, 409))
async def patch_transaction(
    state: State,
    grant: WritesTransactions,
    orderId: str,
    body: TransactionPatch,
    if_match: IfMatch = None,
) -> Response:
    """Update only the fields sent; a null clears, an object is merged, an array is replaced."""
    current = decode(latest_version(state, grant.organization_id, _KIND, orderId).body)
    fields = with_ids(orderId, current, body.model_dump(by_alias=True, exclude_unset=True))
    return change(state, grant.organization_id, _KIND, orderId, fields, if_match)


@router.patch("/{orderId}/status", response_model=Transaction, responses=errors(400, 403, 404, 409))
async def patch_status(
    state: State, grant: WritesTransactions, orderId: str, body: StatusChange, if_match: IfMatch = None
) -> Response:
    """Give an order another status and return the order."""
    code = CODES.get(body.status_id)
    if code is None:
        raise bad_field("statusId", f"status {body.status_id} does not exist")
    before = latest_version(state, grant.organization_id, _KIND, orderId)
    response = change(state, grant.organization_id, _KIND, orderId, {"status": code}, if_match)
    after = latest_version(state, grant.organization_id, _KIND, orderId)
    if after is not before:
        notify(state, grant.organization_id, [order_event("status.changed", orderId, after.body)])
    return response


@router.delete("/{orderId}", status_code=204, response_class=Response, responses=errors(403, 404))
async def delete_transaction(state: State, grant: WritesTransactions, orderId: str) -> Response:
    """Delete a transaction: it leaves lists at once and returns 404."""
    return remove(state, grant.organization_id, _KIND, orderId)
