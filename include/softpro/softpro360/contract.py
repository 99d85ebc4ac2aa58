"""Define the names and numbers of the vendor's contract (docs/softpro-api.md)."""

from __future__ import annotations

from datetime import timedelta

from softpro.entities import EntityType

Fields = dict[str, "Fields | None"]

PATHS = {EntityType.TRANSACTION: "/transactions", EntityType.CONTACT: "/contacts"}
ID_FIELDS = {EntityType.TRANSACTION: "orderId", EntityType.CONTACT: "contactId"}

RATE_LIMIT, WINDOW_SECONDS = 100, 60.0
"""Requests that the vendor allows in any window of this length."""

LAG = timedelta(seconds=5)
"""The longest time until a change appears in lists and single reads."""

MAX_PAGE_SIZE = 200

ROI_SYSTEMS_ID = "roiSystemsId"
"""The custom field that holds our id in records that we created; `search` finds it exactly."""

_ADDRESS: Fields = {
    name: {} for name in ("streetAddress", "streetAddress2", "city", "state", "zipCode", "county", "country")
}
_PARTY: Fields = {
    "partyId": {},
    "partyType": {},
    "contactId": {},
    "ownershipPercentage": {},
    "isPrimary": {},
    "entityName": {},
    "entityType": {},
    "notes": {},
    "customFields": None,
}
_CONTACT: Fields = {
    "contactId": {},
    "contactType": {},
    "firstName": {},
    "middleName": {},
    "lastName": {},
    "suffix": {},
    "email": {},
    "phone": {},
    "mobilePhone": {},
    "fax": {},
    "address": _ADDRESS,
    "company": {},
    "jobTitle": {},
    "notes": {},
    "customFields": None,
    "createdAt": {},
    "updatedAt": {},
}
FIELDS: dict[EntityType, Fields] = {
    EntityType.TRANSACTION: {
        "orderId": {},
        "orderNumber": {},
        "orderType": {},
        "status": {},
        "propertyAddress": {**_ADDRESS, "apn": {}, "coordinates": {"latitude": {}, "longitude": {}}},
        "propertyType": {},
        "purchasePrice": {},
        "loanAmount": {},
        "downPayment": {},
        "closingCost": {},
        "openedDate": {},
        "estimatedClosingDate": {},
        "actualClosingDate": {},
        "buyer": _PARTY,
        "seller": _PARTY,
        "lender": _PARTY,
        "titleCompany": _PARTY,
        "escrowOfficer": _CONTACT,
        "notes": {},
        "customFields": None,
        "createdAt": {},
        "updatedAt": {},
    },
    EntityType.CONTACT: _CONTACT,
}
"""The fields of a record, recursively. An array has the fields of its elements. None allows any fields."""

ENUMS = {
    "orderType": "PURCHASE REFINANCE SALE CONSTRUCTION EQUITY_LINE COMMERCIAL OTHER",
    "status": "OPENED IN_PROGRESS PENDING_CLOSING CLOSED CANCELLED ON_HOLD",
    "propertyType": "SINGLE_FAMILY CONDO TOWNHOUSE MULTI_FAMILY COMMERCIAL LAND MANUFACTURED OTHER",
    "contactType": "INDIVIDUAL COMPANY ATTORNEY LENDER REAL_ESTATE_AGENT TITLE_COMPANY ESCROW_OFFICER OTHER",
    "partyType": "BUYER SELLER LENDER BORROWER BUYER_AGENT SELLER_AGENT ATTORNEY TITLE_COMPANY ESCROW_HOLDER OTHER",
    "entityType": "CORPORATION LLC PARTNERSHIP TRUST ESTATE INDIVIDUAL",
}
"""The values of each enumeration, by the name of its field in any record."""
