"""Collect the value rules of a mapping set for the quality checks."""

from __future__ import annotations

from collections.abc import Iterable

from softpro.mapping.mapping import Mapping
from softpro.mapping.set_validation import target_type
from softpro.quality.value_rule_expectations import Demand


def value_demands(mappings: Iterable[Mapping]) -> list[Demand]:
    """Return the validationRules of the mappings that take part in loading."""
    return [
        Demand(each.softpro_field, each.roi_systems_field, target_type(each), each.validation_rules)
        for each in mappings
        if each.inbound and each.validation_rules
    ]
