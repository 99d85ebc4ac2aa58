"""Generate transactions that may not be loaded, each with the reasons that its quarantine case must name."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from softpro.entities import EntityType
from softpro.mapping.defaults import default_mappings
from softpro.mapping.mapping import Mapping

Tree = dict[str, "Tree | str"]
"""A record: nested objects whose leaves are JSON texts. It can hold text that no encoder would produce."""

Reason = tuple[str, str | None]
"""Rule and column."""

BadValue = tuple[str, str, Reason]
"""Path, value as JSON, and the reason for the rejection."""

BETWEEN = "expect_column_values_to_be_between"

UNMAPPABLE: list[BadValue] = [
    ("orderNumber", "[7]", ("type", "transaction_number")),
    ("orderType", "null", ("required", "transaction_type")),
    ("status", '{"code": "OPENED"}', ("type", "status")),
    ("propertyAddress.county", "7", ("transformation", "property_county")),
    ("propertyAddress.coordinates.latitude", '"north"', ("type", "property_latitude")),
    ("propertyAddress.coordinates.longitude", "1e400", ("type", "property_longitude")),
    ("purchasePrice", '"a lot"', ("type", "purchase_price")),
    ("loanAmount", "1.005", ("type", "loan_amount")),
    ("downPayment", "true", ("type", "down_payment")),
    ("closingCost", "[]", ("type", "closing_cost")),
    ("openedDate", '"2025-02-30"', ("type", "opened_at")),
    ("estimatedClosingDate", "17", ("type", "estimated_closing_at")),
    ("actualClosingDate", '""', ("type", "actual_closing_at")),
    ("escrowOfficer.contactId", "{}", ("type", "escrow_officer_id")),
    ("notes", '["a", "b"]', ("type", "notes")),
    ("createdAt", '"soon"', ("type", "softpro_created_at")),
]
IMPOSSIBLE: list[BadValue] = [
    (field, amount, (BETWEEN, column))
    for field, column in (
        ("purchasePrice", "purchase_price"),
        ("loanAmount", "loan_amount"),
        ("downPayment", "down_payment"),
        ("closingCost", "closing_cost"),
    )
    for amount in ("-0.01", "1000000000000", "123456789012345678901234567890.5")
]
# Values that jsonb rejects: a NUL character, half a surrogate pair, a number out of range.
UNSTORABLE = [("notes", '"a\\u0000b"'), ("notes", '"half \\ud83c"'), ("customFields.n", "1e200000")]
TOO_LONG_A_NUMBER = [("customFields.n", "1e5000")]  # jsonb stores it and writes all its digits
UNDATED = [("updatedAt", "null"), ("updatedAt", '"yesterday"'), ("updatedAt", "17")]
NAMELESS = [("orderId", "null"), ("orderId", '""'), ("orderId", "7")]


@dataclass(frozen=True)
class BadTransaction:
    """A record that may not be loaded.

    Attributes:
        name: The id that the record should have.
        tree: The record itself.
        reasons: The rules and columns that its quarantine case must name.
        landed: True if `raw` stored it before the rejection, so that its payload is as jsonb writes it.
        id: The id that can be read from the record, or None.
    """

    name: str
    tree: Tree
    reasons: list[Reason]
    landed: bool
    id: str | None

    @property
    def payload(self) -> bytes:
        return to_json(self.tree).encode()

    def corrected(self, now: datetime) -> bytes:
        """Return the correct version of the record, changed at `now`."""
        return to_json(good_transaction(self.name, now)).encode()


def strict_mappings() -> list[Mapping]:
    """Return the default set of transactions with a required order type and a rule that needs the county to be text."""

    def stricter(mapping: Mapping) -> Mapping:
        if mapping.roi_systems_field == "transaction_type":
            return replace(mapping, required=True)
        if mapping.roi_systems_field == "property_county":
            return replace(mapping, transformation_rule="$substring($, 0)", direction="SOFTPRO_TO_ROI")
        return mapping

    return [stricter(mapping) for mapping in default_mappings(EntityType.TRANSACTION)]


def bad_transactions(count: int, rng: random.Random) -> list[BadTransaction]:
    """Return `count` records of all kinds in turn, with one to three reasons where a kind allows several.

    An unreadable or unstorable record is not mapped, so one kind has more errors than its reasons name.
    """
    return [_bad(number, rng) for number in range(count)]


def _bad(number: int, rng: random.Random) -> BadTransaction:
    name = f"bad-{number:06d}"
    tree = good_transaction(name, datetime.fromtimestamp(rng.uniform(1_700_000_000, 1_760_000_000), UTC))
    turn, kind = divmod(number, len(KINDS))
    reasons: list[Reason] = []
    for what in KINDS[kind]:
        more = MAKERS[what](tree, turn, rng)
        columns = {column for _, column in more}
        reasons = more if None in columns else [*(was for was in reasons if was[1] not in columns), *more]
    last = KINDS[kind][-1]
    return BadTransaction(
        name,
        tree,
        reasons,
        landed=last not in ("unstorable", "undated", "nameless"),
        id=None if last == "nameless" else name,
    )


def good_transaction(order_id: str, updated_at: datetime) -> Tree:
    """Return a record that loads and has the fields that most others have."""
    moment = json.dumps(updated_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"))
    return {
        "orderId": json.dumps(order_id),
        "orderNumber": json.dumps(f"number of {order_id}"),
        "orderType": '"SALE"',
        "status": '"OPENED"',
        "propertyAddress": {
            "streetAddress": '"1 Main Street"',
            "city": '"Tucson"',
            "state": '"AZ"',
            "zipCode": '"85701"',
            "county": '"Pima"',
            "country": '"US"',
            "apn": '"123-45-678"',
            "coordinates": {"latitude": "32.1", "longitude": "-110.9"},
        },
        "propertyType": '"CONDO"',
        "purchasePrice": "999999999999.99",
        "loanAmount": "0",
        "downPayment": "0.10",
        "closingCost": "1.1e1",
        "openedDate": '"2025-03-09T02:30:00.007-07:00"',
        "estimatedClosingDate": '"2025-04-09T00:00:00Z"',
        "actualClosingDate": '"2025-04-10T00:00:00Z"',
        "escrowOfficer": {"contactId": '"con-000001"'},
        "notes": '"שלום 你好 \\ud83c\\udfe0"',
        "customFields": {"n": "3.14159265358979323846264338327950288"},
        "createdAt": moment,
        "updatedAt": moment,
    }


def to_json(tree: Tree) -> str:
    """Return the tree as JSON."""
    fields = (f"{json.dumps(n)}: {v if isinstance(v, str) else to_json(v)}" for n, v in tree.items())
    return f"{{{', '.join(fields)}}}"


def set_path(tree: Tree, path: str, value: str) -> None:
    """Set the value at a dotted path."""
    name, _, rest = path.partition(".")
    inner = tree[name] if rest else None
    if isinstance(inner, dict):
        set_path(inner, rest, value)
    else:
        tree[name] = value


def _break_columns(wrongs: Sequence[BadValue]) -> Callable[[Tree, int, random.Random], list[Reason]]:
    """Return a function that breaks one to three columns of a record and returns the reasons.

    The first column follows the turn; the others are random.
    """

    def make(tree: Tree, turn: int, rng: random.Random) -> list[Reason]:
        first = wrongs[turn % len(wrongs)]
        others = [wrong for wrong in wrongs if wrong[0] != first[0]]
        chosen = {wrong[0]: wrong for wrong in [first, *rng.sample(others, rng.randrange(3))]}
        for path, value, _ in chosen.values():
            set_path(tree, path, value)
        return [reason for _, _, reason in chosen.values()]

    return make


def _break_record(places: Sequence[tuple[str, str]]) -> Callable[[Tree, int, random.Random], list[Reason]]:
    """Return a function that makes the whole record unreadable or unstorable."""

    def make(tree: Tree, turn: int, rng: random.Random) -> list[Reason]:
        set_path(tree, *places[turn % len(places)])
        return [("readable", None)]

    return make


MAKERS: dict[str, Callable[[Tree, int, random.Random], list[Reason]]] = {
    "unmappable": _break_columns(UNMAPPABLE),
    "impossible": _break_columns(IMPOSSIBLE),
    "unstorable": _break_record(UNSTORABLE),
    "too long a number": _break_record(TOO_LONG_A_NUMBER),
    "undated": _break_record(UNDATED),
    "nameless": _break_record(NAMELESS),
}
# The changes that each kind of record gets, in order.
KINDS = [
    ["unmappable"],
    ["impossible"],
    ["unstorable"],
    ["unmappable"],
    ["impossible"],
    ["undated"],
    ["nameless"],
    ["impossible", "unmappable"],
    ["unmappable", "unstorable"],
    ["too long a number"],
]
