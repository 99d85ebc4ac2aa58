"""Decide which side owns a field, by the mappings that name it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from softpro.entities import EntityType
from softpro.mapping.columns import CUSTOM, CUSTOM_PREFIX
from softpro.mapping.mapping import Mapping


@dataclass(frozen=True)
class FieldOwnership:
    """The targets of the mappings that load, and of those that send. `custom` covers all names in it."""

    loaded: frozenset[str]
    sent: frozenset[str]

    @staticmethod
    def of(entity_type: EntityType, mappings: Iterable[Mapping]) -> FieldOwnership:
        """Return the ownership by those of these mappings that belong to the entity type."""
        ours = [mapping for mapping in mappings if mapping.entity_type is entity_type]
        return FieldOwnership(
            frozenset(mapping.roi_systems_field for mapping in ours if mapping.inbound),
            frozenset(mapping.roi_systems_field for mapping in ours if mapping.outbound),
        )

    def inbound(self, field: str) -> bool:
        """Return whether a mapping loads the field from SoftPro."""
        return _is_in(field, self.loaded)

    def outbound(self, field: str) -> bool:
        """Return whether a mapping sends the field to SoftPro."""
        return _is_in(field, self.sent)

    def softpro_owns(self, field: str) -> bool:
        """Return whether the field is only loaded. An edit of it lasts until SoftPro's record is loaded again."""
        return self.inbound(field) and not self.outbound(field)

    @property
    def mapped(self) -> frozenset[str]:
        """Return the targets of all mappings."""
        return self.loaded | self.sent

    @property
    def push_only(self) -> list[str]:
        """Return the fields that are sent but never loaded. A load leaves them unchanged."""
        return sorted(field for field in self.sent if not self.inbound(field))

    def roi_owns(self, field: str) -> bool:
        """Return whether no mapping loads the field."""
        return not self.inbound(field)


def _is_in(field: str, targets: frozenset[str]) -> bool:
    return field in targets or (field.startswith(CUSTOM_PREFIX) and CUSTOM in targets)
