"""Serve calls on contacts (contract, Endpoints). There is no DELETE."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from softpro_sandbox.filters import select_contacts
from softpro_sandbox.models import ContactCreate, ContactPatch
from softpro_sandbox.query_params import ContactQuery
from softpro_sandbox.records.codec import Record
from softpro_sandbox.records.contacts import contact_id
from softpro_sandbox.response_models import Contact, ContactPage
from softpro_sandbox.routes.dependencies import IfMatch, ReadsContacts, State, WritesContacts, errors
from softpro_sandbox.routes.record_operations import change, create, page_response, read
from softpro_sandbox.state import EntityType

router = APIRouter(prefix="/contacts", tags=["contacts"])
_KIND = EntityType.CONTACT


@router.get("", response_model=ContactPage, responses=errors(400, 403))
async def list_contacts(state: State, grant: ReadsContacts, query: Annotated[ContactQuery, Query()]) -> Response:
    """Return a page of the organization's contacts. Lists are live: a record that changes during paging moves."""
    selection = select_contacts(query, state.switches)
    return page_response(state, grant.organization_id, _KIND, selection, query)


@router.get("/{contactId}", response_model=Contact, responses=errors(403, 404))
async def get_contact(state: State, grant: ReadsContacts, contactId: str) -> Response:
    """Return one contact, with its `ETag`."""
    return read(state, grant.organization_id, _KIND, contactId)


@router.post("", status_code=201, response_model=Contact, responses=errors(400, 403))
async def create_contact(state: State, grant: WritesContacts, body: ContactCreate) -> Response:
    """Create a contact. There is no idempotency key: a POST whose response was lost may have succeeded."""
    new_id = contact_id(state.next_number(grant.organization_id, _KIND, contact_id))
    fields: Record = body.model_dump(by_alias=True, exclude_unset=True)
    return create(state, grant.organization_id, _KIND, new_id, {"contactId": new_id}, fields)


@router.patch("/{contactId}", response_model=Contact, responses=errors(400, 403, 404, 409))
async def patch_contact(
    state: State,
    grant: WritesContacts,
    contactId: str,
    body: ContactPatch,
    if_match: IfMatch = None,
) -> Response:
    """Update only the fields sent; a null clears, an object is merged."""
    fields: Record = body.model_dump(by_alias=True, exclude_unset=True)
    return change(state, grant.organization_id, _KIND, contactId, fields, if_match)
