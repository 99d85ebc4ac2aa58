"""Serve the control calls, which read and change the sandbox itself.

They are not part of the contract, cost no budget and need no token.
"""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from starlette.responses import Response, StreamingResponse

from softpro_sandbox.documents.content import GeneratedPdf
from softpro_sandbox.documents.create import create_document
from softpro_sandbox.documents.seed_data import PDF
from softpro_sandbox.errors import ApiError
from softpro_sandbox.models import DocumentMetadata, DocumentType
from softpro_sandbox.oauth.grants import Grant
from softpro_sandbox.random_changes import change_in_batches
from softpro_sandbox.raw_records import add_raw_record
from softpro_sandbox.records.codec import decode
from softpro_sandbox.response_models import DocumentResponse
from softpro_sandbox.routes.dependencies import State
from softpro_sandbox.routes.record_operations import latest_version, record_response, remove
from softpro_sandbox.state import EntityType, SandboxState
from softpro_sandbox.switches import Switches

router = APIRouter(prefix="/sandbox", tags=["sandbox control"])


class ControlRequest(BaseModel):
    """The body of a control call.

    Without `organizationId` a call concerns the first organization, or all where the call says so.
    """

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, extra="forbid")

    organization_id: str | None = None


class ChangeRequest(ControlRequest):
    """The body of `POST /sandbox/changes`."""

    entity_type: EntityType = EntityType.TRANSACTION
    count: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    same_timestamp: bool = False


class DocumentRequest(ControlRequest):
    """The body of `POST /sandbox/documents`. The document is a PDF, which needs about 700 bytes."""

    order_id: str
    file_size: Annotated[int, Field(ge=0, le=1_000_000_000_000)] = 10_000
    document_type: DocumentType = "OTHER"
    document_name: str = "Document"


class ExpireRequest(ControlRequest):
    """The body of `POST /sandbox/grants/expire`: the tokens that expire."""

    access_tokens: bool = True
    refresh_tokens: bool = False


OrganizationId = Annotated[str | None, Query(alias="organizationId", description="the first by default")]
Entity = Annotated[EntityType, Query(alias="entityType")]


@router.get("/settings", response_model=Switches)
async def get_settings(state: State) -> Switches:
    """Return the switches."""
    return state.switches


@router.patch("/settings", response_model=Switches)
async def patch_settings(state: State, changes: dict[str, Any]) -> Switches:
    """Set some switches by name; the others keep their values."""
    try:
        state.switch(changes)
    except ValidationError as error:
        fields = [{"field": str(item["loc"][0]), "message": item["msg"]} for item in error.errors()]
        message = "; ".join(f"{item['field']}: {item['message']}" for item in fields)
        raise ApiError(400, message, {"fields": fields}) from None
    return state.switches


@router.get("/organizations")
async def list_organizations(state: State) -> list[dict[str, Any]]:
    """List the organizations, with the number of records that each really has."""
    return [
        {
            "organizationId": each.organization_id,
            "name": each.name,
            "transactions": len(each.stores[EntityType.TRANSACTION].latest),
            "contacts": len(each.stores[EntityType.CONTACT].latest),
        }
        for each in state.organizations.values()
    ]


@router.post("/changes")
async def make_changes(state: State, body: ChangeRequest) -> dict[str, Any]:
    """Change random records now; with `sameTimestamp` all get one `updatedAt`. Return their ids."""
    organization_id = organization_of(state, body.organization_id)
    moment = state.stamp() if body.same_timestamp else None
    ids = await change_in_batches(state, organization_id, body.entity_type, body.count, moment)
    return {"organizationId": organization_id, "entityType": body.entity_type, "count": len(ids), "ids": ids}


@router.post("/records", status_code=201, openapi_extra={"requestBody": {"content": {"application/json": {}}}})
async def post_record(
    state: State, request: Request, entity: Entity, organization_id: OrganizationId = None
) -> dict[str, str]:
    """Store the body, any JSON object, as a record; it is kept and served byte for byte.

    Its own id and `updatedAt` are used when they are valid. Otherwise generated values are used, which the record does
    not show.
    """
    chosen = organization_of(state, organization_id)
    try:
        record_id = add_raw_record(state, chosen, entity, await request.body())
    except ValueError as error:
        raise ApiError(400, f"The body is not a JSON object: {error}") from None
    return {"organizationId": chosen, "entityType": entity, "recordId": record_id}


@router.delete("/records/{recordId}", status_code=204, response_class=Response)
async def delete_record(
    state: State, recordId: str, entity: Entity, organization_id: OrganizationId = None
) -> Response:
    """Delete a transaction or contact, as the vendor's own staff would."""
    return remove(state, organization_of(state, organization_id), entity, recordId)


@router.post("/documents", status_code=201, response_model=DocumentResponse)
async def make_document(state: State, body: DocumentRequest) -> Response:
    """Add a document of any size to an order, as the vendor's own staff would. Its bytes are generated when read."""
    chosen = organization_of(state, body.organization_id)
    record = decode(latest_version(state, chosen, EntityType.TRANSACTION, body.order_id).body)
    content = GeneratedPdf(f"{body.document_name} - {body.order_id}", body.file_size)
    metadata = DocumentMetadata(document_type=body.document_type, document_name=body.document_name)
    created = create_document(state, chosen, body.order_id, record, content, metadata, "document.pdf", PDF)
    return record_response(state, created, 201)


@router.get("/export", response_class=StreamingResponse)
async def export(state: State, entity: Entity, organization_id: OrganizationId = None) -> StreamingResponse:
    """Return the latest version of every record, surfaced or not, one per line, ordered by (updatedAt, id)."""
    bodies = list(state.store(organization_of(state, organization_id), entity).latest_bodies())

    # In JSON a raw line break occurs only between tokens, where a space is equivalent.
    async def lines() -> AsyncIterator[bytes]:
        for at in range(0, len(bodies), 500):
            yield b"".join(body.replace(b"\n", b" ") + b"\n" for body in bodies[at : at + 500])

    return StreamingResponse(lines(), media_type="application/x-ndjson")


@router.post("/grants/expire")
async def expire_grants(state: State, body: ExpireRequest) -> dict[str, int]:
    """Expire tokens now, of one organization or of all."""
    now = state.clock()
    grants = _grants(state, body.organization_id)
    for grant in grants:
        if body.access_tokens:
            grant.access = dict.fromkeys(grant.access, now)
        if body.refresh_tokens:
            grant.refresh = dict.fromkeys(grant.refresh, now)
    return {"grants": len(grants)}


@router.post("/grants/revoke")
async def revoke_grants(state: State, body: ControlRequest) -> dict[str, int]:
    """Revoke grants as if a user had withdrawn consent at the vendor, of one organization or of all."""
    grants = _grants(state, body.organization_id)
    for grant in grants:
        grant.revoke()
    return {"grants": len(grants)}


@router.get("/stats")
async def get_stats(state: State) -> dict[str, Any]:
    """Return counts since the start. `busiestMinute` is the most requests admitted for one grant in any 60 s."""
    return {**state.stats.to_json(), "busiestMinute": max((g.window.busiest for g in state.grants.grants), default=0)}


def organization_of(state: SandboxState, organization_id: str | None) -> str:
    """Return the organization of a control call: the first when none is named. Raise a 404 for an unknown one."""
    chosen = organization_id or next(iter(state.organizations))
    if chosen not in state.organizations:
        raise ApiError(404, f"Organization {chosen} does not exist.")
    return chosen


def _grants(state: SandboxState, organization_id: str | None) -> list[Grant]:
    """List the live grants of one organization, or of all when none is named."""
    chosen = None if organization_id is None else organization_of(state, organization_id)
    return [g for g in state.grants.grants if not g.revoked and chosen in (None, g.organization_id)]
