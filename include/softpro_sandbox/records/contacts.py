"""Generate contacts: people and firms of a title and escrow business."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from softpro_sandbox.clock import iso
from softpro_sandbox.records import fake_values, word_lists
from softpro_sandbox.records.codec import Record, encode
from softpro_sandbox.records.dates import created_ms, updated_ms

ALWAYS = frozenset({"contactId", "contactType", "createdAt", "updatedAt"})
_TYPES = (
    ("INDIVIDUAL", 0.5),
    ("REAL_ESTATE_AGENT", 0.18),
    ("LENDER", 0.1),
    ("COMPANY", 0.08),
    ("ATTORNEY", 0.06),
    ("TITLE_COMPANY", 0.04),
    ("OTHER", 0.035),
    ("NOTARY", 0.005),  # not in the contract: enums can grow
)
_NAMES = [name for name, _ in _TYPES]
_WEIGHTS = [weight for _, weight in _TYPES]
_OFFICER_EVERY = 40


@dataclass(frozen=True, slots=True)
class ContactSummary:
    """The fields of a contact that an order refers to."""

    contact_id: str
    contact_type: str
    first_name: str | None
    last_name: str | None
    company: str | None
    email: str

    @property
    def name(self) -> str:
        """Return the name that a party carries."""
        person = " ".join(part for part in (self.first_name, self.last_name) if part)
        return person or self.company or self.contact_id


def contact_id(number: int) -> str:
    """Return the n-th contact's id, counted from 1."""
    return f"con-{number:06d}"


def generate(rng: random.Random, count: int) -> Iterator[tuple[ContactSummary, int, bytes]]:
    """Generate `count` contacts in the order of their ids.

    Yields:
        The summary, its updatedAt in milliseconds, and the record's JSON bytes.
    """
    for number in range(1, count + 1):
        yield _contact(rng, number)


def _contact(rng: random.Random, number: int) -> tuple[ContactSummary, int, bytes]:
    kind = "ESCROW_OFFICER" if number % _OFFICER_EVERY == 1 else rng.choices(_NAMES, _WEIGHTS)[0]
    given_name, family_name = fake_values.person(rng)
    city = fake_values.random_city(rng)
    without_person = kind == "COMPANY" and rng.random() < 0.6
    firm = fake_values.company(rng, kind) if kind not in ("INDIVIDUAL", "OTHER", "NOTARY") else None
    email_address = fake_values.email(
        rng, "office" if without_person else given_name, "" if without_person else family_name
    )
    summary = ContactSummary(
        contact_id(number),
        kind,
        None if without_person else given_name,
        None if without_person else family_name,
        firm,
        email_address,
    )
    updated = updated_ms(rng)
    record: Record = {
        "contactId": summary.contact_id,
        "contactType": kind,
        "firstName": summary.first_name,
        "middleName": f"{rng.choice(word_lists.INITIALS)}." if rng.random() < 0.25 and not without_person else None,
        "lastName": summary.last_name,
        "suffix": rng.choice(word_lists.SUFFIXES) if rng.random() < 0.04 and not without_person else None,
        "email": email_address,
        "phone": fake_values.phone(rng, city),
        "mobilePhone": fake_values.phone(rng, city) if rng.random() < 0.5 else None,
        "fax": fake_values.phone(rng, city) if rng.random() < 0.1 else None,
        "address": fake_values.address(rng, city),
        "company": firm,
        "jobTitle": rng.choice(word_lists.JOB_TITLES[kind])
        if kind in word_lists.JOB_TITLES and not without_person
        else None,
        "notes": rng.choice(word_lists.CONTACT_NOTES) if rng.random() < 0.12 else None,
        "customFields": fake_values.custom_fields(rng) if rng.random() < 0.5 else {},
        "createdAt": iso(created_ms(rng, updated)),
        "updatedAt": iso(updated),
    }
    if rng.random() < 0.04:
        record["preferredLanguage"] = rng.choice(("en", "es", "zh", "vi"))
    return summary, updated, encode(fake_values.with_gaps(rng, record, ALWAYS))
