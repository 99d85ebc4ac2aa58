"""Decide by strategy which value wins if both sides changed a field since they last agreed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from softpro.db.integration_settings import ConflictStrategy
from softpro.entities import EntityType
from softpro.mapping.columns import CUSTOM_PREFIX
from softpro.mapping.paths import MISSING
from softpro.timestamps import format_milliseconds
from softpro.writeback.field_values import same_json

SOFTPRO, ROI, MERGED = "SOFTPRO", "ROI", "MERGED"


class Sides(NamedTuple):
    """The three values of a field: the last agreed one (`base`), and the present one on each side."""

    base: Any
    softpro: Any
    roi: Any


class Decision(NamedTuple):
    """The decision about a field. A `winner` of None waits for a user's decision."""

    strategy: ConflictStrategy
    winner: str | None
    result: Any
    why: str

    def as_json(self) -> dict[str, str | None]:
        """Return the decision without its result."""
        return {"strategy": self.strategy.value, "winner": self.winner, "why": self.why}


@dataclass(frozen=True)
class Times:
    """The times of the last change, by the database's clock: of the record at SoftPro, and of the field in ROI."""

    softpro: datetime
    roi: datetime

    @property
    def newest(self) -> str:
        """Return the side that changed last; SoftPro if the order is unknown."""
        return ROI if self.roi > self.softpro else SOFTPRO

    def __str__(self) -> str:
        return f"SoftPro changed at {format_milliseconds(self.softpro)}, ROI at {format_milliseconds(self.roi)}"


@dataclass(frozen=True)
class Strategies:
    """The conflict strategies of an integration.

    Attributes:
        default: The integration's strategy.
        overrides: Strategies by entity type (`transactions`) or field (`transactions.notes`,
            `transactions.custom.vip`).
    """

    default: ConflictStrategy
    overrides: Mapping[str, str]

    def of(self, entity_type: EntityType, field: str | None = None) -> ConflictStrategy:
        """Return the most specific strategy: of the field, of `custom`, of the entity type, or of the integration."""
        names = [entity_type.table]
        if field is not None:
            if field.startswith(CUSTOM_PREFIX):
                names.insert(0, f"{entity_type.table}.custom")
            names.insert(0, f"{entity_type.table}.{field}")
        return ConflictStrategy(next((self.overrides[name] for name in names if name in self.overrides), self.default))


def decide(sides: Sides, strategy: ConflictStrategy, times: Times) -> Decision:
    """Decide by a strategy about a field that both sides changed to different values."""
    match strategy:
        case ConflictStrategy.SOFTPRO_WINS:
            return Decision(strategy, SOFTPRO, sides.softpro, "by the strategy")
        case ConflictStrategy.ROI_WINS:
            return Decision(strategy, ROI, sides.roi, "by the strategy")
        case ConflictStrategy.NEWEST_WINS:
            result = sides.roi if times.newest == ROI else sides.softpro
            return Decision(strategy, times.newest, result, f"the later change wins: {times}")
        case ConflictStrategy.MERGE:
            result = merge_values(*sides, newest=times.newest)
            if same_json(result, sides.softpro) or same_json(result, sides.roi):
                winner = SOFTPRO if same_json(result, sides.softpro) else ROI
                return Decision(strategy, winner, result, f"the later change wins: {times}")
            return Decision(strategy, MERGED, result, f"both merged; the later change wins where they differ: {times}")
        case ConflictStrategy.MANUAL_REVIEW:
            return Decision(strategy, None, MISSING, "a user must decide")


def merge_values(base: Any, softpro: Any, roi: Any, *, newest: str) -> Any:
    """Merge the changes of both sides: objects deeply, lists by their items' ids, and else the later value."""
    if same_json(softpro, roi) or same_json(roi, base):
        return softpro
    if same_json(softpro, base):
        return roi
    if isinstance(softpro, dict) and isinstance(roi, dict):
        return _merge_objects(base if isinstance(base, dict) else {}, softpro, roi, newest)
    if isinstance(softpro, list) and isinstance(roi, list):
        return _merge_lists(base if isinstance(base, list) else [], softpro, roi, newest)
    return roi if newest == ROI else softpro


def _merge_objects(base: Mapping[str, Any], softpro: Mapping[str, Any], roi: Mapping[str, Any], newest: str) -> Any:
    found = {}
    for name in dict.fromkeys([*softpro, *roi]):
        value = merge_values(base.get(name, MISSING), softpro.get(name, MISSING), roi.get(name, MISSING), newest=newest)
        if value is not MISSING:
            found[name] = value
    return found


def _merge_lists(base: Sequence[Any], softpro: Sequence[Any], roi: Sequence[Any], newest: str) -> list[Any]:
    """Merge lists: SoftPro's items in order, then ROI's further ones. Items without an id are compared by value."""
    key = _id_field([*base, *softpro, *roi])
    if key is None:
        return [
            *(item for item in softpro if _contains(roi, item) or not _contains(base, item)),
            *(item for item in roi if not _contains(softpro, item) and not _contains(base, item)),
        ]
    by_id = [{item[key]: item for item in items} for items in (base, softpro, roi)]
    ids = dict.fromkeys([*by_id[1], *by_id[2]])
    united = (merge_values(*(items.get(each, MISSING) for items in by_id), newest=newest) for each in ids)
    return [item for item in united if item is not MISSING]


def _id_field(items: Sequence[Any]) -> str | None:
    """Return the name of the items' id field: `id`, or the first that ends in `Id`, if every item has one."""
    if not items or not all(isinstance(item, dict) for item in items):
        return None
    names: list[str] = ["id", *(name for name in items[0] if name.endswith("Id"))]
    for name in names:
        if all(isinstance(item.get(name), (str, int)) for item in items):
            return name
    return None


def _contains(items: Sequence[Any], item: Any) -> bool:
    return any(same_json(each, item) for each in items)
