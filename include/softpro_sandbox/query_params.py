"""Define the parameters of list calls (contract, Endpoints). Unknown parameters are ignored, not rejected."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from softpro_sandbox.clock import parse_ms


def _a_date(text: str) -> str:
    parse_ms(text)
    return text


DateText = Annotated[
    str, AfterValidator(_a_date), Field(description="ISO 8601 timestamp or date", examples=["2025-03-01T17:04:05.123Z"])
]
CommaList = Annotated[str, Field(description="one value or several, separated by commas")]


class PageQuery(BaseModel):
    """Paging parameters. A switch sets the largest `limit`, so the route checks it when it builds the page."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, frozen=True)

    limit: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="50 by default, at most maxPageSize (200 unless switched)"
    )
    offset: Annotated[int, Field(ge=0)] = 0


class DeletionQuery(PageQuery):
    """Filter and paging of `GET /deletions`."""

    deleted_from: DateText | None = Field(default=None, description="inclusive, on deletedAt")


class ListQuery(PageQuery):
    """Parameters of every list of records."""

    updated_from: DateText | None = Field(default=None, description="inclusive, on updatedAt")
    sort_order: str | None = Field(default=None, description="asc (default) or desc; anything else is ignored")


class TransactionQuery(ListQuery):
    """Filters, paging and order of `GET /transactions`. The closing date is the actual one, or the estimated one."""

    status: CommaList | None = None
    order_type: CommaList | None = None
    opened_date_from: DateText | None = None
    opened_date_to: DateText | None = Field(default=None, description="inclusive; a plain date means the whole day")
    closing_date_from: DateText | None = None
    closing_date_to: DateText | None = Field(default=None, description="inclusive; a plain date means the whole day")
    property_state: str | None = None
    property_city: str | None = None
    escrow_officer_id: str | None = None
    search: str | None = Field(
        default=None, description="part of order number, address or party name, or exactly customFields.roiSystemsId"
    )
    sort_by: str | None = Field(
        default=None,
        description="updatedAt (default), openedDate, closingDate, orderNumber; anything else is ignored",
    )


class ContactQuery(ListQuery):
    """Filters, paging and order of `GET /contacts`."""

    contact_type: CommaList | None = None
    search: str | None = Field(
        default=None, description="part of name, e-mail or phone, or exactly customFields.roiSystemsId"
    )
    company: str | None = Field(default=None, description="part of the company's name")
    state: str | None = None
    city: str | None = None
    sort_by: str | None = Field(
        default=None,
        description="updatedAt (default), lastName, firstName, company, createdAt; anything else is ignored",
    )


class DocumentQuery(BaseModel):
    """Filters of `GET /transactions/{orderId}/documents`, which has no pages."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, frozen=True)

    document_type: CommaList | None = None
    status: CommaList | None = None
    uploaded_date_from: DateText | None = None
    uploaded_date_to: DateText | None = Field(default=None, description="inclusive; a plain date means the whole day")
