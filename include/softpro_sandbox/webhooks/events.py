"""What the vendor tells of a change: types, entity and record of its events (contract, Webhooks). Pure."""

from dataclasses import dataclass

from softpro_sandbox.records.codec import Record, encode

CLOSED, CANCELLED = "CLOSED", "CANCELLED"
TRANSACTION, CONTACT, DOCUMENT = "TRANSACTION", "CONTACT", "DOCUMENT"
_ID_FIELDS = {TRANSACTION: "orderId", CONTACT: "contactId"}


@dataclass(frozen=True, slots=True)
class Happening:
    """One event to be: `ids` is what its data is without the record, `record` JSON bytes, or None when it is gone."""

    type: str
    entity_type: str
    entity_id: str
    ids: Record
    record: bytes | None = None

    def data(self, *, with_record: bool) -> bytes:
        """The event's `data`: the record, or just its ids."""
        return self.record if with_record and self.record is not None else encode(self.ids)


def created(entity: str, record_id: str, body: bytes) -> list[Happening]:
    """A record came to be."""
    return [_of_record("created", entity, record_id, body)]


def updated(entity: str, record_id: str, body: bytes) -> list[Happening]:
    """A record was replaced by one that nobody has looked into."""
    return [_of_record("updated", entity, record_id, body)]


def deleted(entity: str, record_id: str) -> list[Happening]:
    """A record is gone."""
    return [_of_record("deleted", entity, record_id, None)]


def changed(entity: str, record_id: str, before: Record, after: Record, body: bytes) -> list[Happening]:
    """A record changed: one event for its status, one for other fields, and one when an order closes or reopens."""
    if entity != TRANSACTION:
        return updated(entity, record_id, body)
    names = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} - {"updatedAt"}
    kinds = [] if names == {"status"} else ["transaction.updated"]
    if "status" in names:
        kinds.append("transaction.status_changed")
        if after.get("status") == CLOSED:
            kinds.append("order.closed")
        elif before.get("status") in (CLOSED, CANCELLED) and after.get("status") != CANCELLED:
            kinds.append("order.reopened")
    return [of_order(kind, record_id, body) for kind in kinds]


def of_order(kind: str, order_id: str, body: bytes) -> Happening:
    """An event of an order that carries the order."""
    return Happening(kind, TRANSACTION, order_id, {"orderId": order_id}, body)


def of_party(kind: str, order_id: str, party: Record) -> list[Happening]:
    """A party was added or changed: the event is the order's and carries the party with the order's id."""
    ids = {"orderId": order_id, "partyId": party.get("partyId")}
    return [Happening(kind, TRANSACTION, order_id, ids, encode({"orderId": order_id} | party))]


def of_property(order_id: str, property_id: str, body: bytes) -> list[Happening]:
    """A property changed: the event is the order's and carries the property."""
    ids = {"orderId": order_id, "propertyId": property_id}
    return [Happening("property.updated", TRANSACTION, order_id, ids, body)]


def of_document(kind: str, order_id: str, document_id: str, body: bytes | None) -> list[Happening]:
    """A document came or went."""
    return [Happening(kind, DOCUMENT, document_id, {"documentId": document_id, "orderId": order_id}, body)]


def _of_record(kind: str, entity: str, record_id: str, body: bytes | None) -> Happening:
    return Happening(f"{entity.lower()}.{kind}", entity, record_id, {_ID_FIELDS[entity]: record_id}, body)
