"""Refuse an unusable mapping set when it is saved, and name every problem."""

from __future__ import annotations

from typing import Any

import pytest

from softpro.entities import EntityType
from softpro.errors import MappingError
from softpro.mapping.columns import COLUMNS
from softpro.mapping.defaults import default_mappings
from softpro.mapping.mapping import Mapping
from softpro.mapping.set_validation import validate, warnings


def to(column: str, field: str = "field", entity: EntityType = EntityType.TRANSACTION, **how: Any) -> Mapping:
    return Mapping(entity, field, column, **how)


def problems(*mappings: Mapping) -> list[str]:
    with pytest.raises(MappingError) as refused:
        validate(mappings)
    assert str(refused.value) == "; ".join(refused.value.problems)
    return refused.value.problems


@pytest.mark.parametrize(
    "target",
    [
        "unknown",
        "",
        "custom.",
        "Notes",
        # keys and the product's own columns are not mapped
        "id",
        "organization_id",
        "softpro_order_id",
        "softpro_created_at",
        "softpro_updated_at",
        "created_at",
        "updated_at",
        "deleted_at",
        # a contact's
        "email",
        "notes; drop table roi.transactions",
    ],
)
def test_a_target_that_is_no_mapped_column_is_refused_and_the_choice_is_shown(target: str) -> None:
    (problem,) = problems(to(target))
    assert problem.startswith(
        f"mapping 1: roiSystemsField {target!r} is not a column of roi.transactions that can be mapped; choose one of "
    )
    assert all(column in problem for column in [*COLUMNS[EntityType.TRANSACTION], "custom.<name>"])


@pytest.mark.parametrize("target", ["notes", "custom", "custom.name", "custom.a name", "custom.é", "custom.a.b"])
def test_columns_and_custom_names_are_accepted(target: str) -> None:
    validate([to(target)])


def test_every_problem_of_every_mapping_is_named_at_once() -> None:
    found = problems(
        to("notes"),
        to("status", "a..b", direction="SIDEWAYS", transformation_rule="$uppercase("),
        to("purchase_price", "price", default_value="a lot"),
        to("opened_at", "opened", default_value="soon", transformation_rule={"type": "uppercase"}),
        to("notes", "other"),
    )
    assert [problem.partition(" ")[0] + " " + problem.split()[1] for problem in found] == [
        "mapping 2:",
        "mapping 2:",
        "mapping 2:",
        "mapping 3:",
        "mapping 4:",
        "mapping 4:",
        "mapping 5:",
    ]
    assert "softproField 'a..b' is not a dotted path" in found[0]
    assert "direction 'SIDEWAYS' is none of SOFTPRO_TO_ROI, ROI_TO_SOFTPRO, BIDIRECTIONAL" in found[1]
    assert "transformationRule does not compile: " in found[2]
    assert found[3] == 'mapping 3: defaultValue: "a lot" is not a number'
    assert found[4] == 'mapping 4: defaultValue: "soon" is not a timestamp'
    assert found[5] == (
        'mapping 4: transformationRule should be a JSONata text, or {"fromSoftPro": …, "toSoftPro": …}, or null; '
        "it has 'type'"
    )
    assert found[6] == "mapping 5: roiSystemsField 'notes' is taken by mapping 1"


def test_a_target_is_filled_by_one_mapping_that_takes_part() -> None:
    assert problems(to("custom.a"), to("custom.a", "b")) == [
        "mapping 2: roiSystemsField 'custom.a' is taken by mapping 1"
    ]
    validate([to("notes"), to("notes", enabled=False), to("notes", "remarks", direction="ROI_TO_SOFTPRO")])
    validate([to("notes"), to("notes", entity=EntityType.CONTACT)])
    validate([to("custom", "a"), to("custom.a", "b"), to("custom.b", "c")])


@pytest.mark.parametrize(
    ("one", "other"),
    [("field", "field"), ("propertyAddress", "propertyAddress.city"), ("propertyAddress.city", "propertyAddress")],
)
def test_a_field_sent_by_two_mappings_is_refused_with_both_numbers(one: str, other: str) -> None:
    first, second = to("status", "status"), to("notes", one)
    assert problems(first, second, to("custom.a", other)) == [
        f"mapping 3: softproField {other!r} is already sent by mapping 2 ({one!r}): "
        "give one of them direction SOFTPRO_TO_ROI"
    ]
    validate([first, second, to("custom.a", other, direction="SOFTPRO_TO_ROI")])
    validate([first, second, to("custom.a", other, enabled=False)])
    validate([first, second, to("notes", other, entity=EntityType.CONTACT)])


def test_a_name_that_only_begins_alike_is_another_field() -> None:
    validate([to("notes", "note"), to("status", "notes"), to("custom.a", "a.note")])


def test_custom_as_a_whole_is_sent_with_single_names_of_it() -> None:
    whole = to("custom", "customFields")
    validate([whole, to("custom.a", "customFields.a"), to("custom.b", "customFields.b")])
    validate([to("custom.a", "customFields.a", direction="ROI_TO_SOFTPRO"), whole])
    for other in (
        to("custom.b", "customFields.a"),  # custom.a is also sent with the whole of `custom`
        to("custom.a", "customFields.a.b"),
        to("notes", "customFields.a"),
    ):
        assert len(problems(whole, other)) == 1
    both_ways = {"fromSoftPro": "$", "toSoftPro": "$"}
    by_a_rule = to("custom", "customFields", transformation_rule=both_ways)
    assert len(problems(by_a_rule, to("custom.a", "customFields.a"))) == 1


@pytest.mark.parametrize("entity", EntityType)
def test_read_only_fields_of_softpro_are_not_sent(entity: EntityType) -> None:
    for field in (f"{'order' if entity is EntityType.TRANSACTION else 'contact'}Id", "createdAt", "updatedAt"):
        assert problems(to("custom.a", field, entity)) == [
            f"mapping 1: softproField {field!r} is written only by SoftPro: set direction SOFTPRO_TO_ROI"
        ]
        validate([to("custom.a", field, entity, direction="SOFTPRO_TO_ROI")])


def test_sending_into_a_list_is_warned_of() -> None:
    into_a_list = to("custom.buyer", "buyer[0].contactId")
    validate([into_a_list])
    [warning] = warnings([to("notes"), into_a_list])
    assert warning.startswith("mapping 2: softproField 'buyer[0].contactId' is an item of a list")
    assert (
        warnings([to("custom.buyer", "buyer[0].contactId", direction="SOFTPRO_TO_ROI"), to("custom.a", "buyer")]) == []
    )


@pytest.mark.parametrize("entity", EntityType)
def test_the_default_sets_are_valid_and_send_all_they_load(entity: EntityType) -> None:
    validate(default_mappings(entity))
    assert warnings(default_mappings(entity)) == []
