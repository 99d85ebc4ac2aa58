"""Build the property of an order: address and type are the order's own, the rest is generated from the order's id."""

import random
from collections.abc import Mapping

from softpro_sandbox.records import fake_values
from softpro_sandbox.records.codec import Record

_ORDER_FIELDS = {"address": "propertyAddress", "propertyType": "propertyType"}
"""The property's fields that belong to the order, with their names in the order."""

_SUBDIVISIONS = ("Sunset Ridge", "Old Orchard", "Las Palmas Unit 2", "Mill Creek", "Piñon Heights", "Harbor View")
_ZONING = ("R-1", "R1-6", "R-2", "RM", "C-2", "PUD")
_LAND = frozenset({"LAND", "COMMERCIAL"})


def property_id(order_id: str) -> str:
    """Return the id of an order's only property."""
    return f"prp-{order_id.removeprefix('ord-')}"


def generate(organization_id: str, order_id: str, order: Record) -> Record:
    """Generate the own fields of a seeded order's property; every call gives the same."""
    rng = random.Random(f"{organization_id}/{order_id}/property")
    lot, block, name = rng.randrange(1, 90), rng.choice("ABCDEFGH"), rng.choice(_SUBDIVISIONS)
    address = order.get("propertyAddress")
    apn = address.get("apn") if isinstance(address, Mapping) else None
    dwelling = order.get("propertyType") not in _LAND
    rooms = rng.randrange(1, 6)
    known: Record = {
        "legalDescription": f"Lot {lot}, Block {block}, {name}, according to the plat of record",
        "parcelNumber": apn,
        "lotNumber": str(lot),
        "block": block,
        "subdivision": name,
        "yearBuilt": rng.randrange(1905, 2025) if dwelling else None,
        "squareFootage": rng.randrange(60, 420) * 10 if dwelling else None,
        "bedrooms": rooms if dwelling else None,
        "bathrooms": rng.choice((1, 1.5, 2, 2.5, 3)) if dwelling else None,
        "zoning": rng.choice(_ZONING),
        "currentUse": "Residence" if dwelling else "Vacant",
        "customFields": fake_values.custom_fields(rng) if rng.random() < 0.2 else {},
    }
    return fake_values.with_gaps(rng, known, frozenset())


def build_property(order_id: str, order: Record, own: Record) -> Record:
    """Return the property as the API returns it: the order's fields and its own."""
    ids = {"propertyId": property_id(order_id), "orderId": order_id}
    return ids | {name: order[order_name] for name, order_name in _ORDER_FIELDS.items() if order_name in order} | own


def split_fields(fields: Record) -> tuple[Record, Record]:
    """Split the sent fields of a property into the order's, by their names in the order, and its own."""
    order_fields = {order_name: fields[name] for name, order_name in _ORDER_FIELDS.items() if name in fields}
    return order_fields, {name: value for name, value in fields.items() if name not in _ORDER_FIELDS}
