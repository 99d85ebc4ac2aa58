"""Which side a field belongs to, by the mappings that name it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from softpro.entities import EntityType
from softpro.mapping.columns import CUSTOM, CUSTOM_PREFIX
from softpro.mapping.mapping import Mapping


@dataclass(frozen=True)
class FieldOwnership:
    """The targets of the mappings that load, and of those that send; `custom` stands for all its names."""

    loaded: frozenset[str]
    sent: frozenset[str]

    @staticmethod
    def of(entity_type: EntityType, mappings: Iterable[Mapping]) -> FieldOwnership:
        """By the mappings of one entity type that are in force."""
        ours = [mapping for mapping in mappings if mapping.entity_type is entity_type]
        return FieldOwnership(
            frozenset(mapping.roi_systems_field for mapping in ours if mapping.inbound),
            frozenset(mapping.roi_systems_field for mapping in ours if mapping.outbound),
        )

    def inbound(self, field: str) -> bool:
        """SoftPro fills it."""
        return _is_in(field, self.loaded)

    def outbound(self, field: str) -> bool:
        """What changes here is sent."""
        return _is_in(field, self.sent)

    def softpro_owns(self, field: str) -> bool:
        """It is only loaded: what people change here stands until SoftPro's record is loaded again."""
        return self.inbound(field) and not self.outbound(field)

    @property
    def named(self) -> frozenset[str]:
        """The targets of all mappings."""
        return self.loaded | self.sent

    @property
    def kept(self) -> list[str]:
        """What only ROI says anything of, and SoftPro is sent: loading leaves it alone."""
        return sorted(field for field in self.sent if not self.inbound(field))

    def roi_owns(self, field: str) -> bool:
        """SoftPro says nothing of it."""
        return not self.inbound(field)


def _is_in(field: str, targets: frozenset[str]) -> bool:
    return field in targets or (field.startswith(CUSTOM_PREFIX) and CUSTOM in targets)
