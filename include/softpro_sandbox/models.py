"""Define the entities that callers send, and the types that responses share (contract, Entities)."""

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from softpro_sandbox.clock import iso, parse_ms

OrderType = Literal["PURCHASE", "REFINANCE", "SALE", "CONSTRUCTION", "EQUITY_LINE", "COMMERCIAL", "OTHER"]
Status = Literal["OPENED", "IN_PROGRESS", "PENDING_CLOSING", "CLOSED", "CANCELLED", "ON_HOLD"]
PropertyType = Literal[
    "SINGLE_FAMILY", "CONDO", "TOWNHOUSE", "MULTI_FAMILY", "COMMERCIAL", "LAND", "MANUFACTURED", "OTHER"
]
ContactType = Literal[
    "INDIVIDUAL",
    "COMPANY",
    "ATTORNEY",
    "LENDER",
    "REAL_ESTATE_AGENT",
    "TITLE_COMPANY",
    "ESCROW_OFFICER",
    "OTHER",
]
PartyType = Literal[
    "BUYER",
    "SELLER",
    "LENDER",
    "BORROWER",
    "BUYER_AGENT",
    "SELLER_AGENT",
    "ATTORNEY",
    "TITLE_COMPANY",
    "ESCROW_HOLDER",
    "OTHER",
]
DocumentType = Literal[
    "PURCHASE_AGREEMENT",
    "TITLE_COMMITMENT",
    "TITLE_POLICY",
    "DEED",
    "MORTGAGE",
    "NOTE",
    "HUD_SETTLEMENT",
    "CLOSING_DISCLOSURE",
    "ESCROW_INSTRUCTIONS",
    "WIRE_INSTRUCTIONS",
    "INSPECTION_REPORT",
    "APPRAISAL",
    "SURVEY",
    "OTHER",
]
DocumentStatus = Literal["DRAFT", "PENDING_REVIEW", "APPROVED", "SIGNED", "RECORDED", "ARCHIVED"]
LegalForm = Literal["CORPORATION", "LLC", "PARTNERSHIP", "TRUST", "ESTATE", "INDIVIDUAL"]


def _number(value: Any) -> Any:
    if isinstance(value, str | bool):
        raise ValueError("must be a JSON number")
    return value


def _unsent() -> Any:
    """Return a placeholder for a field that a patch did not send; it is never read, as only sent fields are."""
    return None


def _timestamp(text: str) -> str:
    return iso(parse_ms(text))


Money = Annotated[
    Decimal,
    BeforeValidator(_number),
    Field(ge=0, max_digits=14, decimal_places=2),
    WithJsonSchema({"type": "number", "minimum": 0, "description": "at most two decimals"}),
]
Timestamp = Annotated[
    str,
    AfterValidator(_timestamp),
    Field(json_schema_extra={"format": "date-time"}, examples=["2025-03-01T17:04:05.123Z"]),
]


class Model(BaseModel):
    """A model with camelCase JSON names; unknown fields are dropped."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True)


class Coordinates(Model):
    """A location in degrees."""

    latitude: float | None = None
    longitude: float | None = None


class Address(Model):
    """A postal address."""

    street_address: str | None = None
    street_address2: str | None = Field(default=None, alias="streetAddress2")
    city: str | None = None
    state: str | None = None
    zip_code: str | None = None
    county: str | None = None
    country: str | None = None


class PropertyAddress(Address):
    """The address of the property that is bought or mortgaged."""

    apn: str | None = None
    coordinates: Coordinates | None = None


class PartyFields(Model):
    """The fields of a party that callers can set, without its type."""

    contact_id: str | None = None
    ownership_percentage: Annotated[float, Field(ge=0, le=100)] | None = None
    is_primary: bool | None = None
    entity_name: str | None = None
    entity_type: LegalForm | None = None
    notes: str | None = None
    custom_fields: dict[str, Any] | None = None


class Party(PartyFields):
    """A party inside an order; the sandbox assigns an id to a party without one."""

    party_id: str | None = None
    party_type: PartyType | None = None


class ContactFields(Model):
    """The fields of a contact that callers can set, without its type."""

    first_name: str | None = None
    middle_name: str | None = None
    last_name: str | None = None
    suffix: str | None = None
    email: str | None = None
    phone: str | None = None
    mobile_phone: str | None = None
    fax: str | None = None
    address: Address | None = None
    company: str | None = None
    job_title: str | None = None
    notes: str | None = None
    custom_fields: dict[str, Any] | None = None


class ContactCreate(ContactFields):
    """The body of `POST /contacts`."""

    contact_type: ContactType


class ContactPatch(ContactFields):
    """The body of `PATCH /contacts/{contactId}`: only the fields sent change, a null clears."""

    contact_type: ContactType = Field(default_factory=_unsent)


class EmbeddedContact(ContactFields):
    """A contact inside an order."""

    contact_id: str | None = None
    contact_type: ContactType | None = None


class TransactionFields(Model):
    """The fields of a transaction that callers can set, without its type."""

    order_number: str | None = None
    status: Status | None = None
    property_address: PropertyAddress | None = None
    property_type: PropertyType | None = None
    purchase_price: Money | None = None
    loan_amount: Money | None = None
    down_payment: Money | None = None
    closing_cost: Money | None = None
    opened_date: Timestamp | None = None
    estimated_closing_date: Timestamp | None = None
    actual_closing_date: Timestamp | None = None
    buyer: list[Party] | None = None
    seller: list[Party] | None = None
    lender: list[Party] | None = None
    title_company: Party | None = None
    escrow_officer: EmbeddedContact | None = None
    notes: str | None = None
    custom_fields: dict[str, Any] | None = None


class TransactionCreate(TransactionFields):
    """The body of `POST /transactions`; the sandbox generates an `orderNumber` when it is missing."""

    order_type: OrderType


class TransactionPatch(TransactionFields):
    """The body of `PATCH /transactions/{orderId}`: only the fields sent change, a null clears."""

    order_type: OrderType = Field(default_factory=_unsent)


class StatusChange(Model):
    """The body of `PATCH /transactions/{orderId}/status`."""

    status_id: str


class PartyCreate(PartyFields):
    """The body of `POST /transactions/{orderId}/parties`."""

    party_type: PartyType


class PartyPatch(PartyFields):
    """The body of `PATCH /transactions/{orderId}/parties/{partyId}`: only the fields sent change, a null clears."""

    party_type: PartyType = Field(default_factory=_unsent)


class PropertyPatch(Model):
    """The body of `PATCH /transactions/{orderId}/property`: only the fields sent change, a null clears."""

    address: PropertyAddress | None = None
    property_type: PropertyType | None = None
    legal_description: str | None = None
    parcel_number: str | None = None
    lot_number: str | None = None
    block: str | None = None
    subdivision: str | None = None
    year_built: int | None = None
    square_footage: float | None = None
    bedrooms: float | None = None
    bathrooms: float | None = None
    zoning: str | None = None
    current_use: str | None = None
    custom_fields: dict[str, Any] | None = None


class DocumentMetadata(Model):
    """The `metadata` of an uploaded document, as JSON text. Missing names are taken from the file."""

    document_name: str | None = None
    document_type: DocumentType = "OTHER"
    category: str | None = None
    file_name: str | None = None
    status: DocumentStatus = "DRAFT"
    version_notes: str | None = None
    description: str | None = None
    tags: list[str] | None = None
    custom_fields: dict[str, Any] | None = None
