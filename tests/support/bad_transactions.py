"""Transactions that may not be loaded, in every way there is, each with the reasons it must be given."""

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
"""A record: objects, and in them JSON texts, so that it can say what no encoder would."""

Reason = tuple[str, str | None]
"""Rule and column."""

Wrong = tuple[str, str, Reason]
"""Where, what stands there, and the reason."""

BETWEEN = "expect_column_values_to_be_between"

UNMAPPABLE: list[Wrong] = [
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
IMPOSSIBLE: list[Wrong] = [
    (field, amount, (BETWEEN, column))
    for field, column in (
        ("purchasePrice", "purchase_price"),
        ("loanAmount", "loan_amount"),
        ("downPayment", "down_payment"),
        ("closingCost", "closing_cost"),
    )
    for amount in ("-0.01", "1000000000000", "123456789012345678901234567890.5")
]
# Refused by jsonb: a NUL character, half a surrogate pair, a number beyond what it holds.
UNSTORABLE = [("notes", '"a\\u0000b"'), ("notes", '"half \\ud83c"'), ("customFields.n", "1e200000")]
TOO_LONG_A_NUMBER = [("customFields.n", "1e5000")]  # jsonb holds it, and writes all its digits
UNDATED = [("updatedAt", "null"), ("updatedAt", '"yesterday"'), ("updatedAt", "17")]
NAMELESS = [("orderId", "null"), ("orderId", '""'), ("orderId", "7")]


@dataclass(frozen=True)
class Bad:
    """A record that may not be loaded. `id` is None where none can be told, `name` the id it should have.

    `landed`: it was stored in `raw` before it was refused, so that its payload is known as jsonb writes it.
    """

    name: str
    tree: Tree
    reasons: list[Reason]
    landed: bool
    id: str | None

    @property
    def payload(self) -> bytes:
        return written(self.tree).encode()

    def mended(self, now: datetime) -> bytes:
        """The record as it should have been, changed now."""
        return written(good(self.name, now)).encode()


def strict_mappings() -> list[Mapping]:
    """The default set of transactions; the order type is demanded, and a rule minds what the county is."""

    def stricter(mapping: Mapping) -> Mapping:
        if mapping.roi_systems_field == "transaction_type":
            return replace(mapping, required=True)
        if mapping.roi_systems_field == "property_county":
            return replace(mapping, transformation_rule="$substring($, 0)", direction="SOFTPRO_TO_ROI")
        return mapping

    return [stricter(mapping) for mapping in default_mappings(EntityType.TRANSACTION)]


def bad_transactions(count: int, rng: random.Random) -> list[Bad]:
    """So many, of all kinds in turn, with one, two or three reasons at once where a kind can have them.

    What can't be read or stored is not mapped: so one kind has more wrong with it than its reasons say.
    """
    return [_bad(number, rng) for number in range(count)]


def _bad(number: int, rng: random.Random) -> Bad:
    name = f"bad-{number:06d}"
    tree = good(name, datetime.fromtimestamp(rng.uniform(1_700_000_000, 1_760_000_000), UTC))
    turn, kind = divmod(number, len(KINDS))
    reasons: list[Reason] = []
    for what in KINDS[kind]:
        more = MAKERS[what](tree, turn, rng)
        columns = {column for _, column in more}
        reasons = more if None in columns else [*(was for was in reasons if was[1] not in columns), *more]
    last = KINDS[kind][-1]
    return Bad(
        name,
        tree,
        reasons,
        landed=last not in ("unstorable", "undated", "nameless"),
        id=None if last == "nameless" else name,
    )


def good(order_id: str, updated_at: datetime) -> Tree:
    """A record that is loaded, and has all that most others have."""
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


def written(tree: Tree) -> str:
    """The tree as JSON."""
    fields = (f"{json.dumps(n)}: {v if isinstance(v, str) else written(v)}" for n, v in tree.items())
    return f"{{{', '.join(fields)}}}"


def put(tree: Tree, path: str, value: str) -> None:
    """Sets what stands at a dotted path."""
    name, _, rest = path.partition(".")
    inner = tree[name] if rest else None
    if isinstance(inner, dict):
        put(inner, rest, value)
    else:
        tree[name] = value


def _spoiled(wrongs: Sequence[Wrong]) -> Callable[[Tree, int, random.Random], list[Reason]]:
    """Makes one, two or three columns wrong: the one whose turn it is, and others by chance. Their reasons."""

    def make(tree: Tree, turn: int, rng: random.Random) -> list[Reason]:
        first = wrongs[turn % len(wrongs)]
        others = [wrong for wrong in wrongs if wrong[0] != first[0]]
        chosen = {wrong[0]: wrong for wrong in [first, *rng.sample(others, rng.randrange(3))]}
        for path, value, _ in chosen.values():
            put(tree, path, value)
        return [reason for _, _, reason in chosen.values()]

    return make


def _unreadable(places: Sequence[tuple[str, str]]) -> Callable[[Tree, int, random.Random], list[Reason]]:
    """Makes the record as a whole one that can't be read, or not be stored."""

    def make(tree: Tree, turn: int, rng: random.Random) -> list[Reason]:
        put(tree, *places[turn % len(places)])
        return [("readable", None)]

    return make


MAKERS: dict[str, Callable[[Tree, int, random.Random], list[Reason]]] = {
    "unmappable": _spoiled(UNMAPPABLE),
    "impossible": _spoiled(IMPOSSIBLE),
    "unstorable": _unreadable(UNSTORABLE),
    "too long a number": _unreadable(TOO_LONG_A_NUMBER),
    "undated": _unreadable(UNDATED),
    "nameless": _unreadable(NAMELESS),
}
# What is done to a record, one after the other.
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
