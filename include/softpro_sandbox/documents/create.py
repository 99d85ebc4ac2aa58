"""Create a document of an order, uploaded or generated."""

from softpro_sandbox.clock import iso
from softpro_sandbox.documents.content import Content
from softpro_sandbox.models import DocumentMetadata
from softpro_sandbox.records.codec import Record
from softpro_sandbox.state import SandboxState
from softpro_sandbox.webhooks.events import document_events
from softpro_sandbox.webhooks.notify import notify


def create_document(
    state: SandboxState,
    organization_id: str,
    order_id: str,
    order: Record,
    content: Content,
    metadata: DocumentMetadata,
    file_name: str,
    mime_type: str,
) -> bytes:
    """Store a document of an order and return its record as JSON bytes. The order's `updatedAt` does not change."""
    documents = state.order_documents(organization_id, order_id, order)
    now = state.stamp()
    sent: Record = metadata.model_dump(by_alias=True, exclude_unset=True)
    record: Record = {
        "documentId": documents.next_id(),
        "orderId": order_id,
        "documentName": metadata.document_name or file_name,
        "documentType": metadata.document_type,
        "fileName": metadata.file_name or file_name,
        "fileSize": content.size,
        "mimeType": mime_type,
        "status": metadata.status,
        "version": 1,
    }
    record |= {name: value for name, value in sent.items() if name not in record}
    record |= {"uploadedAt": iso(now), "lastModifiedAt": iso(now)}
    body = documents.add(record, content, now, state.surface_time(now))
    notify(state, organization_id, document_events("document.uploaded", order_id, record["documentId"], body))
    return body
