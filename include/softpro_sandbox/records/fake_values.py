"""Generate names, addresses, phones and e-mails, and the gaps of real records."""

import random
import unicodedata
from typing import Any

from softpro_sandbox.records import word_lists
from softpro_sandbox.records.cities import CITIES, City
from softpro_sandbox.records.codec import Record

COUNTRY = "US"


def person(rng: random.Random) -> tuple[str, str]:
    """Return a given and a family name, one in fifty in another script."""
    if rng.random() < 0.02:
        return rng.choice(word_lists.OTHER_SCRIPTS)
    return rng.choice(word_lists.GIVEN), rng.choice(word_lists.FAMILY)


def company(rng: random.Random, kind: str) -> str:
    """Return a company name for a contact type."""
    last_words = word_lists.COMPANY_LAST.get(kind, word_lists.COMPANY_LAST["COMPANY"])
    return f"{rng.choice(word_lists.COMPANIES)} {rng.choice(last_words)}"


def random_city(rng: random.Random) -> City:
    """Return a random city."""
    return rng.choice(CITIES)


def phone(rng: random.Random, city: City) -> str:
    """Return a phone number reserved for fiction, in one of the formats that people type."""
    line = f"{rng.randrange(100, 200):04d}"
    shape = rng.choice(("({0}) 555-{1}", "{0}-555-{1}", "+1{0}555{1}", "{0}.555.{1}"))
    return shape.format(city.area_code, line)


def email(rng: random.Random, given: str, family: str) -> str:
    """Return an address at a reserved domain; names without Latin letters are replaced by a number."""
    local = f"{_latin(given)}.{_latin(family)}".strip(".") or f"client{rng.randrange(10_000)}"
    return f"{local}{rng.randrange(1, 100)}@{rng.choice(word_lists.MAIL_DOMAINS)}"


def address(rng: random.Random, city: City) -> Record:
    """Return a street address in a city, with county and country."""
    number = rng.randrange(1, 9900)
    direction, street_name = rng.choice(word_lists.DIRECTIONS), rng.choice(word_lists.STREETS)
    street = f"{number} {direction}{street_name} {rng.choice(word_lists.STREET_KINDS)}"
    record: Record = {"streetAddress": street}
    if rng.random() < 0.18:
        record["streetAddress2"] = f"{rng.choice(word_lists.UNITS)} {rng.randrange(1, 480)}"
    zip_code = rng.choice(city.zip_codes)
    if rng.random() < 0.1:
        zip_code = f"{zip_code}-{rng.randrange(1000, 9999)}"
    record |= {
        "city": city.name,
        "state": city.state,
        "zipCode": zip_code,
        "county": city.county,
        "country": COUNTRY,
    }
    return record


def money(cents: int) -> int | float:
    """Convert cents to a JSON number of dollars, which prints exactly, with at most two decimals."""
    return cents // 100 if cents % 100 == 0 else cents / 100


def with_gaps(rng: random.Random, record: Record, always: frozenset[str]) -> Record:
    """Return the record with some fields missing or null, as the contract allows for all fields but `always`."""
    kept: Record = {}
    for name, value in record.items():
        draw = 1.0 if name in always else rng.random()
        if draw < 0.03 or (value is None and draw < 0.5):
            continue
        kept[name] = None if draw < 0.05 else value
    return kept


def custom_fields(rng: random.Random) -> Record:
    """Return an organization's custom fields, with every JSON type."""
    fields: dict[str, Any] = {}
    if rng.random() < 0.7:
        fields["branch"] = rng.choice(("Main", "North", "Westside", "Downtown"))
    if rng.random() < 0.4:
        fields["rush"] = rng.random() < 0.3
    if rng.random() < 0.3:
        fields["commissionRate"] = rng.randrange(200, 650) / 100
    if rng.random() < 0.2:
        fields["tags"] = rng.sample(("vip", "repeat", "relo", "probate", "short sale", "año nuevo"), k=rng.randrange(3))
    if rng.random() < 0.1:
        fields["survey"] = {"ordered": True, "fee": rng.randrange(300, 900), "vendor": None}
    if rng.random() < 0.1:
        fields["Marketing Source (2024)"] = rng.choice(("web", "referral", None))
    if rng.random() < 0.05:
        fields["followUpOn"] = f"2025-{rng.randrange(1, 13):02d}-{rng.randrange(1, 29):02d}"
    return fields


def _latin(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name.replace("ø", "o").replace("Ł", "L"))
    return "".join(letter for letter in plain if letter.isascii() and letter.isalnum()).lower()
