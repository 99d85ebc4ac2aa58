"""Place the parties of an order in its fields.

Buyers and borrowers are in `buyer`, sellers in `seller`, lenders in `lender`, the first title company in
`titleCompany`. The contract has no field for other types: they are in `otherParties`, which an order has only when
it has such a party.
"""

from typing import Any

from softpro_sandbox.records.changes import merged
from softpro_sandbox.records.codec import Record

OTHERS = "otherParties"
_LISTS = ("buyer", "seller", "lender")
_FIELDS = (*_LISTS, "titleCompany", OTHERS)
_FIELD_BY_TYPE = {
    "BUYER": "buyer",
    "BORROWER": "buyer",
    "SELLER": "seller",
    "LENDER": "lender",
    "TITLE_COMPANY": "titleCompany",
}


def list_parties(order: Record) -> list[Record]:
    """List every party of an order: buyers, sellers, lenders, the title company, the others."""
    return [party for field in _FIELDS for party in _parties_in(order.get(field))]


def find_party(order: Record, party_id: str) -> Record | None:
    """Return the party with an id, or None."""
    return next((party for party in list_parties(order) if party.get("partyId") == party_id), None)


def add_party(order: Record, party: Record) -> Record:
    """Return the field of the order that changes when a party is added."""
    field = _field_for(order, party)
    return {field: party if field == "titleCompany" else [*_parties_in(order.get(field)), party]}


def change_party(order: Record, party_id: str, fields: Record) -> Record:
    """Return the fields of the order that change when a party changes; a new type can move it to another field.

    Raises:
        LookupError: the order has no such party.
    """
    before = find_party(order, party_id)
    if before is None:
        raise LookupError(party_id)
    after = merged(before, fields)
    field = next(field for field in _FIELDS if before in _parties_in(order.get(field)))
    without = order | {field: None if field == "titleCompany" else _without(order[field], party_id)}
    if _field_for(without, after) != field:
        return {field: without[field], **add_party(without, after)}
    if field == "titleCompany":
        return {field: after}
    return {field: [after if party is before else party for party in _parties_in(order[field])]}


def with_ids(order_id: str, order: Record, fields: Record) -> Record:
    """Return the sent fields of an order, with a new id for each party without one."""
    taken = {str(party.get("partyId")) for party in [*list_parties(order), *list_parties(fields)]}

    def with_id(party: Any) -> Any:
        if not isinstance(party, dict) or party.get("partyId"):
            return party
        new_id = free_id(order_id, party, taken)
        taken.add(new_id)
        return {"partyId": new_id, **{name: value for name, value in party.items() if name != "partyId"}}

    result = dict(fields)
    for field in _LISTS:
        if isinstance(fields.get(field), list):
            result[field] = [with_id(party) for party in fields[field]]
    if isinstance(fields.get("titleCompany"), dict) and not _parties_in(order.get("titleCompany")):
        result["titleCompany"] = with_id(fields["titleCompany"])
    return result


def free_id(order_id: str, party: Record, taken: set[str]) -> str:
    """Return the next unused id in the format of seeded ones: `pty-<order>-<type>-<number>`."""
    stem = f"pty-{order_id.removeprefix('ord-').lstrip('0')}-{str(party.get('partyType') or 'party').lower()}"
    number = 1
    while f"{stem}-{number}" in taken:
        number += 1
    return f"{stem}-{number}"


def _field_for(order: Record, party: Record) -> str:
    """Return the field for a party: by its type, and `otherParties` for a second title company."""
    field = _FIELD_BY_TYPE.get(str(party.get("partyType")), OTHERS)
    return OTHERS if field == "titleCompany" and _parties_in(order.get(field)) else field


def _parties_in(value: Any) -> list[Record]:
    """List the parties in a field; a raw order can hold any value there."""
    if isinstance(value, dict):
        return [value]
    return [party for party in value if isinstance(party, dict)] if isinstance(value, list) else []


def _without(value: Any, party_id: str) -> list[Record]:
    return [party for party in _parties_in(value) if party.get("partyId") != party_id]
