"""Calls on the documents of an order (contract, Endpoints). Documents do not move the order's `updatedAt`."""

from collections.abc import AsyncIterator
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from softpro_sandbox.documents.content import Content
from softpro_sandbox.documents.create import file_document
from softpro_sandbox.documents.document_store import Shelf
from softpro_sandbox.documents.upload_form import UPLOAD_FORM, read_upload
from softpro_sandbox.errors import ApiError
from softpro_sandbox.filters import document_predicate
from softpro_sandbox.query_params import DocumentQuery
from softpro_sandbox.records.codec import Record, decode
from softpro_sandbox.response_models import DocumentAnswer
from softpro_sandbox.routes.dependencies import ReadsDocuments, Responses, TheWorld, WritesDocuments, errors
from softpro_sandbox.routes.record_operations import JSON, one_response, shown_version, true_version
from softpro_sandbox.state import EntityType, World
from softpro_sandbox.webhooks.events import of_document
from softpro_sandbox.webhooks.notify import tell

router = APIRouter(prefix="/transactions/{orderId}/documents", tags=["documents"])
_KIND = EntityType.TRANSACTION
_BYTES: Responses = {200: {"description": "the document's bytes", "content": {"*/*": {}}}}


@router.get("", response_model=list[DocumentAnswer], responses=errors(400, 403, 404))
async def list_documents(
    world: TheWorld, grant: ReadsDocuments, orderId: str, query: Annotated[DocumentQuery, Query()]
) -> Response:
    """The documents of an order; a plain array, oldest change first."""
    shelf = _shelf(world, grant.organization_id, orderId)
    return Response(b"[%b]" % b",".join(shelf.listed(document_predicate(query))), media_type=JSON)


@router.get("/{documentId}", response_model=DocumentAnswer, responses=errors(403, 404))
async def get_document(world: TheWorld, grant: ReadsDocuments, orderId: str, documentId: str) -> Response:
    """What is known of a document."""
    return one_response(world, _shown(_shelf(world, grant.organization_id, orderId), documentId))


@router.get("/{documentId}/download", response_class=StreamingResponse, responses=_BYTES | errors(403, 404))
async def download_document(world: TheWorld, grant: ReadsDocuments, orderId: str, documentId: str) -> Response:
    """The document itself, with its own content type."""
    shelf = _shelf(world, grant.organization_id, orderId)
    record = decode(_shown(shelf, documentId))
    content = shelf.contents[documentId]
    name = quote(str(record.get("fileName") or documentId), safe="")
    headers = {
        "Content-Type": str(record.get("mimeType") or "application/octet-stream"),
        "Content-Length": str(content.size),
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
    }
    return StreamingResponse(_streamed(content), headers=headers)


@router.post(
    "", status_code=201, response_model=DocumentAnswer, responses=errors(400, 403, 404), openapi_extra=UPLOAD_FORM
)
async def upload_document(world: TheWorld, grant: WritesDocuments, orderId: str, request: Request) -> Response:
    """A new document. There is no idempotency key: a POST whose answer was lost may have happened."""
    true_version(world, grant.organization_id, _KIND, orderId)
    upload = await read_upload(request)
    order = _true_order(world, grant.organization_id, orderId)
    body = file_document(
        world,
        grant.organization_id,
        orderId,
        order,
        upload.content,
        upload.metadata,
        upload.file_name,
        upload.mime_type,
    )
    return one_response(world, body, 201)


@router.delete("/{documentId}", status_code=204, response_class=Response, responses=errors(403, 404))
async def delete_document(world: TheWorld, grant: WritesDocuments, orderId: str, documentId: str) -> Response:
    """Delete a document: it is gone from lists at once and answers 404."""
    order = _true_order(world, grant.organization_id, orderId)
    if not world.delete_document(grant.organization_id, orderId, order, documentId):
        raise _missing(documentId)
    tell(world, grant.organization_id, of_document("document.deleted", orderId, documentId, None))
    return Response(status_code=204)


def _shelf(world: World, organization_id: str, order_id: str) -> Shelf:
    """The documents of an order that readers see; 404 when they see none."""
    order = decode(shown_version(world, organization_id, _KIND, order_id).body)
    return world.shelf(organization_id, order_id, order)


def _true_order(world: World, organization_id: str, order_id: str) -> Record:
    return decode(true_version(world, organization_id, _KIND, order_id).body)


def _shown(shelf: Shelf, document_id: str) -> bytes:
    version = shelf.catalogue.shown.get(document_id)
    if version is None:
        raise _missing(document_id)
    return version.body


def _missing(document_id: str) -> ApiError:
    return ApiError(404, f"There is no document {document_id}.")


async def _streamed(content: Content) -> AsyncIterator[bytes]:
    for block in content.blocks():
        yield block
