"""Check that the quality suites' files agree with their tables."""

from __future__ import annotations

from typing import Any

import pytest

from softpro.entities import EntityType
from softpro.mapping.columns import COLUMNS, Type
from softpro.quality.suite import EACH_MAPPED, load_suite, suite_of

EVERY_EXPECTATION = [(entity, expectation) for entity in EntityType for expectation in load_suite(entity)]


@pytest.mark.parametrize(("entity", "expectation"), EVERY_EXPECTATION)
def test_every_expectation_names_columns_that_exist(entity: EntityType, expectation: dict[str, Any]) -> None:
    arguments = expectation["kwargs"]
    named = {value for name, value in arguments.items() if name in ("column", "column_A", "column_B")}
    assert named
    known = {entity.key, EACH_MAPPED} if expectation.get("level") == "batch" else set(COLUMNS[entity])
    assert named <= known


@pytest.mark.parametrize(("entity", "expectation"), EVERY_EXPECTATION)
def test_every_expectation_is_critical_or_a_warning(entity: EntityType, expectation: dict[str, Any]) -> None:
    assert {"type", "severity", "kwargs"} <= set(expectation) <= {"type", "severity", "kwargs", "level", "where"}
    assert expectation["severity"] in ("critical", "warning")
    assert expectation.get("level") in (None, "batch")


@pytest.mark.parametrize(("entity", "expectation"), EVERY_EXPECTATION)
def test_each_column_expectation_has_a_minimum_number_of_records(
    entity: EntityType, expectation: dict[str, Any]
) -> None:
    for_each = expectation["kwargs"].get("column") == EACH_MAPPED
    assert set(expectation.get("where", {})) == ({"records", "share"} if for_each else set())


@pytest.mark.parametrize("entity", EntityType)
def test_every_batch_is_checked_for_duplicate_keys_and_suddenly_null_columns(
    entity: EntityType,
) -> None:
    judged = {(each.type, each.column, each.severity): each.where for each in suite_of(entity) if each.level == "batch"}
    assert judged == {
        ("expect_column_values_to_be_unique", entity.key, "critical"): {},
        ("expect_column_proportion_of_non_null_values_to_be_between", EACH_MAPPED, "critical"): {
            "records": 100,
            "share": 0.5,
        },
    }


def test_all_money_is_kept_from_being_negative_or_overflowing() -> None:
    money = {column for column, kind in COLUMNS[EntityType.TRANSACTION].items() if kind is Type.MONEY}
    judged = {
        expectation["kwargs"]["column"]
        for expectation in load_suite(EntityType.TRANSACTION)
        if expectation["severity"] == "critical"
        and expectation["type"] == "expect_column_values_to_be_between"
        and expectation["kwargs"]["min_value"] == 0
        and expectation["kwargs"]["max_value"] == 999_999_999_999.99
    }
    assert judged == money
