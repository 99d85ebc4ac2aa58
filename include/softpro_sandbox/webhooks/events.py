"""Derive the events of a change: type, entity and record (contract, Webhooks). Pure functions."""

from dataclasses import dataclass

from softpro_sandbox.records.codec import Record, encode

CLOSED, CANCELLED = "CLOSED", "CANCELLED"
TRANSACTION, CONTACT, DOCUMENT = "TRANSACTION", "CONTACT", "DOCUMENT"
_ID_FIELDS = {TRANSACTION: "orderId", CONTACT: "contactId"}


@dataclass(frozen=True, slots=True)
class ChangeEvent:
    """An event before it has an id.

    Attributes:
        ids: the event's `data` when it carries no record.
        record: the record as JSON bytes; None after a delete.
    """

    type: str
    entity_type: str
    entity_id: str
    ids: Record
    record: bytes | None = None

    def data(self, *, with_record: bool) -> bytes:
        """Return the event's `data`: the record, or only its ids."""
        return self.record if with_record and self.record is not None else encode(self.ids)


def created_events(entity: str, record_id: str, body: bytes) -> list[ChangeEvent]:
    """Return the events of a created record."""
    return [_record_event("created", entity, record_id, body)]


def updated_events(entity: str, record_id: str, body: bytes) -> list[ChangeEvent]:
    """Return the events of a replaced record, without comparing its fields."""
    return [_record_event("updated", entity, record_id, body)]


def deleted_events(entity: str, record_id: str) -> list[ChangeEvent]:
    """Return the events of a deleted record."""
    return [_record_event("deleted", entity, record_id, None)]


def changed_events(entity: str, record_id: str, before: Record, after: Record, body: bytes) -> list[ChangeEvent]:
    """Return the events of a changed record.

    An order has one event for its status, one for other fields, and one when it closes or reopens.
    """
    if entity != TRANSACTION:
        return updated_events(entity, record_id, body)
    names = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} - {"updatedAt"}
    kinds = [] if names == {"status"} else ["transaction.updated"]
    if "status" in names:
        kinds.append("transaction.status_changed")
        if after.get("status") == CLOSED:
            kinds.append("order.closed")
        elif before.get("status") in (CLOSED, CANCELLED) and after.get("status") != CANCELLED:
            kinds.append("order.reopened")
    return [order_event(kind, record_id, body) for kind in kinds]


def order_event(kind: str, order_id: str, body: bytes) -> ChangeEvent:
    """Return an event that carries the order."""
    return ChangeEvent(kind, TRANSACTION, order_id, {"orderId": order_id}, body)


def party_events(kind: str, order_id: str, party: Record) -> list[ChangeEvent]:
    """Return the event of an added or changed party.

    It is an event of the order, and carries the party with the order's id.
    """
    ids = {"orderId": order_id, "partyId": party.get("partyId")}
    return [ChangeEvent(kind, TRANSACTION, order_id, ids, encode({"orderId": order_id} | party))]


def property_events(order_id: str, property_id: str, body: bytes) -> list[ChangeEvent]:
    """Return the event of a changed property. It is an event of the order, and carries the property."""
    ids = {"orderId": order_id, "propertyId": property_id}
    return [ChangeEvent("property.updated", TRANSACTION, order_id, ids, body)]


def document_events(kind: str, order_id: str, document_id: str, body: bytes | None) -> list[ChangeEvent]:
    """Return the event of an uploaded or deleted document."""
    return [ChangeEvent(kind, DOCUMENT, document_id, {"documentId": document_id, "orderId": order_id}, body)]


def _record_event(kind: str, entity: str, record_id: str, body: bytes | None) -> ChangeEvent:
    return ChangeEvent(f"{entity.lower()}.{kind}", entity, record_id, {_ID_FIELDS[entity]: record_id}, body)
