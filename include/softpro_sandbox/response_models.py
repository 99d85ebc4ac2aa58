"""Describe the responses of the API for OpenAPI; records themselves are served as stored bytes."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from softpro_sandbox.models import Address, Model, PropertyAddress, Timestamp

_OPEN = "; the list can grow"


class ExtensibleModel(Model):
    """A record: optional fields can be missing or null, and unknown fields can appear at any time."""

    model_config = ConfigDict(extra="allow")


class PartyResponse(ExtensibleModel):
    """A party to an order."""

    party_id: str
    party_type: str | None = Field(
        default=None, description="BUYER, SELLER, LENDER, BORROWER, TITLE_COMPANY, …" + _OPEN
    )
    contact_id: str | None = None
    ownership_percentage: float | None = None
    is_primary: bool | None = None
    entity_name: str | None = None
    entity_type: str | None = Field(default=None, description="CORPORATION, LLC, PARTNERSHIP, TRUST, …" + _OPEN)
    notes: str | None = None
    custom_fields: dict[str, Any] | None = None


class Contact(ExtensibleModel):
    """A person or firm."""

    contact_id: str
    contact_type: str = Field(description="INDIVIDUAL, COMPANY, ATTORNEY, LENDER, REAL_ESTATE_AGENT, …" + _OPEN)
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
    created_at: Timestamp
    updated_at: Timestamp


class OfficerResponse(ExtensibleModel):
    """The contact who runs an order, as embedded in the order."""

    contact_id: str | None = None
    contact_type: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    email: str | None = None
    phone: str | None = None


Dollars = Annotated[float, Field(description="at most two decimals, exact as written")]


class Transaction(ExtensibleModel):
    """An order: a purchase, a refinance, a sale."""

    order_id: str
    order_number: str | None = None
    order_type: str = Field(description="PURCHASE, REFINANCE, SALE, CONSTRUCTION, EQUITY_LINE, …" + _OPEN)
    status: str | None = Field(default=None, description="OPENED, IN_PROGRESS, PENDING_CLOSING, CLOSED, …" + _OPEN)
    property_address: PropertyAddress | None = None
    property_type: str | None = Field(default=None, description="SINGLE_FAMILY, CONDO, TOWNHOUSE, …" + _OPEN)
    purchase_price: Dollars | None = None
    loan_amount: Dollars | None = None
    down_payment: Dollars | None = None
    closing_cost: Dollars | None = None
    opened_date: Timestamp | None = None
    estimated_closing_date: Timestamp | None = None
    actual_closing_date: Timestamp | None = None
    buyer: list[PartyResponse] | None = None
    seller: list[PartyResponse] | None = None
    lender: list[PartyResponse] | None = None
    title_company: PartyResponse | None = None
    escrow_officer: OfficerResponse | None = None
    notes: str | None = None
    custom_fields: dict[str, Any] | None = None
    created_at: Timestamp
    updated_at: Timestamp


class PropertyResponse(ExtensibleModel):
    """The property that an order concerns; address and type are the order's own."""

    property_id: str
    order_id: str
    address: PropertyAddress | None = None
    property_type: str | None = Field(default=None, description="SINGLE_FAMILY, CONDO, TOWNHOUSE, …" + _OPEN)
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


class DocumentResponse(ExtensibleModel):
    """A file of an order. Changes to it leave the order's `updatedAt` alone."""

    document_id: str
    order_id: str
    document_name: str | None = None
    document_type: str | None = Field(default=None, description="PURCHASE_AGREEMENT, DEED, NOTE, …" + _OPEN)
    category: str | None = None
    file_name: str | None = None
    file_size: int | None = Field(default=None, description="bytes")
    mime_type: str | None = None
    status: str | None = Field(default=None, description="DRAFT, PENDING_REVIEW, APPROVED, SIGNED, …" + _OPEN)
    version: int | None = None
    version_notes: str | None = None
    description: str | None = None
    tags: list[str] | None = None
    custom_fields: dict[str, Any] | None = None
    uploaded_at: Timestamp | None = None
    last_modified_at: Timestamp | None = None


class StatusResponse(ExtensibleModel):
    """A status that an order can have."""

    status_id: str
    status_name: str
    status_code: str = Field(description="the value of an order's `status`")
    category: str
    is_active: bool
    sort_order: int


class Pagination(Model):
    """The position of a page in its list."""

    total: int
    limit: int
    offset: int
    has_more: bool


class TransactionPage(Model):
    """A page of transactions."""

    data: list[Transaction]
    pagination: Pagination


class ContactPage(Model):
    """A page of contacts."""

    data: list[Contact]
    pagination: Pagination


class DeletionResponse(Model):
    """A deleted record."""

    entity_type: str = Field(description="TRANSACTION, CONTACT or DOCUMENT")
    entity_id: str
    deleted_at: Timestamp


class DeletionPage(Model):
    """A page of deletions."""

    data: list[DeletionResponse]
    pagination: Pagination


class Profile(Model):
    """The user and organization that a token acts for."""

    user_id: str
    organization_id: str
    email: str


class CallResponse(Model):
    """A call of the API, as the sandbox counted it."""

    at: float = Field(description="seconds since 1970 by the machine's clock")
    organization_id: str | None
    call: str = Field(description="method and path, ids left out", examples=["GET /transactions/{id}"])
    status: int | None = Field(description="null until the response starts, and when the connection was reset")


class ErrorBody(Model):
    """An error: a code for programs, a message for users, and details."""

    code: str
    message: str
    details: dict[str, Any]


class ErrorMeta(Model):
    """The time of an error and the id of its request."""

    timestamp: Timestamp
    request_id: str


class ErrorResponse(Model):
    """The contract's envelope for errors."""

    success: bool
    error: ErrorBody
    meta: ErrorMeta


class TokenResponse(Model):
    """A token response, in snake_case as RFC 6749 §5.1 requires."""

    model_config = ConfigDict(alias_generator=None)

    access_token: str
    refresh_token: str | None = None
    token_type: str
    expires_in: int
    scope: str


class TokenError(Model):
    """An error of the token endpoint (RFC 6749 §5.2)."""

    model_config = ConfigDict(alias_generator=None)

    error: str
    error_description: str | None = None
