"""Compare two mapping sets, and convert a set to JSON and back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softpro.entities import EntityType
from softpro.errors import MappingError
from softpro.mapping.defaults import default_mappings
from softpro.mapping.diff import Change, Changed, Diff, diff, identical, same
from softpro.mapping.document import as_json, read
from softpro.mapping.mapping import Mapping

TRANSACTION, CONTACT = EntityType.TRANSACTION, EntityType.CONTACT
NOTHING = Diff([], [], [])


def to(column: str, field: str = "field", **how: Any) -> Mapping:
    return Mapping(CONTACT, field, column, **how)


def test_a_set_does_not_differ_from_itself_in_any_order() -> None:
    mappings = default_mappings(TRANSACTION)
    assert diff(mappings, mappings[::-1]) == NOTHING
    assert not diff(mappings, mappings)


def test_it_names_what_was_added_removed_and_changed_by_target() -> None:
    earlier = [to("email"), to("fax"), to("phone")]
    later = [to("email"), to("phone", "mobile", required=True), to("custom.region")]
    assert diff(earlier, later) == Diff(
        added=[to("custom.region")],
        removed=[to("fax")],
        changed=[
            Changed(
                "CONTACT",
                "phone",
                "mobile",
                [Change("softproField", "field", "mobile"), Change("required", False, True)],
            )
        ],
    )


@pytest.mark.parametrize(
    ("property_", "value"),
    [
        ("softproField", "other"),
        ("direction", "SOFTPRO_TO_ROI"),
        ("transformationRule", {"fromSoftPro": "$", "toSoftPro": "$"}),
        ("required", True),
        ("defaultValue", ""),
        ("enabled", False),
        ("validationRules", {"min": 0}),
    ],
)
def test_a_change_of_any_property_has_both_values(property_: str, value: Any) -> None:
    before = as_json(to("email"))
    after = json.dumps([{**before, property_: value}])
    (changed,) = diff([to("email")], [entry.mapping() for entry in read(after).mappings]).changed
    assert changed.changes == [Change(property_, before[property_], value)]


def test_a_target_of_several_mappings_is_paired_by_what_is_alike() -> None:
    loads, pushes = to("email", "email", direction="SOFTPRO_TO_ROI"), to("email", "mail", direction="ROI_TO_SOFTPRO")
    strict = replace(loads, required=True)
    assert diff([loads, pushes], [pushes, strict]).changed == [
        Changed("CONTACT", "email", "email", [Change("required", False, True)])
    ]
    assert diff([loads, pushes], [pushes]) == Diff([], [loads], [])
    assert diff([pushes], [loads, pushes]) == Diff([loads], [], [])


def test_the_same_target_of_two_entity_types_is_two_targets() -> None:
    notes = [Mapping(TRANSACTION, "notes", "notes"), Mapping(CONTACT, "notes", "notes")]
    assert diff(notes[:1], notes[1:]) == Diff(added=notes[1:], removed=notes[:1], changed=[])


@given(st.permutations(default_mappings(CONTACT)), st.sets(st.sampled_from(default_mappings(CONTACT))))
def test_an_added_mapping_is_removed_in_the_reverse_diff(mappings: list[Mapping], left_out: set[Mapping]) -> None:
    part = [mapping for mapping in mappings if mapping.softpro_field not in {each.softpro_field for each in left_out}]
    assert sorted(map(repr, diff(part, mappings).added)) == sorted(map(repr, left_out))
    assert diff(part, mappings).added == [each for each in mappings if each not in part]
    assert diff(mappings, part).removed == diff(part, mappings).added


def test_identical_sets_have_the_same_order() -> None:
    mappings = default_mappings(CONTACT)
    assert identical(mappings, list(mappings))
    assert not identical(mappings, mappings[::-1])
    assert not identical(mappings, mappings[:-1])


@pytest.mark.parametrize(
    ("one", "other", "are_same"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        ({"a": 1, "b": [1.50]}, {"b": [1.5], "a": 1}, True),
        ({"a": None}, {}, False),
        ([1, 2], [2, 1], False),
        ("1", 1, False),
        (None, "", False),
        ([True], [1], False),
    ],
)
def test_values_are_compared_as_jsonb_compares_them(one: Any, other: Any, are_same: bool) -> None:
    assert same(one, other) is are_same


def test_a_set_written_as_json_reads_back_as_it_was() -> None:
    mappings = [
        to("email", direction="SOFTPRO_TO_ROI", transformation_rule="$", default_value="", required=True),
        to("phone", transformation_rule={"fromSoftPro": "$", "toSoftPro": "$"}, validation_rules={"min": 0.5}),
        Mapping(TRANSACTION, "a.b[0]", "custom.x", "ROI_TO_SOFTPRO", enabled=False),
    ]
    entries = [as_json(mapping) for mapping in mappings]
    for text in (entries, {"mappings": entries, "integrationId": "00000000-0000-0000-0000-000000000001"}):
        assert [entry.mapping() for entry in read(json.dumps(text)).mappings] == mappings


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", ["the mappings are not JSON: Expecting value: line 1 column 1 (char 0)"]),
        ("[]", ["mappings: List should have at least 1 item after validation, not 0"]),
        ("1", ["the mappings: Input should be a valid dictionary or instance of Document"]),
        (
            '[{"entityType": "CONTACT", "softproField": "a", "roiSystemsField": "email", "odd": 1}, 5]',
            [
                "mapping 1: odd: Extra inputs are not permitted",
                "mapping 2: Input should be a valid dictionary or instance of MappingIn",
            ],
        ),
        (
            '{"mappings": [{"entityType": "CONTACT"}]}',
            ["mapping 1: softproField: Field required", "mapping 1: roiSystemsField: Field required"],
        ),
    ],
)
def test_a_file_that_is_no_set_is_refused_with_all_that_is_wrong(text: str, problems: list[str]) -> None:
    with pytest.raises(MappingError) as refused:
        read(text)
    assert refused.value.problems == problems


def test_a_file_without_end_is_refused() -> None:
    with pytest.raises(MappingError, match="the mappings are not JSON"):
        read("[" * 100_000)
