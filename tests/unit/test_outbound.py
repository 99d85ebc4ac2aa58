"""Compute what SoftPro is sent for a row, and check pairs of rules that reverse each other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache, partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softpro.entities import EntityType
from softpro.mapping.compiler import compile_mappings, map_records
from softpro.mapping.mapping import Mapping
from softpro.mapping.outbound import OutboundValues, compile_outbound, outbound_values
from softpro.mapping.rules.evaluator import evaluating
from softpro.mapping.set_validation import validate

from ..support.jsonata import UNDEFINED

TRANSACTION = EntityType.TRANSACTION
exact = partial(json.loads, parse_float=Decimal)


def both_ways(from_softpro: str, to_softpro: str, target: str = "notes") -> Mapping:
    rules = {"fromSoftPro": from_softpro, "toSoftPro": to_softpro}
    return Mapping(TRANSACTION, "field", target, "BIDIRECTIONAL", rules)


def sent_of(mappings: Sequence[Mapping], *rows: dict[str, Any]) -> list[OutboundValues]:
    compiled = compile_outbound(TRANSACTION, mappings)
    with evaluating(compiled.rule_inputs.rules) as rules:
        return list(outbound_values(compiled, rows, rules))


class ThereAndBack:
    """Maps a field's values to the row and back to SoftPro, by one mapping."""

    def __init__(self, mapping: Mapping) -> None:
        validate([mapping])
        self.inward, self.outward = compile_mappings(TRANSACTION, [mapping]), compile_outbound(TRANSACTION, [mapping])
        self.stack = ExitStack()
        self.rules = self.stack.enter_context(evaluating(self.inward.rule_inputs.rules))
        self.reverse = self.stack.enter_context(evaluating(self.outward.rule_inputs.rules))

    def __call__(self, values: Sequence[Any]) -> list[Any]:
        payloads = [json.dumps({} if value is UNDEFINED else {"field": value}).encode() for value in values]
        rows = []
        for result in map_records(self.inward, ((payload, None) for payload in payloads), self.rules):
            assert result.reasons == []
            row = dict(zip(self.inward.columns, result.values, strict=True))
            rows.append({**row, "custom": exact(row["custom"] or "{}")})
        found = [each.values.get("field") for each in outbound_values(self.outward, rows, self.reverse)]
        return [UNDEFINED if value is None else json.loads(value) for value in found]


@pytest.fixture(scope="module")
def there_and_back() -> Iterator[Callable[[str], ThereAndBack]]:
    """Return a function that gives the round trip for each of PAIRS; its processes start once."""
    with ExitStack() as stack:

        @cache
        def of(name: str) -> ThereAndBack:
            made = ThereAndBack(PAIRS[name][0])
            stack.push(made.stack)
            return made

        yield of


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
lists = partial(st.lists, min_size=1, max_size=30)
cents = st.integers(-(10**11), 10**11)
capitals = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ_", max_size=20)
days = st.dates(date(1000, 1, 1), date(9999, 12, 31))


@settings(max_examples=12, deadline=None)
@given(st.dictionaries(texts, texts, min_size=1, max_size=12), st.data())
def test_a_translation_and_its_reverse(words: dict[str, str], data: st.DataObject) -> None:
    reverse = {translated: word for word, translated in words.items()}
    there = {word: translated for translated, word in reverse.items()}  # each translation once
    pair = both_ways(f"$lookup({json.dumps(there)}, $)", f"$lookup({json.dumps(reverse)}, $)")
    values = data.draw(lists(st.sampled_from(sorted(there))))
    round_trip = ThereAndBack(pair)
    with round_trip.stack:
        assert round_trip(values) == values


PAIRS: dict[str, tuple[Mapping, st.SearchStrategy[Any]]] = {
    "small letters": (both_ways("$lowercase($)", "$uppercase($)"), capitals),
    "a prefix": (both_ways("'SP-' & $", "$substringAfter($, 'SP-')"), texts),
    "yes and no": (both_ways("$ ? 'Y' : 'N'", "$ = 'Y'"), st.booleans()),
    "cents": (both_ways("$ / 100", "$ * 100", "purchase_price"), cents),
    "a day": (
        both_ways(
            "$fromMillis($toMillis($, '[M01]/[D01]/[Y0001]'))",
            "$fromMillis($toMillis($), '[M01]/[D01]/[Y0001]')",
            "opened_at",
        ),
        days.map(lambda day: day.strftime("%m/%d/") + f"{day.year:04}"),
    ),
    "a list as text": (
        both_ways("$join($, '; ')", "$split($, '; ')"),
        st.lists(texts.filter(lambda text: text and ";" not in text), min_size=1, max_size=8),
    ),
    "another shape": (
        both_ways("{'s': street, 'c': city}", "{'street': s, 'city': c}", "custom.place"),
        st.fixed_dictionaries({"street": texts, "city": st.none() | texts}),
    ),
    "what may be missing": (
        both_ways("$", "$", "custom.any"),
        st.sampled_from([0, False, "", None, UNDEFINED, [], {}]),
    ),
    "a number as text": (both_ways("$string($)", "$number($)"), st.integers(-(10**14), 10**14)),
}


@pytest.mark.parametrize("name", PAIRS)
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_pair_of_rules_that_undo_each_other_gives_back_what_was_sent(
    there_and_back: Callable[[str], ThereAndBack], name: str, data: st.DataObject
) -> None:
    values = data.draw(lists(PAIRS[name][1]))
    found = there_and_back(name)(values)
    assert [(type(each), each) for each in found] == [(type(each), each) for each in values]


@pytest.mark.parametrize("value", [0, False, "", None, UNDEFINED, 1.25, "text", [1, None], {"a": {}}])
def test_without_a_rule_all_kinds_of_nothing_stay_apart_below_custom(value: Any) -> None:
    [found] = ThereAndBack(Mapping(TRANSACTION, "field", "custom.any"))([value])
    assert (type(found), found) == (type(value), value)


def test_a_value_is_sent_as_its_column_holds_it() -> None:
    mappings = [
        Mapping(TRANSACTION, "price", "purchase_price"),
        Mapping(TRANSACTION, "opened", "opened_at"),
        Mapping(TRANSACTION, "address.city", "property_city"),
        Mapping(TRANSACTION, "region", "custom.re.gion"),
        Mapping(TRANSACTION, "office", "custom.office"),
    ]
    row = {
        "purchase_price": Decimal("999999999999.99"),
        "opened_at": datetime(2025, 3, 1, 17, 4, 5, 123000, UTC),
        "property_city": None,
        "custom": {"re.gion": "W", "other": 1},
    }
    [found] = sent_of(mappings, row)
    assert found.failures == {}
    assert found.values == {
        "price": "999999999999.99",
        "opened": '"2025-03-01T17:04:05.123Z"',
        "address.city": "null",
        "region": '"W"',
    }


def test_only_outbound_mappings_send_and_a_rule_sees_the_whole_row() -> None:
    mappings = [
        Mapping(TRANSACTION, "a", "notes", "SOFTPRO_TO_ROI"),
        Mapping(TRANSACTION, "b", "status", "ROI_TO_SOFTPRO", "$ & $record.notes"),
        Mapping(TRANSACTION, "c", "status", enabled=False),
        Mapping(EntityType.CONTACT, "d", "email"),
        Mapping(TRANSACTION, "e", "property_zip", "ROI_TO_SOFTPRO", "$error('no zip')"),
    ]
    [found] = sent_of(mappings, {"notes": "n", "status": "s", "property_zip": "z"})
    assert found == OutboundValues({"b": '"sn"'}, {"e": "D3137: no zip"})
