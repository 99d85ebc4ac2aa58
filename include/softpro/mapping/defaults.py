"""Define the mappings that an organization starts with: every mapped column and its field at SoftPro."""

from __future__ import annotations

from softpro.entities import EntityType
from softpro.mapping.mapping import Mapping

FIELDS: dict[EntityType, dict[str, str]] = {
    EntityType.TRANSACTION: {
        "orderNumber": "transaction_number",
        "orderType": "transaction_type",
        "status": "status",
        "propertyAddress.streetAddress": "property_street",
        "propertyAddress.streetAddress2": "property_street2",
        "propertyAddress.city": "property_city",
        "propertyAddress.state": "property_state",
        "propertyAddress.zipCode": "property_zip",
        "propertyAddress.county": "property_county",
        "propertyAddress.country": "property_country",
        "propertyAddress.apn": "property_apn",
        "propertyAddress.coordinates.latitude": "property_latitude",
        "propertyAddress.coordinates.longitude": "property_longitude",
        "propertyType": "property_type",
        "purchasePrice": "purchase_price",
        "loanAmount": "loan_amount",
        "downPayment": "down_payment",
        "closingCost": "closing_cost",
        "openedDate": "opened_at",
        "estimatedClosingDate": "estimated_closing_at",
        "actualClosingDate": "actual_closing_at",
        "escrowOfficer.contactId": "escrow_officer_id",
        "notes": "notes",
        "customFields": "custom",
    },
    EntityType.CONTACT: {
        "contactType": "contact_type",
        "firstName": "first_name",
        "middleName": "middle_name",
        "lastName": "last_name",
        "suffix": "suffix",
        "email": "email",
        "phone": "phone",
        "mobilePhone": "mobile_phone",
        "fax": "fax",
        "address.streetAddress": "street",
        "address.streetAddress2": "street2",
        "address.city": "city",
        "address.state": "state",
        "address.zipCode": "zip",
        "address.county": "county",
        "address.country": "country",
        "company": "company",
        "jobTitle": "job_title",
        "notes": "notes",
        "customFields": "custom",
    },
}


def default_mappings(entity_type: EntityType) -> list[Mapping]:
    """Return the set that `connect` gives an organization that has none."""
    return [Mapping(entity_type, field, column) for field, column in FIELDS[entity_type].items()]
