"""Define typed forms of the vendor's smaller records (docs/softpro-api.md, Entities).

Only ids are required. Enumerations are texts, because the vendor may add values, and numbers are exact. `payload` keeps
the exact record, including fields that are not listed here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, TypeVar

import msgspec

from softpro.softpro360.responses import decode


class Profile(msgspec.Struct, rename="camel", frozen=True):
    """The owner of a grant, as the vendor names it."""

    user_id: str
    organization_id: str
    email: str


class Status(msgspec.Struct, rename="camel", frozen=True):
    """A status that a transaction can have."""

    status_id: str
    status_name: str | None = None
    status_code: str | None = None
    category: str | None = None
    is_active: bool | None = None
    sort_order: int | None = None


class Party(msgspec.Struct, rename="camel", frozen=True):
    """A party of an order."""

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
    """A postal address."""

    street_address: str | None = None
    street_address2: str | None = None
    city: str | None = None
    state: str | None = None
    zip_code: str | None = None
    county: str | None = None
    country: str | None = None
    apn: str | None = None


class Property(msgspec.Struct, rename="camel", frozen=True):
    """The property of an order."""

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
    """A document of an order, without its bytes. `file_size` is in bytes."""

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
    """A record's typed fields, and its payload as it was sent."""

    fields: T
    payload: bytes = field(repr=False)


def typed(body: bytes, shape: type[T], what: str) -> Typed[T]:
    """Return one typed record. Raises ServerError if it violates the contract."""
    return Typed(decode(body, shape, what), body)


def typed_list(body: bytes, shape: type[T], what: str) -> list[Typed[T]]:
    """Return the typed records of a plain array. Raises ServerError."""
    raw: list[msgspec.Raw] = decode(body, list[msgspec.Raw], what)
    return [typed(bytes(each), shape, what) for each in raw]
