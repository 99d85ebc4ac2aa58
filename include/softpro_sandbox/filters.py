"""Translate list parameters into selections; pure functions that `record_store` applies."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from softpro_sandbox.clock import iso, parse_ms
from softpro_sandbox.filter_fields import (
    ContactFilterFields,
    TransactionFilterFields,
    address_line,
    decode_contact,
    decode_document,
    decode_transaction,
    join_text,
    nested_text,
    party_names,
    text,
)
from softpro_sandbox.query_params import ContactQuery, DocumentQuery, ListQuery, TransactionQuery
from softpro_sandbox.record_store import BY_ID, BY_UPDATED, Order, Predicate, Selection, SortValue
from softpro_sandbox.switches import Switches

Fields = TypeVar("Fields")
Check = Callable[[Fields], bool]

_TRANSACTION_SORTS: dict[str, SortValue | None] = {
    "updatedAt": None,
    "openedDate": lambda body: text(decode_transaction(body).opened_date),
    "closingDate": lambda body: decode_transaction(body).closing_date,
    "orderNumber": lambda body: text(decode_transaction(body).order_number),
}
_CONTACT_SORTS: dict[str, SortValue | None] = {
    "updatedAt": None,
    "lastName": lambda body: _folded(decode_contact(body).last_name),
    "firstName": lambda body: _folded(decode_contact(body).first_name),
    "company": lambda body: _folded(decode_contact(body).company),
    "createdAt": lambda body: text(decode_contact(body).created_at),
}


def select_transactions(query: TransactionQuery, switches: Switches) -> Selection:
    """Build the selection for a transaction list call, within the limits of the switches."""
    checks = transaction_checks(query)
    predicate: Predicate | None = None
    if checks:

        def predicate(body: bytes) -> bool:
            fields = decode_transaction(body)
            return all(check(fields) for check in checks)

    return _selection(query, switches, predicate, _TRANSACTION_SORTS, query.sort_by)


def select_contacts(query: ContactQuery, switches: Switches) -> Selection:
    """Build the selection for a contact list call, within the limits of the switches."""
    checks = contact_checks(query)
    predicate: Predicate | None = None
    if checks:

        def predicate(body: bytes) -> bool:
            fields = decode_contact(body)
            return all(check(fields) for check in checks)

    return _selection(query, switches, predicate, _CONTACT_SORTS, query.sort_by)


def transaction_checks(query: TransactionQuery) -> list[Check[TransactionFilterFields]]:
    """Build one check for each filter that the query sets."""
    checks: list[Check[TransactionFilterFields]] = []
    if query.status:
        statuses = _listed(query.status)
        checks.append(lambda fields: text(fields.status) in statuses)
    if query.order_type:
        types = _listed(query.order_type)
        checks.append(lambda fields: text(fields.order_type) in types)
    if query.opened_date_from or query.opened_date_to:
        opened = _between(query.opened_date_from, query.opened_date_to)
        checks.append(lambda fields: opened(text(fields.opened_date)))
    if query.closing_date_from or query.closing_date_to:
        closing = _between(query.closing_date_from, query.closing_date_to)
        checks.append(lambda fields: closing(fields.closing_date))
    if query.property_state:
        state = query.property_state.casefold()
        checks.append(lambda fields: _folded(nested_text(fields.property_address, "state")) == state)
    if query.property_city:
        city = query.property_city.casefold()
        checks.append(lambda fields: _folded(nested_text(fields.property_address, "city")) == city)
    if query.escrow_officer_id:
        officer = query.escrow_officer_id
        checks.append(lambda fields: nested_text(fields.escrow_officer, "contactId") == officer)
    if query.search:
        wanted = query.search
        checks.append(
            lambda fields: _finds(
                wanted,
                [text(fields.order_number) or "", address_line(fields.property_address), *party_names(fields)],
                fields.custom_fields,
            )
        )
    return checks


def contact_checks(query: ContactQuery) -> list[Check[ContactFilterFields]]:
    """Build one check for each filter that the query sets."""
    checks: list[Check[ContactFilterFields]] = []
    if query.contact_type:
        types = _listed(query.contact_type)
        checks.append(lambda fields: text(fields.contact_type) in types)
    if query.company:
        company = query.company.casefold()
        checks.append(lambda fields: company in (_folded(fields.company) or ""))
    if query.state:
        state = query.state.casefold()
        checks.append(lambda fields: _folded(nested_text(fields.address, "state")) == state)
    if query.city:
        city = query.city.casefold()
        checks.append(lambda fields: _folded(nested_text(fields.address, "city")) == city)
    if query.search:
        wanted = query.search
        checks.append(
            lambda fields: _finds(
                wanted,
                [
                    join_text(text(fields.first_name), text(fields.last_name)),
                    join_text(text(fields.first_name), text(fields.middle_name), text(fields.last_name)),
                    text(fields.email) or "",
                    text(fields.phone) or "",
                    text(fields.mobile_phone) or "",
                ],
                fields.custom_fields,
            )
        )
    return checks


def document_predicate(query: DocumentQuery) -> Predicate:
    """Build a predicate that accepts the JSON bytes of documents that the query asks for."""
    types = _listed(query.document_type) if query.document_type else None
    statuses = _listed(query.status) if query.status else None
    dated = bool(query.uploaded_date_from or query.uploaded_date_to)
    uploaded = _between(query.uploaded_date_from, query.uploaded_date_to)

    def predicate(body: bytes) -> bool:
        fields = decode_document(body)
        return (
            (types is None or text(fields.document_type) in types)
            and (statuses is None or text(fields.status) in statuses)
            and (not dated or uploaded(text(fields.uploaded_at)))
        )

    return predicate


def _selection(
    query: ListQuery,
    switches: Switches,
    predicate: Predicate | None,
    sorts: Mapping[str, SortValue | None],
    sort_by: str | None,
) -> Selection:
    updated_from = query.updated_from if switches.honour_updated_from else None
    order = BY_ID
    if switches.honour_sort:
        known = sort_by if sort_by in sorts else BY_UPDATED.name
        name = known or BY_UPDATED.name
        order = Order(name, query.sort_order == "desc", sorts[name], switches.ties)
    return Selection(
        updated_from=None if updated_from is None else parse_ms(updated_from),
        name=query.model_dump_json(exclude={"updated_from", "limit", "offset", "sort_order", "sort_by"}),
        predicate=predicate,
        order=order,
    )


def _listed(values: str) -> frozenset[str]:
    return frozenset(value.strip() for value in values.split(",") if value.strip())


def _between(first: str | None, last: str | None) -> Callable[[str | None], bool]:
    """Build a check that a timestamp lies between two dates, both inclusive. A missing timestamp fails it."""
    # All records format timestamps alike, so they compare as text.
    low = iso(parse_ms(first)) if first else ""
    high = iso(parse_ms(last, end_of_day=True)) if last else "~"
    return lambda value: value is not None and low <= value <= high


def _finds(wanted: str, texts: list[str], custom_fields: object) -> bool:
    folded = wanted.casefold()
    return any(folded in text.casefold() for text in texts) or nested_text(custom_fields, "roiSystemsId") == wanted


def _folded(value: object) -> str | None:
    return value.casefold() if isinstance(value, str) and value else None
