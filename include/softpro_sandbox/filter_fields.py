"""Read the fields that filters and sorts need from a record's bytes; a field of the wrong type counts as absent."""

from typing import Any

import msgspec


class TransactionFilterFields(msgspec.Struct, rename="camel"):
    """The fields of a transaction that lists filter and sort by."""

    order_number: Any = None
    order_type: Any = None
    status: Any = None
    property_address: Any = None
    opened_date: Any = None
    estimated_closing_date: Any = None
    actual_closing_date: Any = None
    buyer: Any = None
    seller: Any = None
    lender: Any = None
    title_company: Any = None
    escrow_officer: Any = None
    custom_fields: Any = None

    @property
    def closing_date(self) -> str | None:
        """Return the actual closing date, or else the estimated one."""
        return text(self.actual_closing_date) or text(self.estimated_closing_date)


class ContactFilterFields(msgspec.Struct, rename="camel"):
    """The fields of a contact that lists filter and sort by."""

    contact_type: Any = None
    first_name: Any = None
    middle_name: Any = None
    last_name: Any = None
    email: Any = None
    phone: Any = None
    mobile_phone: Any = None
    company: Any = None
    address: Any = None
    custom_fields: Any = None
    created_at: Any = None


class DocumentFilterFields(msgspec.Struct, rename="camel"):
    """The fields of a document that its list filters by."""

    document_type: Any = None
    status: Any = None
    uploaded_at: Any = None


_TRANSACTION = msgspec.json.Decoder(TransactionFilterFields)
_CONTACT = msgspec.json.Decoder(ContactFilterFields)
_DOCUMENT = msgspec.json.Decoder(DocumentFilterFields)


def decode_transaction(body: bytes) -> TransactionFilterFields:
    """Decode a transaction's fields; return empty fields for a raw record that cannot be decoded."""
    try:
        return _TRANSACTION.decode(body)
    except msgspec.DecodeError:
        return TransactionFilterFields()


def decode_contact(body: bytes) -> ContactFilterFields:
    """Decode a contact's fields; return empty fields for a raw record that cannot be decoded."""
    try:
        return _CONTACT.decode(body)
    except msgspec.DecodeError:
        return ContactFilterFields()


def decode_document(body: bytes) -> DocumentFilterFields:
    """Decode a document's fields."""
    return _DOCUMENT.decode(body)


def text(value: Any) -> str | None:
    """Return the value if it is a string and not empty, else None."""
    return value if isinstance(value, str) and value else None


def nested_text(value: Any, name: str) -> str | None:
    """Return a string inside an object, or None when either has the wrong type."""
    return text(value.get(name)) if isinstance(value, dict) else None


def party_names(fields: TransactionFilterFields) -> list[str]:
    """List the names of all parties and of the escrow officer of an order."""
    parties = [fields.title_company]
    for several in (fields.buyer, fields.seller, fields.lender):
        parties += several if isinstance(several, list) else []
    officer = [nested_text(fields.escrow_officer, "firstName"), nested_text(fields.escrow_officer, "lastName")]
    names = [nested_text(party, "entityName") for party in parties] + [join_text(*officer)]
    return [name for name in names if name]


def address_line(address: Any) -> str:
    """Join an address into one line for searching."""
    if not isinstance(address, dict):
        return ""
    return join_text(
        *(text(address.get(name)) for name in ("streetAddress", "streetAddress2", "city", "state", "zipCode"))
    )


def join_text(*parts: str | None) -> str:
    """Join the parts that are not empty with spaces."""
    return " ".join(part for part in parts if part)
