"""A mapping: one vendor field to one column of ours, as the specification's IntegrationMapping has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from softpro.entities import EntityType

DIRECTIONS = ("SOFTPRO_TO_ROI", "ROI_TO_SOFTPRO", "BIDIRECTIONAL")


@dataclass(frozen=True)
class Mapping:
    """`softpro_field`: a dotted path such as `propertyAddress.city` or `buyer[0].contactId`.

    `roi_systems_field`: a column of `columns.COLUMNS`, or `custom.<name>`. `transformation_rule`: JSONata (its `$` is
    the field's value, `$record` the whole record), or None. `default_value` stands in for a field that is missing or
    null.
    """

    entity_type: EntityType
    softpro_field: str
    roi_systems_field: str
    direction: str = "BIDIRECTIONAL"
    transformation_rule: Any = None
    required: bool = False
    default_value: str | None = None
    enabled: bool = True

    @property
    def inbound(self) -> bool:
        """It takes part when SoftPro's records are loaded."""
        return self.enabled and self.direction != "ROI_TO_SOFTPRO"
