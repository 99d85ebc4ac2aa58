"""Generate orders with consistent dates, prices, parties and status."""

import random
from collections.abc import Iterator, Mapping, Sequence

from softpro_sandbox.clock import iso
from softpro_sandbox.records import fake_values, word_lists
from softpro_sandbox.records.cities import City
from softpro_sandbox.records.codec import Record, encode
from softpro_sandbox.records.contacts import ContactSummary
from softpro_sandbox.records.dates import order_dates
from softpro_sandbox.records.fake_values import money

ALWAYS = frozenset({"orderId", "orderType", "createdAt", "updatedAt"})
_ORDER_TYPES = ("PURCHASE", "REFINANCE", "SALE", "CONSTRUCTION", "EQUITY_LINE", "COMMERCIAL", "OTHER")
_ORDER_WEIGHTS = (52, 24, 9, 4, 5, 5, 1)
_PROPERTY_TYPES = (
    "SINGLE_FAMILY",
    "CONDO",
    "TOWNHOUSE",
    "MULTI_FAMILY",
    "LAND",
    "MANUFACTURED",
    "OTHER",
    "CO_OP",  # not in the contract: enums can grow
)
_PROPERTY_WEIGHTS = (600, 170, 110, 50, 35, 25, 7, 3)
_BORROWING_ONLY = ("REFINANCE", "EQUITY_LINE")

Roster = Mapping[str, Sequence[ContactSummary]]
"""Contacts by type, for the parties of orders."""


def order_id(number: int) -> str:
    """Return the n-th order's id, counted from 1."""
    return f"ord-{number:06d}"


def order_number(opened: str, number: int) -> str:
    """Return the order number that users see: year opened and a running number."""
    return f"{opened[:4]}-{number:06d}"


def generate(rng: random.Random, count: int, roster: Roster) -> Iterator[tuple[str, int, bytes]]:
    """Generate `count` orders in the order of their ids.

    Yields:
        The id, its updatedAt in milliseconds, and the record's JSON bytes.
    """
    for number in range(1, count + 1):
        yield _order(rng, number, roster)


def _order(rng: random.Random, number: int, roster: Roster) -> tuple[str, int, bytes]:
    dates = order_dates(rng)
    kind = rng.choices(_ORDER_TYPES, _ORDER_WEIGHTS)[0]
    city = fake_values.random_city(rng)
    opened = iso(dates.opened)
    record: Record = {
        "orderId": order_id(number),
        "orderNumber": order_number(opened, number),
        "orderType": kind,
        "status": dates.status,
        "propertyAddress": _property_address(rng, city),
        "propertyType": "COMMERCIAL" if kind == "COMMERCIAL" else rng.choices(_PROPERTY_TYPES, _PROPERTY_WEIGHTS)[0],
        **_amounts(rng, kind, city),
        "openedDate": opened,
        "estimatedClosingDate": iso(dates.estimated_closing),
        "actualClosingDate": None if dates.actual_closing is None else iso(dates.actual_closing),
        **_parties(rng, number, kind, roster),
        "notes": rng.choice(word_lists.TRANSACTION_NOTES) if rng.random() < 0.2 else None,
        "customFields": fake_values.custom_fields(rng),
        "createdAt": iso(dates.created),
        "updatedAt": iso(dates.updated),
    }
    if rng.random() < 0.05:
        record["settlementAgentCode"] = f"SA{rng.randrange(100, 999)}"
    return record["orderId"], dates.updated, encode(fake_values.with_gaps(rng, record, ALWAYS))


def _property_address(rng: random.Random, city: City) -> Record:
    address = fake_values.address(rng, city)
    if rng.random() < 0.7:
        address["apn"] = f"{rng.randrange(100, 999)}-{rng.randrange(10, 99)}-{rng.randrange(1000):03d}"
    if rng.random() < 0.6:
        address["coordinates"] = {
            "latitude": round(city.latitude + rng.uniform(-0.08, 0.08), 6),
            "longitude": round(city.longitude + rng.uniform(-0.08, 0.08), 6),
        }
    return address


def _amounts(rng: random.Random, kind: str, city: City) -> Record:
    """Return price, loan, down payment and closing cost that add up: computed in cents, returned in dollars."""
    price = int(city.median_price * rng.lognormvariate(0, 0.35)) // 500 * 500 * 100
    if kind == "COMMERCIAL":
        price *= rng.randrange(3, 12)
    if rng.random() < 0.05:
        price += rng.randrange(1, 50_000)
    loan = price * rng.randrange(600, 971) // 1000 // 100 * 100
    cash = kind not in _BORROWING_ONLY and rng.random() < 0.15
    if kind in _BORROWING_ONLY:
        loan = loan * rng.randrange(30, 90) // 100
        return {"loanAmount": money(loan), "closingCost": money(loan * rng.randrange(90, 250) // 10_000)}
    return {
        "purchasePrice": money(price),
        "loanAmount": 0 if cash else money(loan),
        "downPayment": money(price if cash else price - loan),
        "closingCost": money(price * rng.randrange(150, 351) // 10_000),
    }


def _parties(rng: random.Random, number: int, kind: str, roster: Roster) -> Record:
    buyers = 2 if rng.random() < 0.45 else 1
    owners = "BORROWER" if kind in _BORROWING_ONLY else "BUYER"
    parties: Record = {"buyer": _owners(rng, number, owners, buyers, roster)}
    if kind not in _BORROWING_ONLY:
        parties["seller"] = _owners(rng, number, "SELLER", 1 if rng.random() < 0.7 else 2, roster)
    if rng.random() < 0.8:
        parties["lender"] = [_firm(rng, number, "LENDER", roster)]
    if rng.random() < 0.9:
        parties["titleCompany"] = _firm(rng, number, "TITLE_COMPANY", roster)
    officers = roster.get("ESCROW_OFFICER")
    if officers:
        summary = rng.choice(officers)
        parties["escrowOfficer"] = {
            "contactId": summary.contact_id,
            "contactType": summary.contact_type,
            "firstName": summary.first_name,
            "lastName": summary.last_name,
            "email": summary.email,
        }
    return parties


def _owners(rng: random.Random, number: int, kind: str, count: int, roster: Roster) -> list[Record]:
    """Return the people, or sometimes a firm, who own the property together; shares add up to 100."""
    if rng.random() < 0.08:
        return [_firm(rng, number, kind, roster) | {"ownershipPercentage": 100}]
    contacts = roster.get("INDIVIDUAL")
    owners: list[Record] = []
    for position in range(1, count + 1):
        summary = rng.choice(contacts) if contacts and rng.random() < 0.8 else None
        owner: Record = {"partyId": f"pty-{number}-{kind.lower()}-{position}", "partyType": kind}
        if summary is not None:
            owner["contactId"] = summary.contact_id
        owner |= {
            "ownershipPercentage": 100 if count == 1 else 50,
            "isPrimary": position == 1,
            "entityName": summary.name if summary is not None else " ".join(fake_values.person(rng)),
            "entityType": "INDIVIDUAL",
        }
        owners.append(owner)
    return owners


def _firm(rng: random.Random, number: int, kind: str, roster: Roster) -> Record:
    contacts = roster.get(kind if kind in ("LENDER", "TITLE_COMPANY") else "COMPANY")
    firm: Record = {"partyId": f"pty-{number}-{kind.lower()}-1", "partyType": kind}
    summary = rng.choice(contacts) if contacts else None
    if summary is not None:
        firm["contactId"] = summary.contact_id
    name = summary.company if summary is not None and summary.company else fake_values.company(rng, kind)
    firm |= {"isPrimary": True, "entityName": name, "entityType": _entity_type(name)}
    if rng.random() < 0.03:
        firm["notes"] = "Signs by power of attorney."
    return firm


def _entity_type(name: str) -> str:
    """Derive the legal form from a firm's name."""
    for word, form in (("Trust", "TRUST"), ("LLC", "LLC"), ("LLP", "PARTNERSHIP"), ("Partners", "PARTNERSHIP")):
        if word in name:
            return form
    return "CORPORATION"
