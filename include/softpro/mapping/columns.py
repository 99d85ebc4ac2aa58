"""The columns a mapping may fill, and what they hold. The migrations make them; a test holds the two together."""

from __future__ import annotations

from enum import StrEnum

from softpro.entities import EntityType


class Type(StrEnum):
    """What a column holds."""

    TEXT = "text"
    MONEY = "money"  # numeric(14, 2)
    NUMBER = "number"
    TIMESTAMP = "timestamp"
    JSON = "json"

    @property
    def staged(self) -> str:
        """PostgreSQL's type for it in staging, which holds money of any size: the checks judge that."""
        return {Type.TEXT: "text", Type.TIMESTAMP: "timestamptz", Type.JSON: "jsonb"}.get(self, "numeric")


def _columns(**of_type: str) -> dict[str, Type]:
    return {column: Type[kind] for kind, columns in of_type.items() for column in columns.split()}


# Keys and the timestamps that the product keeps are not here: they are not mapped.
COLUMNS: dict[EntityType, dict[str, Type]] = {
    EntityType.TRANSACTION: _columns(
        TEXT="transaction_number transaction_type status property_street property_street2 property_city property_state "
        "property_zip property_county property_country property_apn property_type escrow_officer_id notes",
        NUMBER="property_latitude property_longitude",
        MONEY="purchase_price loan_amount down_payment closing_cost",
        TIMESTAMP="opened_at estimated_closing_at actual_closing_at",
        JSON="custom",
    ),
    EntityType.CONTACT: _columns(
        TEXT="contact_type first_name middle_name last_name suffix email phone mobile_phone fax street street2 city "
        "state zip county country company job_title notes",
        JSON="custom",
    ),
}

CUSTOM = "custom"
CUSTOM_PREFIX = "custom."
