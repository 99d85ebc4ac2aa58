"""Generate the documents that an order has from the start, when they are first read."""

import random
from collections.abc import Iterator

from softpro_sandbox.clock import DAY_MS, iso, parse_ms
from softpro_sandbox.documents.content import GeneratedPdf
from softpro_sandbox.records import fake_values
from softpro_sandbox.records.codec import Record
from softpro_sandbox.records.dates import EPOCH_MS

ALWAYS = frozenset({"documentId", "orderId", "uploadedAt", "lastModifiedAt"})
PDF = "application/pdf"
_KINDS = (
    ("PURCHASE_AGREEMENT", "Purchase agreement", "CONTRACT"),
    ("TITLE_COMMITMENT", "Title commitment", "TITLE"),
    ("CLOSING_DISCLOSURE", "Closing disclosure", "CLOSING"),
    ("WIRE_INSTRUCTIONS", "Wire instructions", "CLOSING"),
    ("DEED", "Warranty deed", "RECORDING"),
    ("APPRAISAL", "Appraisal report", "LENDER"),
    ("PAYOFF_LETTER", "Payoff letter", "LENDER"),  # not in the contract: enums can grow
)
_STATUSES = ("DRAFT", "PENDING_REVIEW", "APPROVED", "SIGNED", "RECORDED", "ARCHIVED")
_MOST = 4


def document_id(order_id: str, number: int) -> str:
    """Return the id of an order's n-th document, counted from 1."""
    return f"doc-{order_id.removeprefix('ord-')}-{number}"


def generate(organization_id: str, order_id: str, order: Record) -> Iterator[tuple[Record, int, GeneratedPdf]]:
    """Generate the seeded documents of an order; every call gives the same.

    Yields:
        The record, its lastModifiedAt in milliseconds, and its content.
    """
    rng = random.Random(f"{organization_id}/{order_id}/documents")
    begun = _created(order)
    for number, (kind, name, category) in enumerate(rng.sample(_KINDS, rng.randrange(1, _MOST + 1)), start=1):
        uploaded = min(EPOCH_MS, begun + int(rng.random() * 20 * DAY_MS))
        modified = min(EPOCH_MS, uploaded + (int(rng.random() * DAY_MS) if rng.random() < 0.3 else 0))
        new_id = document_id(order_id, number)
        content = GeneratedPdf(f"{name} - {new_id}", rng.randrange(2_000, 40_000))
        record: Record = {
            "documentId": new_id,
            "orderId": order_id,
            "documentName": name,
            "documentType": kind,
            "category": category,
            "fileName": f"{name.replace(' ', '-').lower()}.pdf",
            "fileSize": content.size,
            "mimeType": PDF,
            "status": rng.choice(_STATUSES),
            "version": rng.choice((1, 1, 1, 2, 3)),
            "versionNotes": "Corrected legal description." if rng.random() < 0.1 else None,
            "description": f"{name}, as received" if rng.random() < 0.5 else None,
            "tags": rng.sample(("urgent", "recorded", "wet signature"), k=rng.randrange(3)),
            "customFields": fake_values.custom_fields(rng) if rng.random() < 0.2 else {},
            "uploadedAt": iso(uploaded),
            "lastModifiedAt": iso(modified),
        }
        yield fake_values.with_gaps(rng, record, ALWAYS), modified, content


def _created(order: Record) -> int:
    try:
        return parse_ms(str(order.get("createdAt")))
    except ValueError:
        return EPOCH_MS
