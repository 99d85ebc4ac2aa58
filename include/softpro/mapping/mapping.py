"""Define a mapping of one SoftPro field to one column, as the specification's IntegrationMapping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from softpro.entities import EntityType

DIRECTIONS = ("SOFTPRO_TO_ROI", "ROI_TO_SOFTPRO", "BIDIRECTIONAL")
FROM_SOFTPRO, TO_SOFTPRO = "fromSoftPro", "toSoftPro"


@dataclass(frozen=True)
class Mapping:
    """A mapping of one SoftPro field to one column.

    Attributes:
        softpro_field: a dotted path such as `propertyAddress.city` or `buyer[0].contactId`.
        roi_systems_field: a column of `columns.COLUMNS`, or `custom.<name>`.
        transformation_rule: None, JSONata for the mapping's one direction, or `{"fromSoftPro": …, "toSoftPro": …}`.
        default_value: replaces a field that is missing or null.
        validation_rules: the rules that a value has to satisfy; see `value_rules`.
    """

    entity_type: EntityType
    softpro_field: str
    roi_systems_field: str
    direction: str = "BIDIRECTIONAL"
    transformation_rule: Any = None
    required: bool = False
    default_value: str | None = None
    enabled: bool = True
    validation_rules: dict[str, Any] | None = None

    @property
    def inbound(self) -> bool:
        """Return whether the mapping applies when SoftPro's records are loaded."""
        return self.enabled and self.direction != "ROI_TO_SOFTPRO"

    @property
    def outbound(self) -> bool:
        """Return whether the mapping applies when records are sent to SoftPro."""
        return self.enabled and self.direction != "SOFTPRO_TO_ROI"

    @property
    def rules(self) -> dict[str, str]:
        """Return the JSONata by direction, `FROM_SOFTPRO` or `TO_SOFTPRO`."""
        rule = self.transformation_rule
        if rule is None:
            return {}
        if isinstance(rule, str):
            return {TO_SOFTPRO if self.direction == "ROI_TO_SOFTPRO" else FROM_SOFTPRO: rule}
        return dict(rule)
