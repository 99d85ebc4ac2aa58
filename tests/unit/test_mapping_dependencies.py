"""Find the fields that a mapping set reads, from the set alone."""

from __future__ import annotations

import pytest

from softpro.entities import EntityType
from softpro.mapping.dependencies import any_index, read_paths
from softpro.mapping.mapping import Mapping


def mapping(field: str, rule: object = None, direction: str = "SOFTPRO_TO_ROI", enabled: bool = True) -> Mapping:
    return Mapping(
        EntityType.TRANSACTION, field, "notes", direction=direction, transformation_rule=rule, enabled=enabled
    )


def test_a_mapping_reads_its_field_and_all_below_it() -> None:
    read = read_paths([mapping("customFields"), mapping("buyer[0].contactId")])
    assert [
        path for path in ("customFields", "customFields.a", "customFields[].b", "buyer[].contactId") if path in read
    ]
    assert "customField" not in read
    assert "customFieldsToo" not in read
    assert "buyer[].name" not in read
    assert "buyer" not in read


def test_mappings_that_do_not_load_read_nothing() -> None:
    assert read_paths([mapping("a", enabled=False), mapping("b", direction="ROI_TO_SOFTPRO")]).paths == frozenset()


@pytest.mark.parametrize(
    ("rule", "named", "anything"),
    [
        ("$uppercase($)", set(), False),
        ("$record.status & $record.buyer[0].name", {"status", "buyer"}, False),
        ("$record . propertyAddress\n.city", {"propertyAddress.city"}, False),
        ("$record.a and $record.b.c", {"a", "b.c"}, False),
        ("$recorded.a", set(), False),
        ("$lookup($record, 'a')", set(), True),
        ("$record.*", set(), True),
        ("$record.$keys($)", set(), True),
        ("($r := $record; $r.a) & $record.b", {"b"}, True),
        ({"fromSoftPro": "$record.a", "toSoftPro": "$record.b"}, {"a"}, False),
    ],
)
def test_a_rule_reads_what_it_names_of_the_record(rule: object, named: set[str], anything: bool) -> None:
    direction = "BIDIRECTIONAL" if isinstance(rule, dict) else "SOFTPRO_TO_ROI"
    read = read_paths([mapping("field", rule, direction)])
    assert (set(read.paths), set(read.named), read.anything) == ({"field"}, named, anything)


def test_a_rule_that_names_a_field_of_a_list_reads_it_in_every_place() -> None:
    read = read_paths([mapping("field", "$sum($record.buyer.share)")])
    assert "buyer[].share" in read
    assert "buyer[].name" not in read


def test_any_place_in_a_list_is_written_as_one() -> None:
    assert any_index("buyer[0].phones[12].number") == "buyer[].phones[].number"
