"""What the vendor's smaller records look like (docs/softpro-api.md, Entities), typed at the edge.

Only ids are always there. Enumerations are plain texts, as the vendor may add values; numbers are exact. `payload` is
the record byte for byte, with the fields that no name is given here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, TypeVar

import msgspec

from softpro.softpro360.responses import decoded


class Profile(msgspec.Struct, rename="camel", frozen=True):
    """Whose grant this is, as the vendor names them."""

    user_id: str
    organization_id: str
    email: str


class Status(msgspec.Struct, rename="camel", frozen=True):
    """A status that a transaction can be given."""

    status_id: str
    status_name: str | None = None
    status_code: str | None = None
    category: str | None = None
    is_active: bool | None = None
    sort_order: int | None = None


class Party(msgspec.Struct, rename="camel", frozen=True):
    """Somebody's part in an order."""

    party_id: str
    party_type: str | None = None
    contact_id: str | None = None
    ownership_percentage: Decimal | None = None
    is_primary: bool | None = None
    entity_name: str | None = None
    entity_type: str | None = None
    notes: str | None = None
    custom_fields: dict[str, Any] | None = None


class Address(msgspec.Struct, rename="camel", frozen=True):
    """Where something is."""

    street_address: str | None = None
    street_address2: str | None = None
    city: str | None = None
    state: str | None = None
    zip_code: str | None = None
    county: str | None = None
    country: str | None = None
    apn: str | None = None


class Property(msgspec.Struct, rename="camel", frozen=True):
    """What an order is about."""

    property_id: str
    order_id: str
    address: Address | None = None
    property_type: str | None = None
    legal_description: str | None = None
    parcel_number: str | None = None
    lot_number: str | None = None
    block: str | None = None
    subdivision: str | None = None
    year_built: int | None = None
    square_footage: Decimal | None = None
    bedrooms: Decimal | None = None
    bathrooms: Decimal | None = None
    zoning: str | None = None
    current_use: str | None = None
    custom_fields: dict[str, Any] | None = None


class Document(msgspec.Struct, rename="camel", frozen=True):
    """A file of an order, without its bytes. `file_size` in bytes."""

    document_id: str
    order_id: str
    document_name: str | None = None
    document_type: str | None = None
    category: str | None = None
    file_name: str | None = None
    file_size: int | None = None
    mime_type: str | None = None
    status: str | None = None
    version: int | None = None
    version_notes: str | None = None
    description: str | None = None
    tags: list[str] | None = None
    custom_fields: dict[str, Any] | None = None
    uploaded_at: datetime | None = None
    last_modified_at: datetime | None = None


T = TypeVar("T")


@dataclass(frozen=True)
class Typed(Generic[T]):
    """A record by its names, and as it was sent."""

    fields: T
    payload: bytes = field(repr=False)


def typed(body: bytes, shape: type[T], what: str) -> Typed[T]:
    """One record. Raises ServerError where it holds something else than the contract says."""
    return Typed(decoded(body, shape, what), body)


def typed_list(body: bytes, shape: type[T], what: str) -> list[Typed[T]]:
    """A plain array of records. Raises ServerError."""
    raw: list[msgspec.Raw] = decoded(body, list[msgspec.Raw], what)
    return [typed(bytes(each), shape, what) for each in raw]
