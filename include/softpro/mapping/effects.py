"""What another mapping set would make of a record, field by field. Nothing here reads or writes anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Mapping as Dict
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from softpro.mapping.columns import CUSTOM_PREFIX, Type
from softpro.mapping.compiled import Compiled, Mapped
from softpro.mapping.diff import same
from softpro.mapping.mapping import Mapping
from softpro.mapping.step import Reason
from softpro.timestamps import format_time

_decode = msgspec.json.Decoder(float_hook=Decimal).decode


@dataclass(frozen=True)
class Outcome:
    """What a set makes of a record: its columns' values as JSON, numbers exact, and why it would not load."""

    values: Dict[str, Any]
    reasons: list[Reason]


@dataclass(frozen=True)
class Field:
    """A target before and after; `error`: why the record would not load, as far as this target is to blame."""

    roi_systems_field: str
    softpro_field: str
    before: Any
    after: Any
    error: str | None

    @property
    def changed(self) -> bool:
        return not same(self.before, self.after)

    def as_json(self) -> dict[str, Any]:
        return {
            "roiSystemsField": self.roi_systems_field,
            "softproField": self.softpro_field,
            "before": self.before,
            "after": self.after,
            "changed": self.changed,
            "error": self.error,
        }


@dataclass(frozen=True)
class Effect:
    """What becomes of a record; it has no id where a pasted one has none. `failed_before`: by the set in force."""

    entity_id: str | None
    fields: list[Field]
    reasons: list[Reason]
    failed_before: bool

    @property
    def would_load(self) -> bool:
        return not self.reasons

    @property
    def changed(self) -> list[str]:
        """The targets that hold something else than before."""
        return [field.roi_systems_field for field in self.fields if field.changed]

    def as_json(self) -> dict[str, Any]:
        return {
            "entityId": self.entity_id,
            "fields": [field.as_json() for field in self.fields],
            "reasons": self.reasons,
            "wouldLoad": self.would_load,
        }


def outcome(compiled: Compiled, mapped: Mapped, more_reasons: Iterable[Reason] = ()) -> Outcome:
    """A mapped record as JSON, with what the checks have against it."""
    columns = zip(compiled.columns.items(), mapped.values, strict=True)
    return Outcome(
        {column: _in_json(kind, value) for (column, kind), value in columns}, [*mapped.reasons, *more_reasons]
    )


def effect(
    entity_id: str | None, current: Sequence[Mapping], proposed: Sequence[Mapping], before: Outcome, after: Outcome
) -> Effect:
    """Every target that either set fills: those of the proposed one in its order, then those it no longer fills."""
    sources = _sources(proposed)
    sources.update((target, field) for target, field in _sources(current).items() if target not in sources)
    fields = [
        Field(target, source, _at(before.values, target), _at(after.values, target), _error(after.reasons, target))
        for target, source in sources.items()
    ]
    return Effect(entity_id, fields, after.reasons, failed_before=bool(before.reasons))


def summary(effects: Sequence[Effect]) -> dict[str, Any]:
    """How many records there are, change, would fail, and fail by the set in force; how often each target changes."""
    return {
        "records": len(effects),
        "changedRecords": sum(bool(effect.changed) for effect in effects),
        "changedFields": dict(Counter(target for effect in effects for target in effect.changed)),
        "failing": sum(not effect.would_load for effect in effects),
        "failingBefore": sum(effect.failed_before for effect in effects),
    }


def _sources(mappings: Sequence[Mapping]) -> dict[str, str]:
    return {mapping.roi_systems_field: mapping.softpro_field for mapping in mappings if mapping.inbound}


def _at(values: Dict[str, Any], target: str) -> Any:
    if not target.startswith(CUSTOM_PREFIX):
        return values.get(target)
    custom = values.get("custom")
    return custom.get(target.removeprefix(CUSTOM_PREFIX)) if isinstance(custom, dict) else None


def _error(reasons: Sequence[Reason], target: str) -> str | None:
    return "; ".join(str(reason["message"]) for reason in reasons if reason["column"] == target) or None


def _in_json(kind: Type, value: Any) -> Any:
    if value is not None and kind is Type.JSON:
        return _decode(value)
    return format_time(value) if isinstance(value, datetime) else value
