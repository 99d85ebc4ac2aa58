"""Derive from the vendor's records, by the contract alone, what the tables should hold."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from softpro.db.database import Database

from .databases import rows

# Each column and its path in the contract. The column's name and the value's type decide how it is converted.
TRANSACTION = """
transaction_number orderNumber
transaction_type orderType
status status
property_street propertyAddress.streetAddress
property_street2 propertyAddress.streetAddress2
property_city propertyAddress.city
property_state propertyAddress.state
property_zip propertyAddress.zipCode
property_county propertyAddress.county
property_country propertyAddress.country
property_apn propertyAddress.apn
property_latitude propertyAddress.coordinates.latitude
property_longitude propertyAddress.coordinates.longitude
property_type propertyType
purchase_price purchasePrice
loan_amount loanAmount
down_payment downPayment
closing_cost closingCost
opened_at openedDate
estimated_closing_at estimatedClosingDate
actual_closing_at actualClosingDate
escrow_officer_id escrowOfficer.contactId
notes notes
custom customFields
softpro_created_at createdAt
softpro_updated_at updatedAt
"""
CONTACT = """
contact_type contactType
first_name firstName
middle_name middleName
last_name lastName
suffix suffix
email email
phone phone
mobile_phone mobilePhone
fax fax
street address.streetAddress
street2 address.streetAddress2
city address.city
state address.state
zip address.zipCode
county address.county
country address.country
company company
job_title jobTitle
notes notes
custom customFields
softpro_created_at createdAt
softpro_updated_at updatedAt
"""
FIELDS = {
    entity: dict(line.split() for line in table.strip().splitlines())
    for entity, table in {"TRANSACTION": TRANSACTION, "CONTACT": CONTACT}.items()
}
KEYS = {"TRANSACTION": "softpro_order_id", "CONTACT": "softpro_contact_id"}

_exact = msgspec.json.Decoder(float_hook=Decimal)

Rows = dict[str, dict[str, Any]]


def expected_rows(records: dict[str, dict[str, Any]], entity: str = "TRANSACTION") -> Rows:
    """Return the expected columns of each record's row, by id."""
    return {
        record_id: {column: _expected(column, _at(record, path)) for column, path in FIELDS[entity].items()}
        for record_id, record in records.items()
    }


def actual_rows(database: Database, organization: str, entity: str = "TRANSACTION") -> Rows:
    """Return the same columns as they are in the database, `custom` with exact numbers."""
    table, key = f"roi.{entity.lower()}s", KEYS[entity]
    found = rows(database, f"select *, custom::text as custom from {table} where organization_id = %s", organization)
    return {
        row[key]: {
            column: _exact.decode(row[column]) if column == "custom" and row[column] else row[column]
            for column in FIELDS[entity]
        }
        for row in found
    }


def _at(record: Any, path: str) -> Any:
    value = record
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _expected(column: str, value: Any) -> Any:
    if value is None or column == "custom":
        return value
    if column.endswith("_at"):
        return datetime.fromisoformat(value)
    if isinstance(value, int):
        return Decimal(value)
    return value
