"""List the columns that a mapping may fill, and their types. A test compares the list with the migrations."""

from __future__ import annotations

from enum import StrEnum

from softpro.entities import EntityType


class Type(StrEnum):
    """The type of a column."""

    TEXT = "text"
    MONEY = "money"  # numeric(14, 2)
    NUMBER = "number"
    TIMESTAMP = "timestamp"
    JSON = "json"

    @property
    def staged(self) -> str:
        """Return the PostgreSQL type in staging. Money has no limit there, because the checks judge its size."""
        return {Type.TEXT: "text", Type.TIMESTAMP: "timestamptz", Type.JSON: "jsonb"}.get(self, "numeric")


def _columns(**of_type: str) -> dict[str, Type]:
    return {column: Type[kind] for kind, columns in of_type.items() for column in columns.split()}


# Keys and the product's own timestamps are not mapped, so they are absent.
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


def is_table_or_column(name: str) -> bool:
    """Return whether a name is that of a table in `roi`, or of one of its columns that a mapping may fill."""
    table, dot, field = name.partition(".")
    entity_type = next((each for each in EntityType if each.table == table), None)
    if entity_type is None or not dot:
        return entity_type is not None and not dot
    return field in COLUMNS[entity_type] or (field.startswith(CUSTOM_PREFIX) and field != CUSTOM_PREFIX)
