"""The quality suites' files agree with the tables they judge."""

from __future__ import annotations

import pytest

from softpro.entities import EntityType
from softpro.mapping.columns import COLUMNS, Type
from softpro.quality.check import load_suite

EVERY_EXPECTATION = [(entity, expectation) for entity in EntityType for expectation in load_suite(entity)]


@pytest.mark.parametrize(("entity", "expectation"), EVERY_EXPECTATION)
def test_every_expectation_names_columns_that_exist(entity: EntityType, expectation: dict[str, object]) -> None:
    arguments = expectation["kwargs"]
    assert isinstance(arguments, dict)
    named = {value for name, value in arguments.items() if name in ("column", "column_A", "column_B")}
    assert named
    assert named <= set(COLUMNS[entity])


@pytest.mark.parametrize(("entity", "expectation"), EVERY_EXPECTATION)
def test_every_expectation_is_critical_or_a_warning(entity: EntityType, expectation: dict[str, object]) -> None:
    assert set(expectation) == {"type", "severity", "kwargs"}
    assert expectation["severity"] in ("critical", "warning")


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
