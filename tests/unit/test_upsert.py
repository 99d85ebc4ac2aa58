"""Update a mapping set by some mappings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softpro.entities import EntityType
from softpro.errors import MappingError
from softpro.mapping.defaults import default_mappings
from softpro.mapping.mapping import Mapping
from softpro.mapping.upsert import upsert

TRANSACTION, CONTACT = EntityType.TRANSACTION, EntityType.CONTACT
DEFAULTS = default_mappings(TRANSACTION)
IN, OUT = "SOFTPRO_TO_ROI", "ROI_TO_SOFTPRO"


def to(target: str, field: str = "field", direction: str = "BIDIRECTIONAL", **how: Any) -> Mapping:
    return Mapping(CONTACT, field, target, direction, **how)


def test_one_mapping_replaces_the_one_of_its_target_at_its_place() -> None:
    number = replace(DEFAULTS[3], softpro_field="street", required=True)
    updated = upsert(DEFAULTS, [number])
    assert updated.mappings == [*DEFAULTS[:3], number, *DEFAULTS[4:]]
    assert updated.names[2:4] == ["the stored mapping to 'status'", "mapping 1"]


def test_another_target_or_another_entity_type_is_added() -> None:
    more = [to("custom.region"), replace(DEFAULTS[0], entity_type=CONTACT)]
    updated = upsert(DEFAULTS, more)
    assert updated.mappings == [*DEFAULTS, *more]
    assert updated.names[-2:] == ["mapping 1", "mapping 2"]


def test_of_several_the_one_of_the_same_field_and_direction_is_replaced() -> None:
    stored = [to("email", "mail", IN), to("email", "mail", OUT), to("email", "other", OUT)]
    for place, mapping in enumerate(stored):
        changed = replace(mapping, default_value="new")
        expected = [*stored]
        expected[place] = changed
        assert upsert(stored, [changed]).mappings == expected


def test_one_that_can_mean_several_is_refused_with_all_of_them() -> None:
    stored = [to("email", "mail", IN), to("email", "mail", OUT), to("fax")]
    with pytest.raises(MappingError) as refused:
        upsert(stored, [to("phone"), to("email", "mail"), to("fax", "facsimile"), to("email", "third", IN)])
    assert refused.value.problems == [
        f"mapping {number}: roiSystemsField 'email' has several stored mappings: mail SOFTPRO_TO_ROI, "
        "mail ROI_TO_SOFTPRO. Send the softproField and direction of one of them, or the whole set with "
        '"replace": true'
        for number in (2, 4)
    ]


def test_a_whole_set_with_one_change_is_not_ambiguous() -> None:
    stored = [to("email", "mail", IN), to("email", "mail", OUT), to("fax")]
    sent = [to("fax"), to("email", "mail", IN), to("email", "address", OUT)]
    assert upsert(stored, sent).mappings == [sent[1], sent[2], sent[0]]


def test_a_second_mapping_of_a_target_is_added() -> None:
    sent = [to("email", "mail", IN), to("email", "address", OUT)]
    assert upsert([to("email", "mail", IN, required=True)], sent).mappings == sent


MAPPINGS = st.lists(
    st.builds(
        to,
        st.sampled_from(["email", "fax", "phone"]),
        st.sampled_from(["a", "b"]),
        st.sampled_from([IN, OUT, "BIDIRECTIONAL"]),
        required=st.booleans(),
    ),
    max_size=6,
)


@given(MAPPINGS, st.randoms())
def test_a_stored_set_sent_again_in_any_order_changes_nothing(stored: list[Mapping], random: Any) -> None:
    sent = [*stored]
    random.shuffle(sent)
    assert upsert(stored, sent).mappings == stored


@given(MAPPINGS, MAPPINGS)
def test_all_that_is_sent_is_in_the_set_and_other_targets_stay(stored: list[Mapping], sent: list[Mapping]) -> None:
    try:
        updated = upsert(stored, sent)
    except MappingError:
        return
    assert all(updated.mappings.count(each) >= sent.count(each) for each in sent)
    targets = {each.roi_systems_field for each in sent}
    others = [each for each in stored if each.roi_systems_field not in targets]
    assert [each for each in updated.mappings if each.roi_systems_field not in targets] == others
    assert len(updated.mappings) == len(updated.names) >= len(stored)
