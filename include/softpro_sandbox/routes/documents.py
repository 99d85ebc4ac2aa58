"""Serve calls on the documents of an order (contract, Endpoints). They leave the order's `updatedAt` alone."""

from collections.abc import AsyncIterator
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from softpro_sandbox.documents.content import Content
from softpro_sandbox.documents.create import create_document
from softpro_sandbox.documents.document_store import OrderDocuments
from softpro_sandbox.documents.upload_form import UPLOAD_FORM, read_upload
from softpro_sandbox.errors import ApiError
from softpro_sandbox.filters import document_predicate
from softpro_sandbox.query_params import DocumentQuery
from softpro_sandbox.records.codec import Record, decode
from softpro_sandbox.response_models import DocumentResponse
from softpro_sandbox.routes.dependencies import ReadsDocuments, Responses, State, WritesDocuments, errors
from softpro_sandbox.routes.record_operations import JSON, latest_version, record_response, visible_version
from softpro_sandbox.state import EntityType, SandboxState
from softpro_sandbox.webhooks.events import document_events
from softpro_sandbox.webhooks.notify import notify

router = APIRouter(prefix="/transactions/{orderId}/documents", tags=["documents"])
_KIND = EntityType.TRANSACTION
_BYTES: Responses = {200: {"description": "the document's bytes", "content": {"*/*": {}}}}


@router.get("", response_model=list[DocumentResponse], responses=errors(400, 403, 404))
async def list_documents(
    state: State, grant: ReadsDocuments, orderId: str, query: Annotated[DocumentQuery, Query()]
) -> Response:
    """List the documents of an order as a plain array, oldest change first."""
    documents = _visible_documents(state, grant.organization_id, orderId)
    return Response(b"[%b]" % b",".join(documents.listed(document_predicate(query))), media_type=JSON)


@router.get("/{documentId}", response_model=DocumentResponse, responses=errors(403, 404))
async def get_document(state: State, grant: ReadsDocuments, orderId: str, documentId: str) -> Response:
    """Return the record of a document."""
    return record_response(state, _visible_body(_visible_documents(state, grant.organization_id, orderId), documentId))


@router.get("/{documentId}/download", response_class=StreamingResponse, responses=_BYTES | errors(403, 404))
async def download_document(state: State, grant: ReadsDocuments, orderId: str, documentId: str) -> Response:
    """Return the bytes of a document, with its own content type."""
    documents = _visible_documents(state, grant.organization_id, orderId)
    record = decode(_visible_body(documents, documentId))
    content = documents.contents[documentId]
    name = quote(str(record.get("fileName") or documentId), safe="")
    headers = {
        "Content-Type": str(record.get("mimeType") or "application/octet-stream"),
        "Content-Length": str(content.size),
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
    }
    return StreamingResponse(_stream(content), headers=headers)


@router.post(
    "", status_code=201, response_model=DocumentResponse, responses=errors(400, 403, 404), openapi_extra=UPLOAD_FORM
)
async def upload_document(state: State, grant: WritesDocuments, orderId: str, request: Request) -> Response:
    """Create a document. There is no idempotency key: a POST whose response was lost may have succeeded."""
    latest_version(state, grant.organization_id, _KIND, orderId)
    upload = await read_upload(request)
    order = _latest_order(state, grant.organization_id, orderId)
    body = create_document(
        state,
        grant.organization_id,
        orderId,
        order,
        upload.content,
        upload.metadata,
        upload.file_name,
        upload.mime_type,
    )
    return record_response(state, body, 201)


@router.delete("/{documentId}", status_code=204, response_class=Response, responses=errors(403, 404))
async def delete_document(state: State, grant: WritesDocuments, orderId: str, documentId: str) -> Response:
    """Delete a document: it leaves lists at once and returns 404."""
    order = _latest_order(state, grant.organization_id, orderId)
    if not state.delete_document(grant.organization_id, orderId, order, documentId):
        raise _not_found(documentId)
    notify(state, grant.organization_id, document_events("document.deleted", orderId, documentId, None))
    return Response(status_code=204)


def _visible_documents(state: SandboxState, organization_id: str, order_id: str) -> OrderDocuments:
    """Return the documents of a visible order. Raise a 404 when the order is not visible."""
    order = decode(visible_version(state, organization_id, _KIND, order_id).body)
    return state.order_documents(organization_id, order_id, order)


def _latest_order(state: SandboxState, organization_id: str, order_id: str) -> Record:
    return decode(latest_version(state, organization_id, _KIND, order_id).body)


def _visible_body(documents: OrderDocuments, document_id: str) -> bytes:
    version = documents.store.visible.get(document_id)
    if version is None:
        raise _not_found(document_id)
    return version.body


def _not_found(document_id: str) -> ApiError:
    return ApiError(404, f"Document {document_id} does not exist.")


async def _stream(content: Content) -> AsyncIterator[bytes]:
    for block in content.blocks():
        yield block
